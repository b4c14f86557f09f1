"""Which motion word a subject's track shows. Rules on centre, area and turning; no network is involved."""

import cv2
import numpy as np

from .subjects import centres_and_areas

STILL = 0.06  # of the frame height: a centre that stays within this does not travel
GROWTH = 2.0  # ratio of areas
TURN = 0.055  # change of the aligned picture that counts as turning


def _aligned(video: np.ndarray, masks: np.ndarray, centres: np.ndarray, radius: float) -> np.ndarray:
    """The subject cut out around its centre, float32 [T,S,S,3] in 0..1, other pixels black."""
    side = 2 * int(np.ceil(radius)) + 5
    cut = []
    for frame, mask, (x, y) in zip(video, masks, centres, strict=True):
        shown = frame.astype(np.float32) / 255.0 * mask[..., None] + 0.35 * mask[..., None]
        matrix = np.array([[1, 0, side / 2 - x], [0, 1, side / 2 - y]], np.float32)
        cut.append(cv2.warpAffine(shown, matrix, (side, side)))
    return np.stack(cut)


def turning(video: np.ndarray, masks: np.ndarray) -> float:
    """How much the subject's picture changes about its own centre: mean change of a pixel of it."""
    centres, areas = centres_and_areas(masks)
    shown = np.flatnonzero(areas)
    if len(shown) < 3:
        return 0.0
    cut = _aligned(video[shown], masks[shown], centres[shown], np.sqrt(areas.max() / np.pi) * 1.4)
    change = np.abs(cut - cut.mean(0)).sum((1, 2, 3)).mean()
    return float(change / max(cut.sum((1, 2, 3)).mean(), 1e-6))


def _loops(centres: np.ndarray) -> float:
    """Turns of the path about its own middle."""
    around = centres - (centres.max(0) + centres.min(0)) / 2
    angles = np.unwrap(np.arctan2(around[:, 1], around[:, 0]))
    return float(abs(angles[-1] - angles[0]) / (2 * np.pi))


def _reversals(values: np.ndarray, amplitude: float) -> int:
    """Number of times a curve turns back by more than `amplitude`."""
    count, direction, extreme = 0, 0, values[0]
    for value in values[1:]:
        if direction == 0:
            if abs(value - extreme) > amplitude:
                direction, extreme = int(np.sign(value - extreme)), value
        elif (value - extreme) * direction > 0:
            extreme = value
        elif abs(value - extreme) > amplitude:
            count, direction, extreme = count + 1, -direction, value
    return count


def motion_name(video: np.ndarray, masks: np.ndarray) -> str | None:
    """Motion word of one subject; None when it is not there for most of the clip."""
    centres, areas = centres_and_areas(masks)
    if (areas > 0).mean() < 0.6:
        return None
    height, edge = video.shape[1], max(2, len(video) // 8)
    shown = areas[areas > 0]
    ratio = np.median(shown[-edge:]) / max(np.median(shown[:edge]), 1.0)
    if ratio > GROWTH:
        return "grows"
    if ratio < 1 / GROWTH:
        return "shrinks"
    reach = (np.percentile(centres, 97, axis=0) - np.percentile(centres, 3, axis=0)) / height
    if reach.max() < STILL:
        return "spins" if turning(video, masks) > TURN else "stays still"
    if reach.min() > 0.4 * reach.max() and reach.min() > STILL and _loops(centres) > 0.6:
        return "circles around"
    if reach[1] > reach[0] and _reversals(centres[:, 1], 0.25 * reach[1] * height) >= 1:
        return "bounces"
    travel = (centres[-edge:].mean(0) - centres[:edge].mean(0)) / height
    if abs(travel[0]) >= abs(travel[1]):
        return "moves right" if travel[0] > 0 else "moves left"
    if travel[1] < 0:
        return "moves up"
    end = (centres[-1, 1] - centres[-edge - 1, 1]) / edge
    mean = (centres[-1, 1] - centres[0, 1]) / (len(centres) - 1)
    return "falls" if end < 0.35 * mean else "moves down"
