"""Sizes of Pyramid Flow's models, some of them what an autoencoder's configuration says. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from engines.memory.activations import PYRAMID_GROWS

TIME = 8  # frames of one latent
PATCH = 2  # latents of one token to each side
TEXT_LEN, CLIP_LEN = 128, 77  # tokens of T5, the end token included, and of CLIP
TILE = 256  # pixels; published for decoding with save_memory and for encoding a picture
STAGES = 3
# Below this many tokens a pass leaves the device half idle, and both guidance passes are faster as one batch.
BATCHED_TOKENS = 4_096


def most_tokens(frame: int, *, units: int, passes: int, text: int) -> int:
    """Tokens of all rows of the largest call that makes a clip of so many units.

    Args:
        frame: of a latent frame of full size; a quarter of them a stage coarser.
        passes: of guidance, in one batch where the tokens are few.
        text: of each row.
    """

    def call(stage: int, finished: int) -> int:
        sides = [stage, *(max(0, stage - age) for age in range(finished))]  # see engines/pyramid_flow/history.py
        tokens = sum(frame // 4 ** (STAGES - 1 - side) for side in sides)
        return (passes if tokens <= BATCHED_TOKENS else 1) * (tokens + text)

    return max(call(stage, finished) for stage in range(STAGES) for finished in range(units))


def space(vae: Mapping[str, Any]) -> int:
    """Pixels of one latent's side: 8 for the published autoencoder."""
    return int(2 ** sum(vae.get("decoder_spatial_up_sample", PYRAMID_GROWS)))
