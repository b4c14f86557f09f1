"""Finding subjects in a clip with a flat background: masks, tracks, colours, shapes. No network is involved.

Videos are uint8 [T,H,W,3], masks bool [T,H,W]; lengths in pixels unless a name says otherwise.
"""

import functools

import cv2
import numpy as np

from engines.training import words
from engines.training.world import sprites

THRESHOLD = 40.0  # RGB distance from the background that makes a pixel part of a subject
TEMPLATE = 40  # side of the normalised masks that shapes are compared in
SHADED = (0.6, 1.06)  # how much darker or brighter than its row a pixel may be and still be background: a shadow
SMALLEST_SHARE = 0.004  # of the frame; smaller spots are noise


def background_rows(video: np.ndarray) -> np.ndarray:
    """Colour of every row's background [H,3]: the median over time and columns."""
    return np.median(video.astype(np.float32), axis=(0, 2))


def nearest_colour(rgb: np.ndarray, choices: dict[str, tuple[int, int, int]]) -> str:
    """The named colour next to an RGB value (in CIELAB)."""
    names = list(choices)
    table = np.array([[choices[name] for name in names] + [list(rgb)]], np.float32) / 255.0
    lab = cv2.cvtColor(table, cv2.COLOR_RGB2LAB)[0]
    return names[int(np.argmin(np.linalg.norm(lab[:-1] - lab[-1], axis=1)))]


def background_name(video: np.ndarray) -> str:
    """Background word of a clip without photograph: nearest colour of its upper part."""
    rows = background_rows(video)
    return nearest_colour(np.median(rows[: len(rows) // 2], 0), words.BACKGROUNDS)


def from_background(pixels: np.ndarray, background: np.ndarray, shaded: tuple[float, float] = SHADED) -> np.ndarray:
    """RGB distance [...] of pixels [...,3] from a background, however a light within `shaded` would show it."""
    background = np.broadcast_to(background, pixels.shape)
    along = (pixels * background).sum(-1) / np.maximum((background**2).sum(-1), 1.0)
    return np.linalg.norm(pixels - np.clip(along, *shaded)[..., None] * background, axis=-1)


def floor_name(video: np.ndarray) -> str | None:
    """Floor word, or None when the bottom looks like the background."""
    rows = background_rows(video)
    top, bottom = np.median(rows[: len(rows) // 2], 0), np.median(rows[-max(2, len(rows) // 12) :], 0)
    return None if from_background(bottom, top, (0.82, 1.1)) < 20 else nearest_colour(bottom, words.FLOORS)


def subject_masks(video: np.ndarray) -> np.ndarray:
    """Where a frame differs from its background and is not its shadow, without specks."""
    distance = from_background(video.astype(np.float32), background_rows(video)[None, :, None])
    masks = (distance > THRESHOLD).astype(np.uint8)
    smallest = SMALLEST_SHARE * masks[0].size
    for mask in masks:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for label in range(1, count):
            thin = min(stats[label, cv2.CC_STAT_WIDTH], stats[label, cv2.CC_STAT_HEIGHT]) <= 2
            if stats[label, cv2.CC_STAT_AREA] < smallest or thin:
                mask[labels == label] = 0
    return masks.astype(bool)


def split_subjects(masks: np.ndarray, count: int) -> list[np.ndarray]:
    """The masks of `count` subjects, followed through time by their centres; one empty mask where there is none."""
    tracks: list[list[np.ndarray]] = [[] for _ in range(count)]
    last: list[np.ndarray | None] = [None] * count
    for mask in masks:
        number, labels, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        order = sorted(range(1, number), key=lambda i: -stats[i, cv2.CC_STAT_AREA])[: count + 1]
        free = set(order)
        for index in range(count):
            if not free:
                tracks[index].append(np.zeros_like(mask))
                continue
            if last[index] is None:
                seen = [place for place in last if place is not None]
                pick = min(free, key=lambda i: (any(np.allclose(centres[i], s) for s in seen), order.index(i)))
            else:
                pick = min(free, key=lambda i: float(np.linalg.norm(centres[i] - last[index])))
            free.discard(pick)
            last[index] = centres[pick]
            tracks[index].append(labels == pick)
    return [np.stack(track) for track in tracks]


def centres_and_areas(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres [T,2] (x, y; empty frames take their neighbours') and areas [T] of one subject."""
    centres, areas = np.full((len(masks), 2), np.nan), masks.sum((1, 2)).astype(float)
    for index, mask in enumerate(masks):
        if areas[index]:
            y, x = np.nonzero(mask)
            centres[index] = x.mean(), y.mean()
    known = np.flatnonzero(areas)
    if len(known) == 0:
        return np.zeros((len(masks), 2)), areas
    for axis in range(2):
        centres[:, axis] = np.interp(np.arange(len(masks)), known, centres[known, axis])
    return centres, areas


def colour_name(video: np.ndarray, masks: np.ndarray) -> str | None:
    """Colour word of a subject, from the inside of its mask; None when there is no subject."""
    inside = np.stack([cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for mask in masks]).astype(bool)
    pixels = video[inside if inside.any() else masks]
    return nearest_colour(np.median(pixels, 0), words.COLOURS) if len(pixels) else None


def normalised(mask: np.ndarray) -> np.ndarray:
    """A mask float32 [S,S] moved to its centre and scaled to a fixed area."""
    y, x = np.nonzero(mask)
    scale = 0.42 * TEMPLATE / np.sqrt(len(x)) if len(x) else 1.0
    matrix = np.array([[scale, 0, TEMPLATE / 2 - scale * x.mean()], [0, scale, TEMPLATE / 2 - scale * y.mean()]])
    return cv2.warpAffine(mask.astype(np.float32), matrix, (TEMPLATE, TEMPLATE), flags=cv2.INTER_LINEAR)


@functools.cache
def _templates() -> dict[str, np.ndarray]:
    """Shape word -> normalised masks [A, S*S] over all angles."""
    found = {}
    for shape in words.SHAPES:
        mask = sprites.shape_mask(shape)
        turned = []
        for angle in range(0, 360, 6):
            matrix = cv2.getRotationMatrix2D((64, 64), angle, 0.7)
            turned.append(normalised(cv2.warpAffine(mask, matrix, (128, 128)) > 0.5).ravel())
        found[shape] = np.stack(turned)
    return found


def shape_scores(masks: np.ndarray) -> dict[str, float]:
    """Shape word -> mean overlap of its best turned template with the subject, over frames that show one."""
    picks = [mask for mask in masks if mask.sum() >= 12]
    if not picks:
        return {}
    picks = [picks[index] for index in np.unique(np.linspace(0, len(picks) - 1, 9).astype(int))]
    seen = np.stack([normalised(mask).ravel() for mask in picks])
    scores = {}
    for shape, templates in _templates().items():
        both = np.minimum(seen[:, None], templates[None]).sum(-1)
        either = np.maximum(seen[:, None], templates[None]).sum(-1)
        scores[shape] = float((both / either).max(1).mean())
    return scores


def shape_name(masks: np.ndarray) -> str | None:
    """Shape word of a subject, None when there is none."""
    scores = shape_scores(masks)
    return max(scores, key=scores.__getitem__) if scores else None
