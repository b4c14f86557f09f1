"""How BindWeave has Qwen2.5-VL read a text with the reference pictures: one pass, every position, nothing dropped.

Source: BindWeave s2v/tools/feature_extract/get_eval_feature.py and s2v/tasks/inference/pipeline/qwen2vl_pipeline.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from engines.qwen.pictures import MAX_PIXELS, Patches, patches

# Pictures of more pixels than the published clip's frame are reduced to the first share of their sides, others to the
# second.
LARGE_PIXELS, LARGE_SHARE, SHARE = 720 * 1280, 0.3, 0.75


def reduced_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) after BindWeave's own reduction of a picture, before the model's."""
    share = LARGE_SHARE if width * height > LARGE_PIXELS else SHARE
    return max(1, int(width * share)), max(1, int(height * share))


def reference_patches(images: Sequence[Image.Image], *, max_pixels: int = MAX_PIXELS) -> Patches:
    """RGB pictures as they are, neither padded nor cropped, resized twice as published (Pillow's bicubic).

    Args:
        max_pixels: in which larger pictures are seen.
    """
    return patches([image.resize(reduced_size(*image.size)) for image in images], max_pixels=max_pixels)
