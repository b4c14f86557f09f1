"""Phantom-physics: pictures and their physics denoised together, on Wan 2.2."""
