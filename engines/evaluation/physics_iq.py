"""The four Physics-IQ numbers of a generated clip against a real one, and the score of a whole folder.

Source: google-deepmind/physics-IQ-benchmark (binary_mask_generator, calculate_and_write_metrics_to_csv,
calculate_iq_score). One difference: there the masks go through a lossy video file before they are compared.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

RATE, THRESHOLD, KERNEL = 0.3, 10, np.ones((5, 5), np.uint8)
SECONDS = 5
# 0001_testing-videos_30FPS_perspective-left_take-1_trimmed-ball.mp4
_REAL = re.compile(r"(?P<id>\d{4})_testing-videos_\d+FPS_(?P<view>[^_]+)_take-(?P<take>[12])_(?P<scenario>.+)\.mp4")


@dataclass(frozen=True)
class Likeness:
    """How alike two clips are: three overlaps of where things move, in [0,1], and the mean squared pixel error."""

    spatial: float
    spatiotemporal: float
    weighted: float
    mse: float


def motion_masks(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 [T,H,W,3] -> where something moves against a running mean, bool [T,H,W]; nothing in the first."""
    blurred = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (5, 5), 0) for frame in frames]
    mean, masks = blurred[0].astype(np.float64), [np.zeros(blurred[0].shape, bool)]
    for grey in blurred[1:]:
        cv2.accumulateWeighted(grey, mean, RATE)
        difference = cv2.absdiff(grey, cv2.convertScaleAbs(mean))
        _, moving = cv2.threshold(difference, THRESHOLD, 255, cv2.THRESH_BINARY)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, KERNEL)
        masks.append(cv2.morphologyEx(moving, cv2.MORPH_CLOSE, KERNEL) > 0)
    return np.stack(masks)


def likeness(real: np.ndarray, made: np.ndarray, *, shrink: int = 4) -> Likeness:
    """The four numbers of two clips uint8 [T,H,W,3] of one length; both are compared at 1/`shrink` of the real size.

    Raises:
        ValueError: they differ in length.
    """
    if len(real) != len(made):
        raise ValueError(f"clips of {len(real)} and {len(made)} frames cannot be compared frame by frame")
    size = (max(1, real.shape[2] // shrink), max(1, real.shape[1] // shrink))
    one, other = (_shrunk_masks(motion_masks(frames), size) for frames in (real, made))
    pixels = [np.stack([cv2.resize(frame, size) for frame in frames]) / 255.0 for frames in (real, made)]
    return Likeness(
        spatial=_overlap(one.any(0), other.any(0)),
        spatiotemporal=float(np.mean([_overlap(a, b) for a, b in zip(one, other, strict=True)])),
        weighted=_overlap(one.mean(0), other.mean(0)),
        mse=float(np.mean((pixels[0] - pixels[1]) ** 2)),
    )


def _shrunk_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([cv2.resize(mask.astype(np.uint8) * 255, size) > 127 for mask in masks])


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Sum of minima over sum of maxima; 1 where both are empty. For masks, intersection over union."""
    union = np.maximum(one, other).sum()
    return float(np.minimum(one, other).sum() / union) if union else 1.0


def average(rows: list[Likeness]) -> Likeness:
    """The mean of each number."""
    return Likeness(*(float(np.mean([getattr(row, name) for row in rows])) for name in Likeness.__annotations__))


def score(made: Likeness, variance: Likeness) -> float:
    """Physics-IQ score, 0 to 100: `made` against take 1, measured with the difference of two real takes as the most."""
    shares = [
        getattr(made, name) / max(getattr(variance, name), 1e-9) for name in ("spatial", "spatiotemporal", "weighted")
    ]
    return round(100 * float(np.clip(np.mean(shares) - (made.mse - variance.mse), 0, 1)), 2)


@dataclass(frozen=True)
class FolderScore:
    """Two folders compared: the means, and the score where the real folder has second takes.

    `clips` counts the generated clips that had a real one.
    """

    made: Likeness
    variance: Likeness | None
    score: float | None
    clips: int


def score_folders(real: Path, generated: Path) -> FolderScore:
    """Scores the generated clips of one folder against the real ones of another.

    Real files have the published names (two takes; a generated file begins with the four digits of its first take), or
    both folders hold files of the same names, and then there is no score, which needs second takes.

    Raises:
        ValueError: a clip is missing, unreadable, too short, or of another frame rate; with the sentence to show.
    """
    takes = {path: found for path in sorted(real.glob("*.mp4")) if (found := _REAL.fullmatch(path.name))}
    if not takes:
        return _score_pairs(real, generated)
    seconds = {(found["view"], found["scenario"]): path for path, found in takes.items() if found["take"] == "2"}
    # Each scenario counts the same, whatever the number of its views.
    rows: dict[str, list[Likeness]] = defaultdict(list)
    variances: dict[str, list[Likeness]] = defaultdict(list)
    for path, found in takes.items():
        if found["take"] != "1":
            continue
        mine = sorted(generated.glob(f"{found['id']}_*.mp4"))
        if len(mine) != 1:
            raise ValueError(f"{generated.name} has {len(mine)} clips that begin with {found['id']}_: one is needed.")
        first, rate = _frames(path)
        count = round(SECONDS * rate)
        rows[found["scenario"]].append(likeness(first[:count], _exactly(mine[0], count, rate)))
        if other := seconds.get((found["view"], found["scenario"])):
            variances[found["scenario"]].append(likeness(first[:count], _exactly(other, count, rate)))
    made = average([average(views) for views in rows.values()])
    clips = sum(map(len, rows.values()))
    if variances.keys() != rows.keys():
        return FolderScore(made, None, None, clips)
    variance = average([average(views) for views in variances.values()])
    return FolderScore(made, variance, score(made, variance), clips)


def _score_pairs(real: Path, generated: Path) -> FolderScore:
    """Files of the same names, whole clips."""
    names = sorted({path.name for path in real.glob("*.mp4")} & {path.name for path in generated.glob("*.mp4")})
    if not names:
        raise ValueError(f"{real.name} and {generated.name} have no .mp4 files of the same names.")
    rows = []
    for name in names:
        frames, rate = _frames(real / name)
        rows.append(likeness(frames, _exactly(generated / name, len(frames), rate)))
    return FolderScore(average(rows), None, None, len(rows))


def _exactly(path: Path, count: int, rate: float) -> np.ndarray:
    """The first `count` frames of a clip of this frame rate."""
    frames, own = _frames(path)
    if abs(own - rate) > 0.01:
        raise ValueError(f"{path.name} has {own:g} frames a second, the real clip {rate:g}: bring both to one rate.")
    if len(frames) < count:
        raise ValueError(f"{path.name} has {len(frames)} frames, {count} are compared: make it longer.")
    return frames[:count]


def _frames(path: Path) -> tuple[np.ndarray, float]:
    """A clip's frames uint8 [T,H,W,3] and its frame rate, read as the published scorer does."""
    video = cv2.VideoCapture(str(path))
    rate, frames = video.get(cv2.CAP_PROP_FPS), []
    while True:
        there, frame = video.read()
        if not there:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    video.release()
    if not frames:
        raise ValueError(f"{path.name} cannot be read as a video.")
    return np.stack(frames), rate
