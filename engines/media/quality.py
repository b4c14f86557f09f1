"""Quality measures of any clip, from pixels alone: no network, no downloaded weights, no torch.

Each has a name of its own and is not a VBench score. Flow is OpenCV's DIS (Kroeger et al., arXiv 1603.03590), where
VBench-I2V uses RAFT; the rule for "moves" follows VBench's dynamic degree (vbench/dynamic_degree.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from skimage.metrics import structural_similarity

# Flow and flicker are taken at this short side, so that clips of different sizes compare.
WORKING_SIDE = 256
# Flow is read between frames about an eighth of a second apart; a pair moves when its fastest 5 % go 6 of 256 pixels.
PAIRS_PER_SECOND = 8
MOVING_SHARE = 6 / 256
FASTEST = 0.05
# Mean squared error 0 has no finite PSNR; nothing that was encoded comes near this.
MOST_PSNR = 100.0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured of a clip.

    Attributes:
        first_frame_psnr: frame 0 against the picture it should start from, dB, at most 100; None without a picture.
        first_frame_ssim: likewise, -1 to 1, 1 for the same picture.
        motion: how far the fastest twentieth of the picture moves in an eighth of a second, percent of the short
            side, mean over the clip; None for a single frame.
        moves: whether enough of the clip moves (4 in 16 pairs) to be called moving; None for a single frame.
        flicker: mean change of brightness of a point followed along the flow from frame to frame, grey levels
            (0..255); None for a single frame.
        drift: for every chunk, how far its colours are from those of frame 0: the Euclidean distance of the means and
            standard deviations of the CIELAB channels.
        chunk_seconds: length of a chunk.
    """

    first_frame_psnr: float | None
    first_frame_ssim: float | None
    motion: float | None
    moves: bool | None
    flicker: float | None
    drift: tuple[float, ...]
    chunk_seconds: float


def measure(
    frames: Iterable[np.ndarray], *, fps: float, picture: np.ndarray | None = None, chunk_seconds: float = 0.5
) -> Quality:
    """Measure a clip; frames may be an array or come one by one, only two of them are kept.

    Args:
        frames: uint8 [T,H,W,3], RGB.
        fps: frames per second.
        picture: uint8 [H,W,3], what frame 0 should show, already cut to the frame.
        chunk_seconds: length of the pieces whose colours are compared.

    Raises:
        ValueError: without frames, or with a picture of another size.
    """
    following = iter(frames)
    first = next(following, None)
    if first is None:
        raise ValueError("a clip without frames cannot be measured")
    psnr, ssim = (None, None) if picture is None else _likeness(first, picture)
    flow, drift = _Flow(round(fps / PAIRS_PER_SECOND)), _Drift(first, max(1, round(fps * chunk_seconds)))
    for frame in _chain(first, following):
        flow.add(frame)
        drift.add(frame)
    return Quality(
        first_frame_psnr=psnr,
        first_frame_ssim=ssim,
        motion=flow.motion,
        moves=flow.moves,
        flicker=flow.flicker,
        drift=drift.figures,
        chunk_seconds=chunk_seconds,
    )


