"""Strokes of a brush that mend what was cut out of a picture, as a text that goes wherever the picture goes.

A stroke is a sign, "+" for the subject or "-" for the background, a radius, and the points it runs through:
"+3 40.5,10 42,12; -8 90,90". A radius is in percent of the picture's longer side, a point in percent of its width and
height, so the text fits the picture at any size. Later strokes lie over earlier ones. Imports no torch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image, ImageDraw

from engines.wording import given

MAX_CHARACTERS = 20_000
_NUMBER = r"\d{1,3}(?:\.\d{1,2})?"
_STROKE = re.compile(rf"([+-])({_NUMBER})((?: {_NUMBER},{_NUMBER})+)")
_DETAIL = 1024  # pixels of the longer side that strokes are drawn at: their edge is softer than that anyway


class Stroke(NamedTuple):
    """One movement of the brush; all numbers in percent, points (x, y) from the left and the top."""

    adds: bool
    radius: float
    points: tuple[tuple[float, float], ...]


def parse(text: str) -> list[Stroke]:
    """The strokes of a text.

    Raises:
        ValueError: with the sentence that says what is wrong.
    """
    strokes = []
    for part in filter(None, (one.strip() for one in text.split(";"))):
        found = _STROKE.fullmatch(part)
        numbers = [float(one) for one in re.findall(_NUMBER, part)] if found else [101.0]
        if found is None or max(numbers) > 100 or not float(found[2]):
            raise ValueError(
                f'Write a stroke of the brush as "+3 40,10 42,12": + or -, its radius and its points in percent of the '
                f"picture; you gave {given(part)}."
            )
        points = [tuple(map(float, point.split(","))) for point in found[3].split()]
        strokes.append(Stroke(found[1] == "+", float(found[2]), tuple((x, y) for x, y in points)))
    return strokes


def mended(mask: Image.Image | None, strokes: list[Stroke], size: tuple[int, int]) -> Image.Image | None:
    """The mask L, 255 on the subject, with the strokes drawn over it; None where nothing of a subject is left.

    Args:
        mask: of this size; None where no subject was found, so that what is not painted over counts as background if
            any stroke adds, and as the subject if all of them take away.
        size: width and height of the picture.
    """
    if not strokes:
        return mask
    if mask is None:
        mask = Image.new("L", size, 0 if any(stroke.adds for stroke in strokes) else 255)
    scale = min(1.0, _DETAIL / max(size))
    drawn = mask.resize([max(1, round(side * scale)) for side in size], Image.Resampling.BOX)
    pen = ImageDraw.Draw(drawn)
    for stroke in strokes:
        colour, radius = (255 if stroke.adds else 0), max(0.5, stroke.radius / 100 * max(drawn.size))
        points = [(x / 100 * drawn.width, y / 100 * drawn.height) for x, y in stroke.points]
        pen.line(points, fill=colour, width=round(2 * radius) + 1, joint="curve")
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return drawn.resize(size, Image.Resampling.BICUBIC) if drawn.getextrema()[1] else None
