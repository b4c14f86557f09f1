"""Reference pictures as BindWeave was trained on them: a subject in a white box, turned, scaled, centred on black.

Where its mask channel is the subject's silhouette. Source: BindWeave's train branch, its subject dataset.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from engines.media.framing import WHITE, Masked


def white_box(picture: Image.Image, mask: Image.Image) -> Masked:
    """The subject under `mask` (L, 255 inside) on white, and its silhouette, both cut to its box.

    Raises:
        ValueError: nothing is under the mask.
    """
    box = mask.getbbox()
    if box is None:
        raise ValueError("The mask of a subject is empty.")
    seen = Image.new("RGB", picture.size, WHITE)
    seen.paste(picture, mask=mask)
    return Masked(seen.crop(box), mask.crop(box))


def turned_and_scaled(
    subject: Masked, rng: np.random.Generator, *, width: int, height: int, turn: float = 45.0, scale: float = 1.5
) -> Masked:
    """A white box turned and scaled at random, on black where it does not reach, never larger than width x height.

    Args:
        turn: the most degrees it is turned either way.
        scale: the scale's logarithm is uniform in [-scale, scale).
    """
    angle = rng.uniform(-turn, turn)
    image, mask = (part.rotate(angle, Image.Resampling.BICUBIC, expand=True) for part in subject)
    factor = min(math.exp(rng.uniform(-scale, scale)), width / image.width, height / image.height)
    size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
    return Masked(image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BILINEAR))


def kept(areas: list[float], *, least: float = 0.1, most: int = 4, rng: np.random.Generator) -> list[int]:
    """Which subjects of a frame become references, by the shares of it that their boxes fill.

    Those that fill `least`; the largest where none does; `most` of them, drawn at random. What the published rule asks
    of a picture's beauty needs another network and is left to whoever makes the list of videos.
    """
    large = [index for index, area in enumerate(areas) if area >= least] or [int(np.argmax(areas))]
    return sorted(map(int, rng.choice(large, most, replace=False))) if len(large) > most else large
