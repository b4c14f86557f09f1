"""Reference pictures as BindWeave was trained on them: a subject in a white box, turned, scaled, centred on black.

Where its mask channel is the subject's silhouette. Source: BindWeave's train branch, its subject dataset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from engines.media.framing import WHITE, Masked

# What the published filter asks of a subject.
LEAST_AREA, LEAST_AESTHETIC, LEAST_MATCH = 0.1, 4.5, 0.6


class Subject(NamedTuple):
    """A subject of a frame as a list of videos tells it: the share of the frame that its box fills, and two scores."""

    area: float
    aesthetic: float | None = None
    match: float | None = None  # of picture and name

    @property
    def good(self) -> bool:
        """Whether one of its scores is high enough; a subject that nobody scored is."""
        known = ((self.aesthetic, LEAST_AESTHETIC), (self.match, LEAST_MATCH))
        scores = [score >= least for score, least in known if score is not None]
        return any(scores) or not scores


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


def kept(subjects: Sequence[Subject], *, most: int, rng: np.random.Generator) -> list[int]:
    """Which subjects of a frame become references, `most` of them, drawn at random where there are more.

    Those whose box fills a tenth of the frame and that are beautiful or match their name; the largest if none is.
    """
    fit = [number for number, one in enumerate(subjects) if one.area >= LEAST_AREA and one.good]
    fit = fit or [max(range(len(subjects)), key=lambda number: subjects[number].area)]
    return sorted(map(int, rng.choice(fit, most, replace=False))) if len(fit) > most else fit
