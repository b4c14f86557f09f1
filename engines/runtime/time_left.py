"""How long a job still takes, from its own steps and from what decoding took before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_SMOOTHING = 0.3


@dataclass
class Pace:
    """What earlier jobs of this process taught.

    Attributes:
        decode_s_per_pixel: seconds of decoding per pixel and frame, by engine and model.
        step_s: seconds of a step, by engine, model and pixels: see TimeLeft.
    """

    decode_s_per_pixel: dict[str, float] = field(default_factory=dict)
    step_s: dict[tuple[str, int], float] = field(default_factory=dict)


class TimeLeft:
    """Expected seconds to the end of one job.

    Args:
        key: what a decoding pace belongs to (engine, model).
        pixels: width x height x frames of the clip.
        frames: length of the clip.
        clock: seconds, monotonic; a test gives its own.
    """

    def __init__(
        self, pace: Pace, *, key: str, pixels: int, frames: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pace, self._key, self._pixels, self._frames, self._clock = pace, key, pixels, frames, clock
        self._mark = clock()
        self._step_s: float | None = None
        self._steps = 0
        self._decode_began: float | None = None

    def stage(self) -> None:
        """A new stage began: its first step is measured from here."""
        self._mark, self._step_s, self._steps = self._clock(), None, 0

    def step(self, index: int, total: int) -> float:
        """Seconds left after step `index` of `total`; the first step, which also warms up, counts only for itself."""
        now = self._clock()
        taken, self._mark, self._steps = now - self._mark, now, self._steps + 1
        if self._step_s is None or self._steps == 2:
            self._step_s = taken
        else:
            self._step_s += _SMOOTHING * (taken - self._step_s)
        if self._steps > 1:
            self._pace.step_s[self._key, self._pixels] = self._step_s
        decode_s = self._pace.decode_s_per_pixel.get(self._key, 0.0) * self._pixels
        return (total - index) * self._step_s + decode_s

    def frames(self, written: int) -> float | None:
        """Seconds left once `written` frames of the clip are decoded and written; None before anything is known."""
        now = self._clock()
        if self._decode_began is None:
            self._decode_began = self._mark
        per_frame = (now - self._decode_began) / written
        if written >= self._frames:
            self._pace.decode_s_per_pixel[self._key] = (now - self._decode_began) / self._pixels
        return (self._frames - written) * per_frame
