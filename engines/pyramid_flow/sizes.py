"""Sizes of Pyramid Flow's models, some of them what an autoencoder's configuration says. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from engines.memory.activations import PYRAMID_GROWS

TIME = 8  # frames of one latent
PATCH = 2  # latents of one token to each side
TEXT_LEN, CLIP_LEN = 128, 77  # tokens of T5, the end token included, and of CLIP
TILE = 256  # pixels; published for decoding with save_memory and for encoding a picture
# The longest call's tokens as a multiple of one frame's: the unit, the one before, a half, the rest at a quarter.
LONGEST_CALL = 5


def space(vae: Mapping[str, Any]) -> int:
    """Pixels of one latent's side: 8 for the published autoencoder."""
    return int(2 ** sum(vae.get("decoder_spatial_up_sample", PYRAMID_GROWS)))
