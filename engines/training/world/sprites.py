"""Subjects as small RGBA pictures: flat shapes, patterned sprites, emoji, photo cut-outs.

A picture is premultiplied RGBA, float32 in 0..1, [S,S,4]; the subject's radius is 0.92 of half its side.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from . import pictures, words

SIDE = 128
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


def polygon(shape: str) -> np.ndarray | None:
    """Corners [N,2] in units of the half side (y down), or None for round shapes."""
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * 0.76
    if shape == "triangle":
        angles = np.deg2rad([-90, 30, 150])
        return np.stack([np.cos(angles), np.sin(angles) + 0.12], 1).astype(np.float32) * 0.98
    if shape == "star":
        angles = np.deg2rad(-90 + 36 * np.arange(10))
        radii = np.where(np.arange(10) % 2, 0.45, 0.98)
        return np.stack([np.cos(angles) * radii, np.sin(angles) * radii + 0.04], 1).astype(np.float32)
    return None


def shape_mask(shape: str, *, side: int = SIDE) -> np.ndarray:
    """Filled mask float32 [side, side] of a shape word."""
    mask = np.zeros((side, side), np.uint8)
    half = side / 2
    corners = polygon(shape)
    if corners is not None:
        points = np.round((corners + 1) * half * 16 - 8).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    else:
        centre = (int(half * 16 - 8),) * 2
        cv2.circle(mask, centre, int(0.9 * half * 16), 255, -1, cv2.LINE_AA, 4)
        if shape == "ring":
            cv2.circle(mask, centre, int(0.48 * half * 16), 0, -1, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255.0


def _jitter(rng: np.random.Generator, colour: tuple[int, int, int], amount: float) -> np.ndarray:
    return np.clip((np.asarray(colour, np.float32) + rng.uniform(-amount, amount, 3)) / 255.0, 0, 1).astype(np.float32)


def _pattern(rng: np.random.Generator, pattern: str) -> np.ndarray:
    """Share of the second colour, float32 [SIDE, SIDE]."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE * 2 - 1
    if pattern == "two-tone":
        angle = rng.uniform(0, 2 * np.pi)
        return (x * np.cos(angle) + y * np.sin(angle) > rng.uniform(0.0, 0.2)).astype(np.float32)
    angle = rng.choice([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    period = rng.uniform(0.5, 0.85)
    if pattern == "striped":
        return (((u / period + rng.uniform()) % 1) < 0.42).astype(np.float32)
    if pattern == "checkered":
        return ((((u / period) % 1) < 0.5) ^ (((v / period) % 1) < 0.5)).astype(np.float32)
    if pattern == "dotted":
        du, dv = (u / period) % 1 - 0.5, (v / period) % 1 - 0.5
        return (du * du + dv * dv < 0.1).astype(np.float32)
    return np.zeros((SIDE, SIDE), np.float32)


def _draw_eyes(picture: np.ndarray, rng: np.random.Generator, shape: str) -> None:
    half, gap = SIDE / 2, rng.uniform(0.2, 0.28)
    height = rng.uniform(-0.2, -0.02) + (0.25 if shape == "triangle" else 0)
    size, look = rng.uniform(0.14, 0.2), rng.uniform(-0.05, 0.05, 2)
    for sign in (-1, 1):
        centre = (int((1 + sign * gap) * half), int((1 + height) * half))
        cv2.circle(picture, centre, int(size * half), (1, 1, 1, 1), -1)
        pupil = (int((1 + sign * gap + look[0]) * half), int((1 + height + look[1]) * half))
        cv2.circle(picture, pupil, int(size * 0.55 * half), (0.05, 0.05, 0.05, 1), -1)


def flat_shape(rng: np.random.Generator, *, colour: str, shape: str) -> Subject:
    """A plain shape of one colour."""
    mask = shape_mask(shape)[..., None]
    rgb = _jitter(rng, words.COLOURS[colour], 9)
    return Subject(kind="shape", name=shape, colour=colour, shape=shape, picture=np.concatenate([mask * rgb, mask], 2))


def sprite(look: int, *, colour: str | None = None, shape: str | None = None) -> Subject:
    """A patterned sprite; everything but colour and shape comes from the look seed, so only a reference can tell it."""
    rng = np.random.default_rng((look, 77))
    colours = list(words.COLOURS)
    base = colours[rng.integers(len(colours))] if colour is None else colour
    form = ("circle", "square", "triangle", "star", "circle", "square")[rng.integers(6)] if shape is None else shape
    second = rng.choice([name for name in colours if name != base])
    pattern = words.PATTERNS[rng.integers(len(words.PATTERNS))]
    share = _pattern(rng, pattern)[..., None]
    first_rgb, second_rgb = _jitter(rng, words.COLOURS[base], 22), _jitter(rng, words.COLOURS[second], 22)
    rgb = first_rgb * (1 - share) + second_rgb * share
    if rng.random() < 0.2:
        border = 1 - cv2.erode(shape_mask(form), np.ones((13, 13)))[..., None]
        rgb = rgb * (1 - border) + _jitter(rng, (30, 30, 30) if rng.random() < 0.5 else (240, 240, 240), 15) * border
    picture = np.ascontiguousarray(np.concatenate([rgb, np.ones_like(share)], 2), np.float32)
    if form != "ring" and (pattern == "with eyes" or rng.random() < 0.25):
        _draw_eyes(picture, rng, form)
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


def renamed(subject: Subject, name: str) -> Subject:
    """The same subject under another noun."""
    return replace(subject, name=name)
