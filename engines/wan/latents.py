"""The latent space of a Wan autoencoder: its geometry, its statistics, and a quick look into it.

Latents are [C,F,h,w] for one clip and [B,C,F,h,w] in batches, float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from engines.loading.integrity import odd
from engines.loading.networks import Network
from engines.wan.strides import spatial_stride, temporal_stride


def latent_shape(config: Mapping[str, Any], *, width: int, height: int, frames: int) -> tuple[int, int, int, int]:
    """(C, F, h, w) of a clip in pixels: the first frame alone, then one latent frame per temporal stride."""
    space, time = spatial_stride(config), temporal_stride(config)
    return config["z_dim"], (frames - 1) // time + 1, height // space, width // space


def normalised(latents: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    """[B,C,F,h,w] as the encoder gives them -> mean 0 and deviation 1 per channel, as transformers expect them."""
    mean, deviation = _statistics(config, like=latents)
    return (latents - mean) / deviation


def denormalised(latents: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    """The inverse of `normalised`."""
    mean, deviation = _statistics(config, like=latents)
    return latents * deviation + mean


def preview_factors(vae: Network, *, channels: int) -> Mapping[str, Any] | None:
    """How a starter's latents become preview colours, see `preview`; None for published files.

    Raises:
        IncompatibleCheckpoint: the file's factors are none for this many channels.
    """
    factors = vae.fact("rgb_factors", dict[str, Any] | None, None)
    if factors is None:
        return None
    try:
        weight, bias = (torch.tensor(factors[name], dtype=torch.float32) for name in ("weight", "bias"))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise odd(vae.name, "rgb_factors") from error
    if weight.shape != (channels, 3) or bias.shape != (3,) or not (weight.isfinite().all() and bias.isfinite().all()):
        raise odd(vae.name, "rgb_factors")
    return factors


def preview(latents: torch.Tensor, factors: Mapping[str, Any] | None) -> np.ndarray:
    """Latents [C,F,h,w] -> a rough picture of every latent frame, uint8 [F,h,w,3], without the autoencoder.

    Args:
        factors: {"weight": [C,3], "bias": [3]}, fitted by least squares to pixels in [-1,1]. Without them (published
            files carry none) every third channel is averaged into red, green and blue: shapes and motion can be seen,
            colours mean nothing.
    """
    channels = latents.float().movedim(0, -1)
    if factors is None:
        count = channels.shape[-1] // 3 * 3
        colours = channels[..., :count].unflatten(-1, (-1, 3)).mean(-2) * 0.5
    else:
        colours = channels @ channels.new_tensor(factors["weight"]) + channels.new_tensor(factors["bias"])
    return ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def _statistics(config: Mapping[str, Any], *, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the channels as [1,C,1,1,1]."""
    mean, deviation = (like.new_tensor(config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    return mean, deviation
