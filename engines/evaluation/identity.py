"""Whose picture is it? A subject in a clip against candidate subjects, by aligned colour and texture.

No network is involved: both are cut out, laid over grey, turned into each other and compared in CIELAB.
"""

import cv2
import numpy as np

from engines.training.world import render
from engines.training.world.sprites import Subject

SIDE = 24
SMALL_TURNS = tuple(range(-30, 31, 10))


def _over_grey(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """RGB float32 in 0..1 over mid grey, slightly blurred, as CIELAB [S,S,3]."""
    shown = cv2.GaussianBlur(rgb * mask[..., None] + 0.5 * (1 - mask[..., None]), (3, 3), 0.8)
    return cv2.cvtColor(np.clip(shown, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)


def _cut(rgb: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around a mask, resized to SIDE keeping the aspect: pixels and mask."""
    y, x = np.nonzero(mask > 0.5)
    half = max(x.max() - x.min(), y.max() - y.min()) / 2 + 1
    cx, cy = (x.max() + x.min()) / 2, (y.max() + y.min()) / 2
    scale = SIDE / (2 * half)
    matrix = np.array([[scale, 0, SIDE / 2 - 0.5 - scale * cx], [0, scale, SIDE / 2 - 0.5 - scale * cy]], np.float32)
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (SIDE, SIDE)
    return cv2.warpAffine(rgb, matrix, size, flags=flags), cv2.warpAffine(mask.astype(np.float32), matrix, size)


def candidate_views(subject: Subject, *, turns: tuple[int, ...]) -> np.ndarray:
    """CIELAB views [A,S,S,3] of a candidate in the world's light, at every turn in degrees."""
    return np.stack([_view(subject, turn) for turn in turns])


def _view(subject: Subject, turn: int) -> np.ndarray:
    where = {"x": 48.0, "y": 48.0, "radius": 30.0, "angle": float(np.deg2rad(turn))}
    rgb, mask = np.full((96, 96, 3), 0.5, np.float32), np.zeros((96, 96, 3), np.float32)
    render.place(rgb, subject.picture, lit=subject.is_drawn, **where)
    render.place(mask, np.ascontiguousarray(np.repeat(subject.picture[..., 3:], 4, 2)), lit=False, **where)
    return _over_grey(*_cut(rgb, mask[..., 0]))


def distances(
    video: np.ndarray, masks: np.ndarray, candidates: list[Subject], *, any_turn: bool = False
) -> np.ndarray | None:
    """Distance of the clip's subject to each candidate; None when no frame shows a subject."""
    areas = masks.sum((1, 2))
    shown = np.flatnonzero(areas >= 20)
    if len(shown) == 0:
        return None
    turns = tuple(range(0, 360, 20)) if any_turn else SMALL_TURNS
    picks = shown[np.argsort(-areas[shown])][: max(6, len(shown) // 2)]
    picks = picks[np.unique(np.linspace(0, len(picks) - 1, 6).astype(int))]
    seen = np.stack([_over_grey(*_cut(video[i].astype(np.float32) / 255.0, masks[i])) for i in picks])
    result = []
    for candidate in candidates:
        views = candidate_views(candidate, turns=turns)
        gap = np.linalg.norm(seen[:, None] - views[None], axis=-1).mean((-1, -2))  # frames x turns
        result.append(gap.min(1).mean())
    return np.array(result)


def nearest(video: np.ndarray, masks: np.ndarray, candidates: list[Subject], *, any_turn: bool = False) -> int | None:
    """Index of the nearest candidate, None when there is no subject."""
    found = distances(video, masks, candidates, any_turn=any_turn)
    return None if found is None else int(np.argmin(found))


def is_pasted(masks: np.ndarray, reference_mask: np.ndarray, *, overlap: float = 0.6) -> bool:
    """Whether the subject mostly stands exactly where (and as big as) it stands in the padded reference picture."""
    shown = masks[masks.any((1, 2))]
    if len(shown) == 0:
        return False
    both = (shown & reference_mask).sum((1, 2))
    either = (shown | reference_mask).sum((1, 2))
    return bool(np.median(both / np.maximum(either, 1)) > overlap)
