"""A strip of small frames of a given clip, the ones that are used bright above a line. Imports no torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from engines.media.clips import look_at
from engines.media.excerpt import choose, frames_of

HEIGHT, LINE = 56, 4  # pixels
MOST = 8  # frames of the strip
DARK = 0.68
MOST_DECODED = 600_000_000  # pixels of all frames together: about two seconds' work


def strip(path: Path, **rules: Any) -> tuple[Image.Image | None, str]:
    """Frames from all over the clip side by side, and the sentence that says which are used: `rules` are `choose`'s.

    Parts that are used stay bright; the line below them is as long as their share of the clip. There is no picture of
    a clip so long that decoding it would take too long.

    Raises:
        MediaError: as `choose`.
    """
    choice, facts = choose(path, **rules), look_at(path)
    if facts.width * facts.height * len(choice.times) > MOST_DECODED:
        return None, choice.told
    total, (begin, end) = len(choice.shown), (choice.start, choice.start + choice.count)
    edges = _edges(total)
    small = _small(path, rules["fps"])
    width, height = small[0].size
    drawn = Image.new("RGB", (width * len(small), height + 2 * LINE))
    for index, frame in enumerate(small):
        used = edges[index] < end and edges[index + 1] > begin
        shown = frame if used else Image.blend(frame, Image.new("RGB", frame.size), DARK)
        drawn.paste(shown, (index * width, 0))
    left, right = (round(edge * drawn.width / total) for edge in (begin, end))
    ImageDraw.Draw(drawn).rectangle((left, height + LINE, max(left, right - 1), drawn.height), fill="white")
    return drawn, choice.told


@lru_cache(maxsize=8)
def _small(path: Path, fps: int) -> tuple[Image.Image, ...]:
    """The middle frame of every part, as high as the strip; remembered, for what is used is chosen by eye."""
    seen = choose(path, most=1, fewest=1, stride=1, fps=fps)
    edges = _edges(len(seen.shown))
    middles = seen.shown[((edges[:-1] + edges[1:]) / 2).astype(int)]

    def fit(frame: Image.Image) -> Image.Image:
        return frame.resize((max(1, round(frame.width * HEIGHT / frame.height)), HEIGHT), Image.Resampling.BILINEAR)

    return tuple(Image.fromarray(frame) for frame in frames_of(path, seen.times, middles, fit=fit))


def _edges(total: int) -> np.ndarray:
    """Where the parts begin and end among so many frames."""
    return np.linspace(0, total, min(MOST, total) + 1)
