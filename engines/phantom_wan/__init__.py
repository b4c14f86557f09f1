"""Phantom: subjects from one to four reference pictures act out a prompt, on Wan2.1."""
