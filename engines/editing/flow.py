"""Frames between frames, drawn along the motion that optical flow finds (DIS, Kroeger et al. 2016). No weights.

A frame between two is both of them, each moved to that moment: the flows there come from the two flows between the
frames (Jiang et al. 2018, "Super SloMo", eq. 4), and where something is hidden in one frame the other one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from engines.editing.request import Smooth
from engines.editing.source import SOUND_RATE, Made, Source

_SMALLEST_SIDE = 128  # flow is looked for at this size at least: its patches are 8 pixels wide
_CUT = 32.0  # mean difference, of 255, that is left between frames of two scenes
_EXPLAINED = 0.7  # of the difference between two frames: where more of it is left, the flow is none


def smooth(asked: Smooth, source: Source, session: Any = None) -> Made:
    """`factor` frames for each: at a higher rate, or longer."""
    count = (source.count - 1) * asked.factor + 1
    sound = source.sound()
    if asked.slow and sound is not None:
        length = round(count / float(source.fps) * SOUND_RATE)
        places = np.linspace(0, len(sound) - 1, length)
        sound = np.stack([np.interp(places, np.arange(len(sound)), one) for one in sound.T], axis=1).astype(np.float32)
    fps = source.fps if asked.slow else source.fps * asked.factor
    return Made(with_frames_between(source.frames(), asked.factor), count, fps, sound)


def with_frames_between(frames: Iterator[np.ndarray], factor: int) -> Iterator[np.ndarray]:
    """Each frame, uint8 [H,W,3], and `factor` - 1 frames between it and the next one."""
    flow = _finder()
    before: np.ndarray | None = None
    for frame in frames:
        if before is not None:
            yield from between(before, frame, factor, flow)
        yield frame
        before = frame


def between(first: np.ndarray, second: np.ndarray, factor: int, finder: Any = None) -> list[np.ndarray]:
    """The `factor` - 1 frames between two, uint8 [H,W,3].

    Where a scene ends between them, copies of the nearer one; where no motion explains them, both blended.
    """
    finder = finder or _finder()
    forth, back = _flow(first, second, finder), _flow(second, first, finder)
    shares = [step / factor for step in range(1, factor)]
    left = [_difference(_moved(second, forth), first), _difference(_moved(first, back), second)]
    if max(left) > _CUT:
        return [first if share < 0.5 else second for share in shares]
    if max(left) > _EXPLAINED * _difference(first, second):
        return [np.rint(first * (1 - share) + second * share).astype(np.uint8) for share in shares]
    return [_at(share, first, second, forth, back) for share in shares]


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float32) - other).mean())


def _at(share: float, first: np.ndarray, second: np.ndarray, forth: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The frame at `share` of the way; flows in pixels, float32 [H,W,2]."""
    to_first = -(1 - share) * share * forth + share**2 * back
    to_second = (1 - share) ** 2 * forth - share * (1 - share) * back
    one, other = _moved(first, to_first).astype(np.float32), _moved(second, to_second).astype(np.float32)
    # What moved out of sight has flows that do not lead back: there the other frame counts.
    lost = [
        np.exp(-0.5 * np.linalg.norm(there + _moved(again, there), axis=2, keepdims=True))
        for there, again in ((forth, back), (back, forth))
    ]
    weights = (1 - share) * (lost[0] + 1e-3), share * (lost[1] + 1e-3)
    return np.rint((one * weights[0] + other * weights[1]) / (weights[0] + weights[1])).astype(np.uint8)


def _finder() -> Any:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _flow(first: np.ndarray, second: np.ndarray, finder: Any) -> np.ndarray:
    """Where each pixel of `first` is in `second`, relative to its place, float32 [H,W,2] in pixels."""
    height, width = first.shape[:2]
    scale = max(1.0, _SMALLEST_SIDE / min(height, width))
    size = (round(width * scale), round(height * scale))
    greys = [cv2.resize(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_LINEAR)
             for one in (first, second)]  # fmt: skip
    found = finder.calc(greys[0], greys[1], None)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) / np.float32(scale)


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`picture` read at each pixel's place moved by `flow`."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
