"""Pictures -> the patches and features of Qwen2.5-VL's vision tower.

Source: qwen-vl-utils (fetch_image) and transformers' Qwen2-VL image processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from engines.errors import MediaError
from engines.sampling.finite import finite

MIN_PIXELS, MAX_PIXELS = 56 * 56, 16_384 * 28 * 28
PATCH, MERGE, TEMPORAL = 14, 2, 2


class Patches(NamedTuple):
    """Pictures as the vision tower takes them: `values` [N,1176] of all their patches, `grids` [R,3] of (1, h, w)."""

    values: torch.Tensor
    grids: torch.Tensor

    @property
    def tokens(self) -> list[int]:
        """How many tokens of a chat each picture becomes."""
        return (self.grids.prod(dim=1) // MERGE**2).tolist()


def seen_size(width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) that a picture of this size is seen in: both sides multiples of 28, the ratio nearly kept.

    Raises:
        MediaError: one side is over 200 times the other.
    """
    limits = {"factor": PATCH * MERGE, "min_pixels": MIN_PIXELS, "max_pixels": max_pixels}
    try:
        height, width = smart_resize(height, width, **limits)
    except (ValueError, ZeroDivisionError) as error:
        words = f"A picture of {width}x{height} pixels is too thin to be read: crop it to its subject."
        raise MediaError(words) from error
    return width, height


def patches(images: Sequence[Image.Image], *, max_pixels: int = MAX_PIXELS) -> Patches:
    """RGB pictures, resized by Pillow's bicubic to the size they are seen in and cut into patches."""
    resized = [image.resize(seen_size(*image.size, max_pixels=max_pixels)) for image in images]
    processor = Qwen2VLImageProcessorPil(
        do_resize=False, patch_size=PATCH, merge_size=MERGE, temporal_patch_size=TEMPORAL
    )
    prepared = processor(images=resized, return_tensors="pt")
    return Patches(prepared["pixel_values"], prepared["image_grid_thw"])


@torch.no_grad()
def look(network: Qwen2_5_VLForConditionalGeneration, pictures: Patches) -> torch.Tensor:
    """The vision tower's features [tokens,D] of all pictures, one after another; no text has a part in them."""
    values, grids = pictures.values.to(network.device, network.dtype), pictures.grids.to(network.device)
    features = torch.cat(network.model.get_image_features(values, grids, return_dict=True).pooler_output)
    return finite(features, role="mllm", when="from a picture")
