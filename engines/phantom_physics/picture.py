"""A given picture or frame -> the clip's size and its pixels, as Wan 2.2 prepares them.

Source: Wan2.2 wan/utils/utils.py (best_output_size) and wan/textimage2video.py (WanTI2V.i2v).
"""

from __future__ import annotations

from PIL import Image

MULTIPLE = 32  # VAE stride 16 times patch 2


def best_output_size(width: int, height: int, area: int, *, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Width and height of the clip for a picture of this shape: at most `area` pixels, sides in `multiple`s.

    Of two candidates, rounding the width or the height first, the one closer to the picture's shape is taken. The
    floating-point arithmetic is the reference's: an exact 128 can become 127.99 and lose a multiple.
    """
    ratio = width / height
    ideal_width = (area * ratio) ** 0.5
    ideal_height = area / ideal_width
    # A strip thinner than one multiple has no candidate in the reference; here it gets one multiple.
    width_first = max(int(ideal_width // multiple * multiple), multiple)
    height_left = max(int(area / width_first // multiple * multiple), multiple)
    height_first = max(int(ideal_height // multiple * multiple), multiple)
    width_left = max(int(area / height_first // multiple * multiple), multiple)

    def distance(w: int, h: int) -> float:
        return max(ratio / (w / h), (w / h) / ratio)

    if distance(width_first, height_left) < distance(width_left, height_first):
        return width_first, height_left
    return width_left, height_first


def cover(image: Image.Image, *, width: int, height: int) -> Image.Image:
    """The RGB picture resized to cover width x height (Lanczos, sides rounded) and cut from its middle."""
    scale = max(width / image.width, height / image.height)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return resized.crop((left, top, left + width, top + height))
