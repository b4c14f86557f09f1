"""The picture a video starts from: scaled to cover the frame, cut to its middle.

Source: Pyramid-Flow app.py (resize_crop_image).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def fill(picture: Image.Image, *, width: int, height: int) -> Image.Image:
    """RGB picture -> width x height: Lanczos to cover, then the middle; nothing is stretched."""
    scale = max(width / picture.width, height / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    left, top = ((side - wanted) / 2 for side, wanted in zip(size, (width, height), strict=True))
    resized = picture.resize(size, Image.Resampling.LANCZOS)
    return resized.crop((round(left), round(top), round(left + width), round(top + height)))


def to_pixels(picture: np.ndarray) -> torch.Tensor:
    """Picture uint8 [H,W,3] -> one-frame video [1,3,1,H,W] in [-1,1]."""
    return (torch.from_numpy(picture.astype(np.float32)) / 127.5 - 1).permute(2, 0, 1)[None, :, None]
