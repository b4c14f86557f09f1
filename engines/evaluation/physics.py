"""How well a clip obeys the physics of its scene, measured from its pixels against an exact simulation.

Trajectory error, residual of the scene's law, permanence of its objects, and the four Physics-IQ numbers. No network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engines.training.world.physics import (
    COLOURS,
    FRAMES,
    GIVEN,
    GRAVITY,
    PIVOT,
    SCENES,
    Scene,
    constant_velocity,
    frozen,
    make_scene,
)

from .physics_iq import Likeness, likeness

LOST_SHARE = 0.2  # of its first area: an object with less is lost
LOST_ERROR = 32.0  # px: what a lost object counts, and the most an error counts
FEWEST = 3  # windows that a law needs
CUT = 0.15


@dataclass(frozen=True)
class Tracks:
    """What is seen of the discs: centroids [T,n,2] in pixels (NaN where lost) and areas [T,n] in pixels."""

    centres: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True)
class Physics:
    """Measures of one clip.

    Attributes:
        trajectory: mean distance to the simulation over the predicted frames, px, at most 32.
        residual: of the scene's law, 0 to 1; NaN where even the true clip shows too little of it.
        permanence: share of frames in which every object keeps its size.
        iq: the Physics-IQ numbers against the simulated clip.
    """

    trajectory: float
    residual: float
    permanence: float
    iq: Likeness


def track(frames: np.ndarray, scene: Scene) -> Tracks:
    """Centroids and areas by colour: weights are the difference of red and blue, what is under the cut is nothing."""
    values = frames.astype(np.float64) / 255
    difference = values[..., 0] - values[..., 2]
    axis = np.arange(frames.shape[1]) + 0.5
    centres, areas = [], []
    for disc in scene.discs:
        full = COLOURS[disc.colour][0] - COLOURS[disc.colour][2]
        weights = np.clip(difference / full, 0, 1)
        weights[weights < CUT] = 0
        area = weights.sum((1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = (weights.sum(1) @ axis) / area, (weights.sum(2) @ axis) / area
        centre = np.stack([x, y], -1)
        centre[area < LOST_SHARE * max(area[0], 1e-9)] = np.nan
        centres.append(centre)
        areas.append(area)
    return Tracks(np.stack(centres, 1), np.stack(areas, 1))


def measure(frames: np.ndarray, scene: Scene) -> Physics:
    """All measures of a clip uint8 [33,64,64,3] of `scene`."""
    seen, shown = track(frames, scene), scene.in_view()
    distance = np.linalg.norm(seen.centres - scene.centres, axis=-1)
    distance = np.minimum(np.where(np.isnan(distance), LOST_ERROR, distance), LOST_ERROR)
    predicted = shown & (np.arange(FRAMES) >= GIVEN)
    kept = (np.abs(seen.areas / seen.areas[0] - 1) <= 0.25).all(1)
    return Physics(
        trajectory=float(distance[predicted].mean()) if predicted.any() else 0.0,
        residual=law_residual(seen.centres, scene),
        permanence=float(kept[shown].mean()),
        iq=likeness(scene.frames(), frames, shrink=1),
    )


def law_residual(centres: np.ndarray, scene: Scene) -> float:
    """How far tracks [T,n,2] are from the law of their scene, 0 to 1; only where the true objects are wholly seen."""
    usable = scene.in_view() & (np.arange(FRAMES) >= GIVEN - 1)
    if scene.name in ("free fall", "bounce", "projectile"):
        law: Callable[[np.ndarray, Scene, np.ndarray], float] = _gravity
        fewest, usable = FEWEST, _windows(usable, scene)
    else:
        law, fewest = {"pendulum": _pendulum, "collision": _collision, "incline": _incline}[scene.name], FEWEST + 2
    if usable.sum() < fewest:
        return float("nan")
    needed = usable
    if law is _gravity:
        needed = usable | np.roll(usable, 1) | np.roll(usable, -1)
    found = ~np.isnan(centres).any((1, 2))
    if not found[needed].all():  # a lost object obeys no law
        return 1.0
    return float(np.clip(law(centres, scene, usable), 0, 1))


def _windows(usable: np.ndarray, scene: Scene) -> np.ndarray:
    """Middles of three frames in free flight: no contact with the floor inside or next to them."""
    middles = usable & np.roll(usable, 1) & np.roll(usable, -1)
    middles[[0, -1]] = False
    for index in np.flatnonzero(middles):
        touched = any(index - 1.01 <= contact <= index + 1.01 for contact in scene.contacts)
        middles[index] = not touched and index + 1.01 < scene.rests
    return middles


def _gravity(centres: np.ndarray, scene: Scene, middles: np.ndarray) -> float:
    """Median of |second difference of y - g| / g."""
    y = centres[:, 0, 1]
    second = y[:-2] - 2 * y[1:-1] + y[2:]
    return float(np.median(np.abs(second[middles[1:-1]] - GRAVITY) / GRAVITY))


def _pendulum(centres: np.ndarray, scene: Scene, usable: np.ndarray) -> float:
    """Half the error of the angular acceleration against -g/L sin(angle), half ten times the spread of the length."""
    arm = centres[:, 0] - np.array(PIVOT)
    lengths, angles = np.linalg.norm(arm, axis=1), np.unwrap(np.arctan2(arm[:, 0], arm[:, 1]))
    middles = usable & np.roll(usable, 1) & np.roll(usable, -1)
    middles[[0, -1]] = False
    second = (angles[:-2] - 2 * angles[1:-1] + angles[2:])[middles[1:-1]]
    expected = -GRAVITY / scene.law["length"] * np.sin(angles[middles])
    truth = _true_angles(scene)
    scale = np.mean(np.abs(GRAVITY / scene.law["length"] * np.sin(truth[middles])))
    error = np.mean(np.abs(second - expected)) / scale
    spread = 10 * lengths[usable].std() / scene.law["length"]
    return float(0.5 * error + 0.5 * spread)


def _true_angles(scene: Scene) -> np.ndarray:
    arm = scene.centres[:, 0] - np.array(PIVOT)
    return np.arctan2(arm[:, 0], arm[:, 1])


def _collision(centres: np.ndarray, scene: Scene, usable: np.ndarray) -> float:
    """Median error of the momentum, half the error of the final energy, and how deep the discs enter each other."""
    masses = np.array([disc.mass for disc in scene.discs])
    shown = np.flatnonzero(usable)
    # Speeds over frames that do not span the contact.
    pairs = [(a, a + 1) for a in shown[:-1] if usable[a + 1] and not a <= scene.contacts[0] <= a + 1]
    speeds = np.array([centres[b, :, 0] - centres[a, :, 0] for a, b in pairs])
    true = scene.centres[1, :, 0] - scene.centres[0, :, 0]
    momentum = np.abs(speeds @ masses - true @ masses) / (np.abs(true) @ masses)
    last = speeds[-3:].mean(0)
    energy = abs((last**2 @ masses) / (true**2 @ masses) - 1)
    reach = sum(disc.radius for disc in scene.discs)
    gap = np.abs(centres[usable, 1, 0] - centres[usable, 0, 0])
    depth = max(0.0, float((reach - gap).max())) / reach
    return float(np.median(momentum)) + 0.5 * min(energy, 1.0) + depth


def _incline(centres: np.ndarray, scene: Scene, usable: np.ndarray) -> float:
    """Relative error of the acceleration along the slope, and the distance from it in radii."""
    angle, disc = scene.law["angle"], scene.discs[0]
    along, normal = np.array([np.cos(angle), np.sin(angle)]), np.array([np.sin(angle), -np.cos(angle)])
    foot = np.array([scene.law["foot_x"], scene.law["foot_y"]])
    times, places = np.flatnonzero(usable), (centres[usable, 0] - foot)
    fitted = 2 * np.polyfit(times, places @ along, 2)[0]
    error = abs(fitted / scene.law["acceleration"] - 1)
    away = np.abs(places @ normal / disc.radius - 1).mean()
    return float(error + away)


# The separation that the measures must show before they judge anything.

BASELINES: dict[str, Callable[[Scene], np.ndarray]] = {
    "truth": lambda scene: scene.frames(),
    "frozen": frozen,
    "constant velocity": constant_velocity,
}


def separation(count: int, *, seed: int = 0) -> dict[str, dict[str, Physics]]:
    """Means over `count` clips of every scene of the true clip and of two trivial ones: {scene: {clip: measures}}."""
    return {
        name: {
            baseline: average([measure(make(scene), scene) for scene in scenes]) for baseline, make in BASELINES.items()
        }
        for name in SCENES
        if (scenes := [make_scene(name, (seed, index)) for index in range(count)])
    }


def average(rows: list[Physics]) -> Physics:
    """The mean of each measure; residuals that are none are left out."""
    iq = Likeness(*(float(np.mean([getattr(row.iq, name) for row in rows])) for name in Likeness.__annotations__))
    residuals = [row.residual for row in rows if not np.isnan(row.residual)]
    return Physics(
        trajectory=float(np.mean([row.trajectory for row in rows])),
        residual=float(np.mean(residuals)) if residuals else float("nan"),
        permanence=float(np.mean([row.permanence for row in rows])),
        iq=iq,
    )


def table(measured: dict[str, dict[str, Physics]]) -> str:
    """Lines of scene, clip, and its measures."""
    lines = [
        f"{'scene':<11}{'clip':<19}{'law residual':>13}{'trajectory px':>15}{'permanence':>12}"
        f"{'spatial':>9}{'spatiotemp.':>13}{'weighted':>10}{'MSE':>8}"
    ]
    for scene, clips in measured.items():
        for clip, row in clips.items():
            lines.append(
                f"{scene:<11}{clip:<19}{row.residual:>13.3f}{row.trajectory:>15.3f}{row.permanence:>12.2f}"
                f"{row.iq.spatial:>9.3f}{row.iq.spatiotemporal:>13.3f}{row.iq.weighted:>10.3f}{row.iq.mse:>8.4f}"
            )
    return "\n".join(lines)