def _chain(first: np.ndarray, following: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from following


def _likeness(frame: np.ndarray, picture: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM of two uint8 [H,W,3]."""
    if frame.shape != picture.shape:
        raise ValueError(f"the picture is {picture.shape[1]}x{picture.shape[0]}, the clip another size")
    error = float(np.mean((frame.astype(np.float32) - picture) ** 2))
    psnr = MOST_PSNR if error == 0 else min(MOST_PSNR, 10 * float(np.log10(255**2 / error)))
    return psnr, float(structural_similarity(frame, picture, channel_axis=-1, data_range=255))


class _Flow:
    """Motion and flicker of grey frames as they come. `interval` is the distance in frames of the pairs for motion."""

    def __init__(self, interval: int) -> None:
        self._interval = max(1, interval)
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._count = 0
        self._previous: np.ndarray | None = None
        self._earlier: np.ndarray | None = None
        self._lengths: list[float] = []
        self._changes: list[float] = []

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 [H,W,3]."""
        grey = _at_working_size(frame)
        if self._previous is not None:
            back = self._dis.calc(grey, self._previous, None)
            self._changes.append(_change(grey, self._previous, back, self._dis.calc(self._previous, grey, None)))
        if self._count % self._interval == 0:
            if self._earlier is not None:
                self._lengths.append(_fastest(self._dis.calc(self._earlier, grey, None)))
            self._earlier = grey
        self._previous = grey
        self._count += 1

    @property
    def motion(self) -> float | None:
        """Percent of the short side."""
        return 100 * float(np.mean(self._lengths)) / WORKING_SIDE if self._lengths else None

    @property
    def moves(self) -> bool | None:
        """VBench's rule: at least round(4 n / 16) of n pairs, and never none."""
        if not self._lengths:
            return None
        moving = sum(length > MOVING_SHARE * WORKING_SIDE for length in self._lengths)
        return moving >= max(1, round(4 * len(self._lengths) / 16))

    @property
    def flicker(self) -> float | None:
        """Grey levels."""
        return float(np.mean(self._changes)) if self._changes else None


def _at_working_size(frame: np.ndarray) -> np.ndarray:
    """Grey uint8 with a short side of WORKING_SIDE."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    scale = WORKING_SIDE / min(grey.shape)
    size = (max(WORKING_SIDE, round(grey.shape[1] * scale)), max(WORKING_SIDE, round(grey.shape[0] * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _fastest(flow: np.ndarray) -> float:
    """Mean length in pixels of the longest 5 % of a flow [H,W,2]."""
    lengths = np.linalg.norm(flow, axis=-1).ravel()
    count = max(1, int(FASTEST * lengths.size))
    return float(np.partition(lengths, -count)[-count:].mean())


def _change(frame: np.ndarray, previous: np.ndarray, back: np.ndarray, forth: np.ndarray) -> float:
    """Mean difference of a grey frame and the one before it brought over by the flow `back`.

    Points that were hidden or outside are left out: there the two flows do not cancel (Sundaram et al., ECCV 2010).
    """
    height, width = frame.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    source_x, source_y = x + back[..., 0], y + back[..., 1]
    moved = cv2.remap(previous, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    returned = cv2.remap(forth, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = np.sum((back + returned) ** 2, -1)
    seen = gap < 0.01 * (np.sum(back**2, -1) + np.sum(returned**2, -1)) + 0.5
    seen &= (source_x >= 0) & (source_x <= width - 1) & (source_y >= 0) & (source_y <= height - 1)
    difference = np.abs(frame.astype(np.float32) - moved)
    return float(difference[seen].mean()) if seen.any() else float(difference.mean())


class _Drift:
    """Colours of each chunk of `length` frames against those of the first frame."""

    def __init__(self, first: np.ndarray, length: int) -> None:
        self._start, self._length = _colours(first), length
        self._seen: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Take the next frame, uint8 [H,W,3]."""
        self._seen.append(_colours(frame))

    @property
    def figures(self) -> tuple[float, ...]:
        """One distance a chunk; a last piece of less than half a chunk belongs to the chunk before it."""
        count = max(1, int(len(self._seen) / self._length + 0.5))
        edges = [index * self._length for index in range(count)] + [len(self._seen)]
        chunks = [self._seen[start:end] for start, end in pairwise(edges)]
        return tuple(float(np.linalg.norm(np.mean(chunk, 0) - self._start)) for chunk in chunks)


def _colours(frame: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of L, a and b, float [6]; on a small copy, for neither needs more."""
    scale = min(1.0, 128 / min(frame.shape[:2]))
    small = cv2.resize(np.ascontiguousarray(frame), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.concatenate([lab.mean((0, 1)), lab.std((0, 1))]).astype(np.float64)
