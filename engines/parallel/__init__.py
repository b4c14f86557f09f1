"""One clip made by several devices together, one process each."""
