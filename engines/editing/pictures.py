"""A clip as one moving picture: GIF, WebP or AVIF, marked as made by AI where its clip is. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.editing.request import Export
from engines.editing.source import Made, Source
from engines.errors import MediaError
from engines.media.marking import XMP, mark_gif
from engines.media.output import media_error

MOST_PIXELS = 400_000_000  # Pillow holds all frames at once
_COLOURS = 256
_SAMPLED = 16


def export(asked: Export, source: Source, session: Any = None) -> Made:
    """The frames that are seen at the picture's own rate, in its size."""
    fps = min(Fraction(asked.rate), source.fps)
    count = max(1, round(source.seconds * fps))
    scale = min(1.0, asked.side / max(source.size))
    width, height = (max(1, round(side * scale)) for side in source.size)
    if width * height * count > MOST_PIXELS:
        raise MediaError(
            f"A picture of {count} frames of {width} × {height} pixels is too large: "
            "choose a smaller side or frame rate, or trim the clip first."
        )

    def frames() -> Iterator[np.ndarray]:
        wanted = [min(source.count - 1, int(index * source.fps / fps)) for index in range(count)]
        place = 0
        for number, frame in enumerate(source.frames()):
            while place < count and wanted[place] == number:
                place += 1
                image = Image.fromarray(frame)
                resized = image.resize((width, height), Image.Resampling.LANCZOS) if scale < 1 else image
                yield np.asarray(resized)

    def save(path: Path, made: Iterator[np.ndarray], fps: Fraction, comment: str, marked: bool) -> None:
        write(path, made, fps=fps, form=asked.format, quality=asked.quality, comment=comment, marked=marked)

    return Made(frames(), count, fps, save=save)


def write(
    path: Path, frames: Iterator[np.ndarray], *, fps: Fraction, form: str, quality: int, comment: str, marked: bool
) -> None:
    """Frames, uint8 [H,W,3], as one looping picture with a comment; raises MediaError."""
    images = [Image.fromarray(frame) for frame in frames]
    duration = float(1000 / fps)
    xmp = {"xmp": XMP.encode()} if marked else {}
    options: dict[str, Any]
    match form:
        case "gif":
            palette = _palette(images)
            images = [image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image in images]
            # Its clock ticks in hundredths of a second; what rounding loses is made up for by the next frame.
            ends = [round(index * duration / 10) for index in range(len(images) + 1)]
            ticks = [10 * (after - before) for before, after in pairwise(ends)]
            options = {"duration": ticks, "loop": 0, "comment": comment.encode()[:60_000], "disposal": 1}
        case "webp":
            options = {"duration": round(duration), "loop": 0, "quality": quality, "method": 4, **xmp}
        case _:
            options = {"duration": round(duration), "quality": quality, "speed": 8, **xmp}
    try:
        images[0].save(path, format=form.upper(), save_all=True, append_images=images[1:], **options)
        if marked and form == "gif":
            mark_gif(path)
    except OSError as error:
        raise media_error(error) from error


def _palette(images: list[Image.Image]) -> Image.Image:
    """One palette for all frames, so that colours do not flicker: from some of them, side by side."""
    some = images[:: max(1, len(images) // _SAMPLED)]
    small = [image.resize((max(1, image.width // 2), max(1, image.height // 2))) for image in some]
    sheet = Image.new("RGB", (small[0].width, small[0].height * len(small)))
    for index, image in enumerate(small):
        sheet.paste(image, (0, index * small[0].height))
    return sheet.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
