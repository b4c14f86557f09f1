"""A force drawn on a picture: the control video of Force-Prompting, and its averages in the cells of both latents.

Source: the Force-Prompting repository (point and wind data). Angles count from right, counter-clockwise, so 90 is up;
points count from the lower left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from engines.phantom_physics.latents import tubelet_count

SIGMA, SIGMA_HEIGHT = 20.0, 480  # pixels of the blob, at this height of the frame


@dataclass(frozen=True)
class PointForce:
    """A push at a point.

    Attributes:
        x, y: where, as shares of width and height, from the lower left.
        angle: direction in degrees, 0 right, 90 up.
        strength: 0 to 1.
    """

    x: float
    y: float
    angle: float
    strength: float


@dataclass(frozen=True)
class Wind:
    """A push everywhere: `strength` 0 to 1, `angle` in degrees."""

    angle: float
    strength: float


def control_video(force: PointForce | Wind, *, width: int, height: int, frames: int) -> torch.Tensor:
    """The control of a force [3,T,H,W], float32.

    A point: three equal channels in [0,1], a blob that moves over the clip from the point in the force's direction,
    the farther the stronger. Wind: constant channels of its strength in [-1,1], cosine and sine.
    """
    radians = math.radians(force.angle)
    if isinstance(force, Wind):
        values = torch.tensor([-1 + 2 * force.strength, math.cos(radians), math.sin(radians)])
        return values.view(3, 1, 1, 1).expand(3, frames, height, width).clone()
    way = width / 8 + (width / 2 - width / 8) * force.strength
    share = torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1)
    x = force.x * width + way * math.cos(radians) * share
    y = (1 - force.y) * height - way * math.sin(radians) * share
    columns, rows = torch.arange(width, dtype=torch.float32), torch.arange(height, dtype=torch.float32)
    sigma = SIGMA * height / SIGMA_HEIGHT
    across = torch.exp(-((columns - x[:, None]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - y[:, None]) ** 2) / (2 * sigma**2))
    return (down[:, :, None] * across[:, None, :]).expand(3, -1, -1, -1).clone()


def in_cells(control: torch.Tensor, *, latent: tuple[int, int], physics_side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A control [3,T,H,W], T = 4n+1 -> its means in the cells of both latents, [3,n+1,h,w] and [3,2n+1,side,side].

    Args:
        latent: rows and columns of the visual latents.
    """
    frames = control.shape[1]
    seen = _means(control[None], [1] + [4] * ((frames - 1) // 4), latent)
    doubled = torch.cat([control[:, :1], control], dim=1)
    felt = _means(doubled[None], [2] * tubelet_count(frames), (physics_side, physics_side))
    return seen, felt


def _means(control: torch.Tensor, spans: list[int], size: tuple[int, int]) -> torch.Tensor:
    """Means over runs of `spans` frames and over the cells of a grid: [3,len(spans),*size]."""
    parts = [part.mean(2, keepdim=True) for part in control.split(spans, dim=2)]
    joined = torch.cat(parts, dim=2)[0]
    return torch.nn.functional.adaptive_avg_pool2d(joined, size)
