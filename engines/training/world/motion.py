"""Paths of subjects through a clip: what each motion word means.

Lengths are in units of the frame height, angles in radians, y points down; arrays run over frames [T].
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Area:
    """Where a subject may be: left, right, top, bottom; `ground` is where it comes to rest."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, kw_only=True)
class Path:
    """Centre, size and turn of one subject in every frame."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


def _start(rng: np.random.Generator, low: float, high: float, travel: float) -> float:
    """A start so that start and start + travel both lie within low..high."""
    if travel >= 0:
        return rng.uniform(low, max(high - travel, low + 1e-6))
    return rng.uniform(min(low - travel, high - 1e-6), high)


def make_path(rng: np.random.Generator, motion: str, *, area: Area, radius: float, tilt: float, frames: int) -> Path:
    """Draw a path for a motion word inside `area` (borders of the subject's disc, not its centre)."""
    u = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    left, right = area.left + radius, area.right - radius
    top, bottom = area.top + radius, area.bottom - radius
    left, right = (left, right) if left < right else ((left + right) / 2,) * 2
    top, bottom = (top, bottom) if top < bottom else ((top + bottom) / 2,) * 2
    x, y = np.full(frames, rng.uniform(left, right)), np.full(frames, rng.uniform(top, bottom))
    radii, angle = np.full(frames, radius), np.full(frames, tilt)

    if motion in ("moves right", "moves left"):
        travel = (right - left) * rng.uniform(0.55, 0.95) * (1 if motion == "moves right" else -1)
        x = _start(rng, left, right, travel) + travel * u
    elif motion in ("moves up", "moves down"):
        travel = (bottom - top) * rng.uniform(0.6, 0.98) * (1 if motion == "moves down" else -1)
        y = _start(rng, top, bottom, travel) + travel * u
    elif motion == "bounces":
        height = (bottom - top) * rng.uniform(0.5, 0.9)
        phase = (u * rng.uniform(1.6, 2.6) + rng.choice([0.0, 0.5])) % 1
        y = bottom - height * 4 * phase * (1 - phase)
    elif motion == "falls":
        start = top + (bottom - top) * rng.uniform(0, 0.2)
        y = np.minimum(start + (bottom - start) * (u / rng.uniform(0.55, 0.85)) ** 2, bottom)
    elif motion == "spins":
        angle = tilt + u * 2 * np.pi * rng.uniform(0.5, 1.0) * rng.choice([-1, 1])
    elif motion in ("grows", "shrinks"):
        factor = rng.uniform(2.0, 2.6)
        scale = factor ** (u - 1)
        radii = radius * (scale if motion == "grows" else scale[::-1])
    elif motion == "circles around":
        orbit = min((right - left), (bottom - top)) / 2 * rng.uniform(0.6, 1.0)
        turn = rng.uniform(0, 2 * np.pi) + u * 2 * np.pi * rng.uniform(0.85, 1.15) * rng.choice([-1, 1])
        cx, cy = rng.uniform(left + orbit, right - orbit + 1e-9), rng.uniform(top + orbit, bottom - orbit + 1e-9)
        x, y = cx + orbit * np.cos(turn), cy + orbit * np.sin(turn)
    return Path(x=x, y=y, radius=radii, angle=angle)
