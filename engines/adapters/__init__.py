"""Adapters: files that change a network for one clip: what they change, whether they fit, how they are put on."""
