"""Clips made by the machines of a Ray cluster. Only processes begun in this folder know Ray, the studio's own never."""
