"""Subjects as small RGBA pictures: flat shapes, patterned sprites, emoji, photo cut-outs.

A picture is premultiplied RGBA, float32 in 0..1, [S,S,4]; the subject's radius is 0.92 of half its side.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from .. import words
from . import pictures

SIDE = 128
ROUNDING = 0.1  # radius of rounded corners in half sides
PATTERN_SHARES = (0.1, 0.22, 0.18, 0.2, 0.3)  # of words.PATTERNS among sprites
EVALUATION_LOOKS = 2**30  # look seeds at and above this one are never trained on


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One subject: what a caption can say of it, and its picture."""

    kind: str  # shape | sprite | emoji | photo
    name: str  # noun for captions: "star", "grinning face", "toy"
    colour: str | None = None
    shape: str | None = None
    pattern: str = "plain"
    picture: np.ndarray

    @property
    def is_drawn(self) -> bool:
        """Whether it is a plain drawing that the world's light shades; emoji and photographs bring their own."""
        return self.kind in ("shape", "sprite")

    @property
    def pivot(self) -> float:
        """How far below the middle its centre of mass lies, in radii: what it turns about."""
        return 0.15 if self.is_drawn and self.shape == "triangle" else 0.0


def polygon(shape: str) -> np.ndarray | None:
    """Corners [N,2] in units of the half side (y down), or None for round shapes."""
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * (0.78 - ROUNDING)
    if shape == "triangle":
        angles = np.deg2rad([-90, 30, 150])
        return np.stack([np.cos(angles), np.sin(angles) + 0.16], 1).astype(np.float32) * (1.04 - 1.3 * ROUNDING)
    if shape == "star":
        angles = np.deg2rad(-90 + 36 * np.arange(10))
        radii = np.where(np.arange(10) % 2, 0.5, 1.02) - 1.2 * ROUNDING
        return np.stack([np.cos(angles) * radii, np.sin(angles) * radii + 0.05], 1).astype(np.float32)
    return None


