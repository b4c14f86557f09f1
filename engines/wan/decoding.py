"""In which manners an autoencoder of Wan can decode, the quickest first, and what each takes. Imports no torch.

Whole: one latent frame at a time. Frame by frame: the last levels, which are most of it, one frame after another; the
numbers are the same up to rounding. In strips: the last levels also strip by strip, see tiles.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engines.memory import activations
from engines.wan import tiles
from engines.wan.strides import spatial_stride

FRAME_BY_FRAME = "frame by frame"


def manners(config: Mapping[str, Any], *, wide: int, high: int, device: str) -> dict[str, Callable[[int], int]]:
    """Manner -> bytes of activations for numbers of so many bytes, for frames of `wide` x `high` pixels."""
    stride = spatial_stride(config)
    margin, longer, shorter = tiles.margin(config), max(wide, high) // stride, min(wide, high)
    found = {
        "": partial(_bytes, config, wide, high, device, False),
        FRAME_BY_FRAME: partial(_bytes, config, wide, high, device, True),
    }
    largest = longer
    for count in tiles.COUNTS:
        size = max(strip.size for strip in tiles.strips(longer, count, margin=margin))
        if size < largest:
            found[in_strips(count)] = partial(_bytes, config, size * stride, shorter, device, True)
            largest = size
    return found


def in_strips(count: int) -> str:
    """The manner of so many strips."""
    return f"in {count} strips"


def strips_of(manner: str) -> int:
    """How many strips a manner has; 1 for those without."""
    words = manner.split()
    return int(words[1]) if len(words) == 3 and words[2] == "strips" else 1


def _bytes(config: Mapping[str, Any], wide: int, high: int, device: str, apart: bool, itemsize: int) -> int:
    told = {"wide": wide, "high": high, "itemsize": itemsize, "device": device}
    return activations.wan_decoder(config, apart=apart, **told)
