"""Scores of single clips: what the caption and the references asked for, and what can be seen."""

import dataclasses

import numpy as np
from skimage.color import rgb2lab

from engines.training.world import Clip

from . import identity, subjects
from .cases import Case
from .motion import motion_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A real clip, and the one made from its caption or its first frame; both uint8 [T,H,W,3]."""

    real: Clip
    made: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What is visible of one clip with one subject on a flat background."""

    background: str
    floor: str | None
    colour: str | None
    shape: str | None
    motion: str | None


def look(video: np.ndarray) -> Seen:
    """Read a one-subject clip."""
    masks = subjects.split_subjects(subjects.subject_masks(video), 1)[0]
    return Seen(
        background=subjects.background_name(video),
        floor=subjects.floor_name(video),
        colour=subjects.colour_name(video, masks),
        shape=subjects.shape_name(masks),
        motion=motion_name(video, masks),
    )


def text_hits(seen: Seen, clip: Clip) -> dict[str, bool]:
    """Which words of a one-subject clip's caption the seen clip shows."""
    track = clip.tracks[0]
    return {
        "colour": seen.colour == track.subject.colour,
        "background": seen.background == clip.background,
        "shape": seen.shape == track.subject.shape,
        "motion": seen.motion == track.motion,
        "floor": seen.floor == clip.floor,
    }


def reference_hits(video: np.ndarray, case: Case) -> list[bool]:
    """For every asked subject: is it the nearest of its eight candidates for one of the clip's subjects?"""
    tracks = subjects.split_subjects(subjects.subject_masks(video), len(case.clip.tracks))
    hits = []
    for track, candidates in zip(case.clip.tracks, case.candidates, strict=True):
        spins = track.motion == "spins"
        found = [identity.nearest(video, masks, list(candidates), any_turn=spins) for masks in tracks]
        hits.append(0 in found)
    return hits


def motion_right(video: np.ndarray, clip: Clip) -> bool:
    """Whether a video shows the motion of a one-subject clip."""
    masks = subjects.split_subjects(subjects.subject_masks(video), 1)[0]
    return motion_name(video, masks) == clip.tracks[0].motion


def pasted(video: np.ndarray, reference: np.ndarray) -> bool:
    """Whether the subject stands where it stands in its padded reference picture (uint8 [H,W,3], white around it)."""
    masks = subjects.split_subjects(subjects.subject_masks(video), 1)[0]
    stands = np.linalg.norm(255.0 - reference.astype(np.float32), axis=-1) > subjects.THRESHOLD
    return identity.is_pasted(masks, stands)


def decibels(video: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio of uint8 videos, over the pixels `where` if given."""
    error = (video.astype(np.float64) - other.astype(np.float64)) ** 2
    mean = error.mean() if where is None else error[where].mean()
    return float(10 * np.log10(255.0**2 / max(mean, 1e-6)))


def scene_colour(video: np.ndarray) -> np.ndarray:
    """CIELAB [3] of a video uint8 [T,H,W,3]: the median pixel, which a subject that grows or leaves hardly moves."""
    return np.median(rgb2lab(video / 255.0), (0, 1, 2))


def mean(values: list[float]) -> float:
    """The mean as a plain number."""
    return float(np.mean(values))
