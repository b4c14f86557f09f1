"""The picture a video starts from: scaled to cover the frame, cut where the frame lies.

Source: Pyramid-Flow app.py (resize_crop_image).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def fill(picture: Image.Image, *, width: int, height: int, position: float = 0.5) -> Image.Image:
    """RGB picture -> width x height: Lanczos to cover, then cut; nothing is stretched.

    `position` is where the frame lies along the side that is cut: 0 left or top, 1 right or bottom; published: 0.5.
    """
    scale = max(width / picture.width, height / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    left, top = (round((side - wanted) * position) for side, wanted in zip(size, (width, height), strict=True))
    return picture.resize(size, Image.Resampling.LANCZOS).crop((left, top, left + width, top + height))


def to_pixels(picture: np.ndarray) -> torch.Tensor:
    """Picture uint8 [H,W,3] -> one-frame video [1,3,1,H,W] in [-1,1]."""
    return (torch.from_numpy(picture.astype(np.float32)) / 127.5 - 1).permute(2, 0, 1)[None, :, None]
