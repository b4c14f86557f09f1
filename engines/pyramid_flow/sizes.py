"""Sizes that are the same for every model of Pyramid Flow. Imports nothing."""

SPACE = TIME = 8  # pixels and frames of one latent
PATCH = 2  # latents of one token to each side
TEXT_LEN, CLIP_LEN = 128, 77  # tokens of T5, the end token included, and of CLIP
TILE = 256  # pixels; published for decoding with save_memory and for encoding a picture
# The longest call's tokens as a multiple of one frame's: the unit, the one before, a half, the rest at a quarter.
LONGEST_CALL = 5
