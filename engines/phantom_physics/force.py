"""A force drawn on a picture: the control video of Force-Prompting, and its averages in the cells of both latents.

Source: the Force-Prompting repository (point and wind data). Angles count from right, counter-clockwise, so 90 is up;
points count from the lower left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from engines.phantom_physics.latents import TUBELET

STRIDE = 4  # frames of a latent frame after the first
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


def control_video(
    force: PointForce | Wind, *, width: int, height: int, frames: int, part: slice = slice(None)
) -> torch.Tensor:
    """The control of a force over a clip of `frames`, of which those of `part` are made: [3,T,H,W], float32.

    A point: three equal channels in [0,1], a blob that moves over the clip from the point in the force's direction,
    the farther the stronger. Wind: constant channels of its strength in [-1,1], cosine and sine.
    """
    radians = math.radians(force.angle)
    share = (torch.linspace(0, 1, frames) if frames > 1 else torch.zeros(1))[part]
    if isinstance(force, Wind):
        values = torch.tensor([-1 + 2 * force.strength, math.cos(radians), math.sin(radians)])
        return values.view(3, 1, 1, 1).expand(3, len(share), height, width)
    way = width / 8 + (width / 2 - width / 8) * force.strength
    x = force.x * width + way * math.cos(radians) * share
    y = (1 - force.y) * height - way * math.sin(radians) * share
    columns, rows = torch.arange(width, dtype=torch.float32), torch.arange(height, dtype=torch.float32)
    sigma = SIGMA * height / SIGMA_HEIGHT
    across = torch.exp(-((columns - x[:, None]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - y[:, None]) ** 2) / (2 * sigma**2))
    return (down[:, :, None] * across[:, None, :]).expand(3, -1, -1, -1)


def in_cells(
    control: Callable[[slice], torch.Tensor], *, frames: int, latent: tuple[int, int], physics_side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The means of a control in the cells of both latents, [3,n+1,h,w] and [3,2n+1,side,side], for frames = 4n+1.

    Args:
        control: gives some of its frames [3,T,H,W]; never asked for many at a time, which would be large.
        latent: rows and columns of the visual latents.
    """

    def means(spans: list[slice], size: tuple[int, int]) -> torch.Tensor:
        cells = [torch.nn.functional.adaptive_avg_pool2d(control(span).mean(1), size) for span in spans]
        return torch.stack(cells, dim=1)

    later = range(1, frames, STRIDE)
    seen = means([slice(0, 1), *(slice(first, first + STRIDE) for first in later)], latent)
    # The first frame, doubled, is a tubelet of its own.
    tubelets = [slice(0, 1), *(slice(first, first + TUBELET) for first in range(1, frames, TUBELET))]
    return seen, means(tubelets, (physics_side, physics_side))


def felt_by(
    force: PointForce | Wind, *, width: int, height: int, frames: int, latent: tuple[int, int], physics_side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What both branches are told of a force in a clip of this size: see in_cells."""
    control = partial(control_video, force, width=width, height=height, frames=frames)
    return in_cells(lambda span: control(part=span), frames=frames, latent=latent, physics_side=physics_side)
