"""The noise of Pyramid Flow: of a unit's start, and of the change from one stage to the next.

Everything is drawn on the CPU from the request's seed, so one seed is one clip on every device. Latents are
[B,C,T,h,w]. The published code draws the block noise from the global random state, one block at a time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from torch.nn.functional import interpolate

Draw = Callable[[tuple[int, ...]], torch.Tensor]


def unit_draws(seed: int, unit: int) -> Draw:
    """shape -> standard normal float32 values for `unit`: the same whatever units were made before it in this run.

    So a longer clip begins with the shorter one of the same seed, and a continued clip is the one never interrupted.
    """
    digest = hashlib.sha256(f"{seed} {unit}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
    return lambda shape: torch.randn(shape, generator=generator)


def resized(latents: torch.Tensor, height: int, width: int, *, mode: str = "bilinear") -> torch.Tensor:
    """[B,C,T,h,w] -> [B,C,T,height,width], frame by frame."""
    frames = latents.movedim(2, 1).flatten(0, 1)
    frames = interpolate(frames, size=(height, width), mode=mode)
    return frames.unflatten(0, (latents.shape[0], latents.shape[2])).movedim(1, 2)


def halved(latents: torch.Tensor) -> torch.Tensor:
    """Half the height and width: every pixel is the mean of four."""
    return resized(latents, latents.shape[-2] // 2, latents.shape[-1] // 2)


def coarsest(noise: torch.Tensor, stages: int) -> torch.Tensor:
    """Noise of the full latent size -> of the first stage's; the mean of four has half the deviation, so x2."""
    for _ in range(stages - 1):
        noise = halved(noise) * 2
    return noise


def block_noise(draws: torch.Tensor, gamma: float) -> torch.Tensor:
    """Independent draws [..., h, w] -> the same with covariance (1 + gamma) I - gamma in every 2x2 block.

    At the published gamma of 1/3 the covariance is singular (each block sums to zero), so no Cholesky factor exists;
    its symmetric root is a multiple of "minus a share of the block's mean", which is exact for every gamma <= 1/3.
    """
    blocks = draws.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))  # [..., h/2, 2, w/2, 2]
    share = 1 - math.sqrt(max(0.0, 1 - 4 * gamma / (1 + gamma)))
    noise = math.sqrt(1 + gamma) * (blocks - share * blocks.mean(dim=(-3, -1), keepdim=True))
    return noise.flatten(-4, -3).flatten(-2, -1)


def next_stage(latents: torch.Tensor, noise: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """The stage before's result enlarged x2 (nearest) and renoised with block `noise` of the new size."""
    enlarged = resized(latents, latents.shape[-2] * 2, latents.shape[-1] * 2, mode="nearest")
    return alpha * enlarged + beta * noise.to(enlarged)
