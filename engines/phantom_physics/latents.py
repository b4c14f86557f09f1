"""Physics latents: V-JEPA 2 features of a clip, aligned with the video's latent frames, pooled and normalised.

A clip of 4n+1 frames has 2n+1 tubelets: the first frame is doubled, so that tubelet 0 is latent frame 0 and tubelets
2k-1 and 2k are latent frame k. Features look at the whole clip they are given: those of given frames must be computed
from these frames alone, or the future leaks in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from engines.phantom_physics.encoder import Resize, VideoEncoder, pixel_values

TUBELET = 2  # frames


class Window(NamedTuple):
    """One pass of the encoder: tubelets `start` to `stop` go in, those from `first` on are kept."""

    start: int
    stop: int
    first: int


@dataclass(frozen=True)
class PhysicsSpace:
    """How frames become physics latents, as a checkpoint was trained.

    Attributes:
        size: side of the square that the encoder sees, in pixels.
        pool: features are averaged over pool x pool patches.
        max_frames: longest clip of one encoder pass.
        resize: how a frame becomes a square: see engines.phantom_physics.encoder.
    """

    size: int = 256
    pool: int = 2
    max_frames: int = 64
    resize: Resize = "squash"

    def side(self, patch: int = 16) -> int:
        """Rows and columns of the latents."""
        return self.size // patch // self.pool


def tubelet_count(frames: int) -> int:
    """Tubelets of a clip of 4n+1 frames, the first of them doubled: 2n+1."""
    return (frames + 1) // TUBELET


def doubled_first(frames: np.ndarray) -> np.ndarray:
    """Frames [T,...] -> [T+1,...] with the first shown twice."""
    return np.concatenate([frames[:1], frames])


def windows(tubelets: int, *, longest: int) -> list[Window]:
    """Passes that cover `tubelets`: every `longest` of them, the last moved left so that it ends with the clip."""
    found = []
    for first in range(0, tubelets, longest):
        stop = min(first + longest, tubelets)
        found.append(Window(max(0, stop - longest), stop, first))
    return found


@torch.no_grad()
def encode(encoder: VideoEncoder, frames: np.ndarray, space: PhysicsSpace) -> torch.Tensor:
    """Frames uint8 [T,H,W,3], T odd -> pooled features [C,(T+1)/2,h,w], float32, on the CPU, not yet normalised.

    Raises:
        ValueError: an even number of frames.
    """
    if len(frames) % TUBELET == 0:
        raise ValueError(f"{len(frames)} frames: the first is doubled, so their number must be odd")
    pixels = pixel_values(doubled_first(frames), size=space.size, resize=space.resize)
    return passes(encoder, pixels[None], space)[0].cpu()


@torch.no_grad()
def passes(encoder: VideoEncoder, pixels: torch.Tensor, space: PhysicsSpace) -> torch.Tensor:
    """Pixel values [B,3,2N,S,S] of clips whose first frame is doubled -> pooled features [B,C,N,h,w], float32.

    Args:
        pixels: see engines.phantom_physics.encoder.pixel_values; anywhere.

    Returns:
        Where the encoder is, not yet normalised.
    """
    kept, side = [], space.size // encoder.config.patch_size
    for window in windows(pixels.shape[2] // TUBELET, longest=space.max_frames // TUBELET):
        seen = pixels[:, :, window.start * TUBELET : window.stop * TUBELET].to(encoder.device, encoder.dtype)
        features = encoder(seen).float()
        grid = features.transpose(1, 2).unflatten(2, (window.stop - window.start, side, side))
        kept.append(pooled(grid[:, :, window.first - window.start :], space.pool))
    return torch.cat(kept, dim=2)


def pooled(features: torch.Tensor, pool: int) -> torch.Tensor:
    """[...,N,h,w] averaged over pool x pool patches."""
    return torch.nn.functional.avg_pool3d(features, (1, pool, pool)) if pool > 1 else features


def normalised(
    features: torch.Tensor, mean: torch.Tensor | None = None, deviation: torch.Tensor | None = None
) -> torch.Tensor:
    """[...,C,N,h,w] -> per channel mean 0 and deviation 1 of the statistics [C].

    A few channels of such features are huge and would own the loss. Without statistics every token is normalised over
    its channels, as V-JEPA does with its own targets.
    """
    if mean is None or deviation is None:
        channels = features.movedim(-4, -1)
        return torch.nn.functional.layer_norm(channels, channels.shape[-1:]).movedim(-1, -4)
    shape = (-1, 1, 1, 1)
    return (features - mean.to(features).view(shape)) / deviation.to(features).view(shape)


class Statistics:
    """Mean and deviation of every channel, gathered clip by clip in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._sum, self._squares = (torch.zeros(channels, dtype=torch.float64) for _ in range(2))

    def add(self, features: torch.Tensor) -> None:
        """Features [C,N,h,w] of one more clip."""
        values = features.double().flatten(1)
        self.count += values.shape[1]
        self._sum += values.sum(1)
        self._squares += values.square().sum(1)

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation [C], float32; a channel that never changes gets deviation 1.

        Raises:
            ValueError: nothing was added.
        """
        if not self.count:
            raise ValueError("no clip was added")
        mean = self._sum / self.count
        deviation = (self._squares / self.count - mean.square()).clamp(min=0).sqrt()
        return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()