@functools.cache
def shape_mask(shape: str, *, side: int = SIDE) -> np.ndarray:
    """Filled mask float32 [side, side] of a shape word; corners are rounded. Not to be written to."""
    mask = np.zeros((side, side), np.uint8)
    half = side / 2
    corners = polygon(shape)
    if corners is not None:
        points = np.round((corners + 1) * half * 16 - 8).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
        reach = 2 * round(ROUNDING * half) + 1
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
        mask = cv2.GaussianBlur(mask, (0, 0), side / 110)
    else:
        centre = (int(half * 16 - 8),) * 2
        cv2.circle(mask, centre, int(0.9 * half * 16), 255, -1, cv2.LINE_AA, 4)
        if shape == "ring":
            cv2.circle(mask, centre, int(0.44 * half * 16), 0, -1, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255.0


@functools.cache
def _rim(shape: str) -> np.ndarray:
    """How bright a shape is towards its outline, float32 [SIDE, SIDE, 1]: 1 inside, darker in a soft band."""
    inside = cv2.distanceTransform((shape_mask(shape) > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return (1 - 0.3 * np.exp(-((inside / (0.045 * SIDE)) ** 2)))[..., None].astype(np.float32)


def _jitter(rng: np.random.Generator, colour: tuple[int, int, int], amount: float) -> np.ndarray:
    return np.clip((np.asarray(colour, np.float32) + rng.uniform(-amount, amount, 3)) / 255.0, 0, 1).astype(np.float32)


def _soft(distance: np.ndarray) -> np.ndarray:
    """Signed distance in pixels of the picture -> share, with an edge two pixels wide."""
    return np.clip(distance / 2 + 0.5, 0, 1).astype(np.float32)


def _pattern(rng: np.random.Generator, pattern: str) -> np.ndarray:
    """Share of the second colour, float32 [SIDE, SIDE]; features are large enough to be seen in a small clip."""
    y, x = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5) / SIDE * 2 - 1
    angle = rng.choice([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
    if pattern == "two-tone":
        angle += rng.choice([0, np.pi])
        return _soft((x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.05, 0.15)) * SIDE / 2)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if pattern == "striped":
        period = rng.uniform(0.62, 0.85)
        wave = np.abs((u / period + rng.uniform()) % 1 - 0.5) * period
        return _soft((0.24 * period - wave) * SIDE / 2)
    if pattern == "dotted":
        period, radius = rng.uniform(0.72, 0.85), rng.uniform(0.2, 0.24)
        du, dv = (u / period % 1 - 0.5) * period, (v / period % 1 - 0.5) * period
        return _soft((radius - np.hypot(du, dv)) * SIDE / 2)
    return np.zeros((SIDE, SIDE), np.float32)


def _draw_eyes(picture: np.ndarray, rng: np.random.Generator, shape: str) -> None:
    half, gap = SIDE / 2, rng.uniform(0.26, 0.3) * (0.85 if shape in ("triangle", "star") else 1)
    height = rng.uniform(-0.2, -0.1) + {"triangle": 0.3, "star": 0.08}.get(shape, 0)
    size = rng.uniform(0.22, 0.25) * (0.85 if shape in ("triangle", "star") else 1)
    look = rng.uniform(-0.05, 0.05, 2)

    def disc(x: float, y: float, radius: float, level: float) -> None:
        centre = (round((1 + x) * half * 16), round((1 + y) * half * 16))
        cv2.circle(picture, centre, round(radius * half * 16), (level, level, level, 1), -1, cv2.LINE_AA, 4)

    for sign in (-1, 1):
        disc(sign * gap, height, size, 1.0)
        disc(sign * gap + look[0], height + look[1], size * 0.58, 0.06)


def flat_shape(rng: np.random.Generator, *, colour: str, shape: str) -> Subject:
    """A plain shape of one colour."""
    mask = shape_mask(shape)[..., None]
    rgb = _jitter(rng, words.COLOURS[colour], 9) * _rim(shape)
    return Subject(kind="shape", name=shape, colour=colour, shape=shape, picture=np.concatenate([mask * rgb, mask], 2))


def _second(rng: np.random.Generator, base: str) -> str:
    """Another colour that stands out from the first."""
    first = np.asarray(words.COLOURS[base], np.float32)
    far = [n for n, rgb in words.COLOURS.items() if np.linalg.norm(np.asarray(rgb, np.float32) - first) > 110]
    return str(rng.choice(far))


def sprite(look: int, *, colour: str | None = None, shape: str | None = None) -> Subject:
    """A patterned sprite; everything but colour and shape comes from the look seed, so only a reference can tell it."""
    rng = np.random.default_rng((look, 77))
    colours = list(words.COLOURS)
    base = colours[rng.integers(len(colours))] if colour is None else colour
    form = str(rng.choice(("circle", "square", "triangle", "star"))) if shape is None else shape
    pattern = words.PATTERNS[rng.choice(len(words.PATTERNS), p=PATTERN_SHARES)]
    share = _pattern(rng, pattern)[..., None]
    first_rgb = _jitter(rng, words.COLOURS[base], 14)
    second_rgb = _jitter(rng, words.COLOURS[_second(rng, base)], 14)
    rgb = first_rgb * (1 - share) + second_rgb * share
    picture = np.ascontiguousarray(np.concatenate([rgb, np.ones_like(share)], 2), np.float32)
    if form != "ring" and (pattern == "with eyes" or (pattern in ("plain", "two-tone") and rng.random() < 0.3)):
        _draw_eyes(picture, rng, form)
    picture[..., :3] *= _rim(form)
    picture *= shape_mask(form)[..., None]
    return Subject(kind="sprite", name=form, colour=base, shape=form, pattern=pattern, picture=picture)


def emoji(rng: np.random.Generator, *, held_out: bool) -> Subject | None:
    """An emoji of the split, or None when the font is missing."""
    codes = pictures.emoji_codes(held_out=held_out)
    if not codes:
        return None
    code = codes[rng.integers(len(codes))]
    return Subject(kind="emoji", name=pictures.emoji_name(code), picture=pictures.emoji_picture(code))


def cut_out(rng: np.random.Generator, *, held_out: bool) -> Subject | None:
    """A round or angular piece of a photograph, or None without photographs."""
    photos = pictures.photographs(held_out=held_out)
    if not photos:
        return None
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(100, 300))
    y, x = rng.integers(0, photo.shape[0] - side + 1), rng.integers(0, photo.shape[1] - side + 1)
    patch = cv2.resize(photo[y : y + side, x : x + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    patch = patch.astype(np.float32) / 255.0
    if rng.random() < 0.5:
        patch = patch[..., rng.permutation(3)]
    patch = np.clip((patch - 0.5) * rng.uniform(1.0, 1.5) + rng.uniform(0.4, 0.6), 0, 1)
    mask = shape_mask(("circle", "square", "triangle", "star")[rng.integers(4)])[..., None]
    return Subject(kind="photo", name="picture", picture=np.concatenate([patch * mask, mask], 2).astype(np.float32))
