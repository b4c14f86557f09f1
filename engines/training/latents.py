"""A latent space that exists before any network is trained: principal components of pixel blocks.

The starter VAE's encoder is taught to reproduce it, so networks can train on these latents while the VAE does.
Video [B,3,T,H,W] in [-1,1] with T = t*n+1 becomes latents [B,Z,n+1,H/s,W/s]: the first frame in blocks of s x s
pixels, every further t frames in blocks of s x s x t. `Blocks` says s and t.
Each component is divided by the square root of its deviation (a natural spectrum: fully whitened latents made
noise-like blobs), then all by one number so that their mean square is 1.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from engines.loading.integrity import FACTS_KEY


class Blocks(NamedTuple):
    """Size of a block: `space` x `space` pixels, `time` frames."""

    space: int
    time: int


def _blocks(video: torch.Tensor, size: Blocks) -> torch.Tensor:
    """[B,3,T,H,W] -> [B, T/t, H/s, W/s, 3*t*s*s]."""
    batch, channels, frames, height, width = video.shape
    space, time = size
    shape = (batch, channels, frames // time, time, height // space, space, width // space, space)
    return video.reshape(shape).permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def _unblock(blocks: torch.Tensor, size: Blocks) -> torch.Tensor:
    batch, count, rows, columns, _ = blocks.shape
    space, time = size
    shaped = blocks.reshape(batch, count, rows, columns, 3, time, space, space)
    return shaped.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(batch, 3, count * time, rows * space, columns * space)


@dataclass(frozen=True, kw_only=True)
class BlockLatents:
    """The linear code. Bases have orthonormal rows [Z, block size]; `scale` [Z] multiplies coefficients."""

    video_basis: torch.Tensor
    video_mean: torch.Tensor
    image_basis: torch.Tensor
    image_mean: torch.Tensor
    scale: torch.Tensor

    @property
    def space(self) -> int:
        """Side of a block in pixels."""
        return math.isqrt(self.image_basis.shape[1] // 3)

    @property
    def time(self) -> int:
        """Frames of one latent after the first."""
        return self.video_basis.shape[1] // self.image_basis.shape[1]

    @property
    def _still(self) -> Blocks:
        return Blocks(self.space, 1)

    @property
    def _moving(self) -> Blocks:
        return Blocks(self.space, self.time)

    @property
    def channels(self) -> int:
        """Number of latent channels Z."""
        return self.scale.numel()

    def to(self, device: torch.device) -> "BlockLatents":
        """The same code with its tables on a device."""
        return BlockLatents(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Video [B,3,t*n+1,H,W] in [-1,1] -> latents [B,Z,n+1,H/s,W/s]."""
        first = (_blocks(video[:, :, :1], self._still) - self.image_mean) @ self.image_basis.T * self.time**0.5
        parts = [first]
        if video.shape[2] > 1:
            parts.append((_blocks(video[:, :, 1:], self._moving) - self.video_mean) @ self.video_basis.T)
        return (torch.cat(parts, 1) * self.scale).permute(0, 4, 1, 2, 3)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Best linear reconstruction, not clamped; the inverse of `encode` up to the dropped components."""
        codes = latents.permute(0, 2, 3, 4, 1) / self.scale
        video = _unblock(codes[:, :1] / self.time**0.5 @ self.image_basis + self.image_mean, self._still)
        if latents.shape[2] > 1:
            rest = _unblock(codes[:, 1:] @ self.video_basis + self.video_mean, self._moving)
            video = torch.cat([video, rest], 2)
        return video

    def save(self, path: Path) -> None:
        """Write all tables as safetensors."""
        tensors = {name: getattr(self, name).contiguous() for name in self.__dataclass_fields__}
        save_file(tensors, path, metadata={FACTS_KEY: json.dumps({"class": "BlockLatents"})})

    @classmethod
    def load(cls, path: Path) -> "BlockLatents":
        """Read what `save` wrote."""
        return cls(**load_file(path))


def to_unit(frames: np.ndarray) -> torch.Tensor:
    """uint8 [...,T,H,W,3] -> float32 [...,3,T,H,W] in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).float().div(127.5).sub(1).movedim(-1, -4)


def to_levels(video: torch.Tensor) -> np.ndarray:
    """float [...,3,T,H,W] in [-1,1] -> uint8 [...,T,H,W,3]."""
    return whole_levels(video).to(torch.uint8).movedim(-4, -1).contiguous().numpy()


def whole_levels(video: torch.Tensor) -> torch.Tensor:
    """Values in [-1,1] -> the whole numbers 0..255 that stand for them in a file, in the same type."""
    return video.clamp(-1, 1).add(1).mul(127.5).round()


def _components(blocks: torch.Tensor, weights: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    mean = (blocks * weights[:, None]).sum(0) / weights.sum()
    centred = (blocks - mean).double()
    covariance = (centred * weights[:, None]).T @ centred / weights.sum()
    _, vectors = torch.linalg.eigh(covariance)
    return vectors.flip(1)[:, :count].T.float().contiguous(), mean


def fit(videos: list[torch.Tensor], weights: list[torch.Tensor], *, channels: int, size: Blocks) -> BlockLatents:
    """Fit the code to videos [3,t*n+1,H,W]; weights [n+1,H/s,W/s] say how much each block counts."""
    still, time = Blocks(size.space, 1), size.time
    video_blocks = torch.cat([_blocks(v[None, :, 1:], size).flatten(0, 3) for v in videos])
    video_weights = torch.cat([w[1:].flatten() for w in weights])
    image_blocks = torch.cat([_blocks(v[None, :, ::time], still).flatten(0, 3) for v in videos])
    image_weights = torch.cat([w.flatten() for w in weights])
    video_basis, video_mean = _components(video_blocks, video_weights, channels)
    image_basis, image_mean = _components(image_blocks, image_weights, channels)
    # Rotate the image basis so that a still block has about the same code in both (orthogonal Procrustes).
    centred = image_blocks - image_mean
    repeated = centred.reshape(-1, 3, 1, size.space**2).repeat(1, 1, time, 1).flatten(1)
    wanted, given = repeated @ video_basis.T, centred @ image_basis.T * time**0.5
    left, _, right = torch.linalg.svd((given * image_weights[:, None]).T @ wanted)
    image_basis = (left @ right).T @ image_basis
    codes = (video_blocks - video_mean) @ video_basis.T
    deviation = ((codes**2 * video_weights[:, None]).sum(0) / video_weights.sum()).sqrt()
    scale = deviation**-0.5
    scale = scale / ((codes * scale) ** 2).mean().sqrt()
    return BlockLatents(
        video_basis=video_basis,
        video_mean=video_mean,
        image_basis=image_basis,
        image_mean=image_mean,
        scale=scale,
    )
