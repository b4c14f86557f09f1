"""Jobs: where they are stored, and who makes them."""
