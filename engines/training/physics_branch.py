"""What the recipes of physics branches share: their settings, a fresh branch, and what it learns to denoise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from engines.phantom_physics.checkpoint import Encoder
from engines.phantom_physics.encoder import in_statistics, squashed
from engines.phantom_physics.latents import TUBELET, PhysicsSpace, Statistics, normalised, passes
from engines.phantom_physics.network import ChannelStatistics, PhysicsBranch

from .latents import whole_levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchSettings:
    """The branch, its couplings, its latents, and the weight of its loss."""

    physics_dim: int
    physics_ffn_dim: int
    physics_num_heads: int
    coupling_layers: str | int = "all"
    coupling_rope: str = "aligned"
    coupling_head_dim: int
    crop: int  # side of what the encoder sees
    pool: int
    max_frames: int = 64
    statistics_clips: int
    shift: float
    given_share: float
    alpha_max: float = 1.0
    alpha_ramp: int = 1000
    alpha_limit: float = 1.0
    takes_force: bool = False

    @property
    def space(self) -> PhysicsSpace:
        """How frames become physics latents."""
        return PhysicsSpace(self.crop, self.pool, self.max_frames)

    def encoder_settings(self, channels: int, **told: Any) -> Encoder:
        """The same for a checkpoint's description."""
        return Encoder(hidden_size=channels, crop_size=self.crop, max_frames=self.max_frames, pool=self.pool, **told)

    def told(self, *, seed: int, step: int) -> dict[str, Any]:
        """How the branch was trained, for a checkpoint's description."""
        return {
            "shift": self.shift,
            "alpha_max": self.alpha_max,
            "ramp": self.alpha_ramp,
            "eta_z": self.alpha_limit,
            "steps": step,
            "seed": seed,
        }


class RandomProjection(torch.nn.Module):
    """What is compared with an encoder: fixed random projections of the same patches, which know nothing.

    Args:
        channels: of its features.
    """

    def __init__(self, channels: int, *, patch: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.config = SimpleNamespace(patch_size=patch)
        size = 3 * TUBELET * patch * patch
        drawn = torch.randn(channels, size, generator=torch.Generator().manual_seed(seed)) * size**-0.5
        self.register_buffer("kernel", drawn.view(channels, 3, TUBELET, patch, patch))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.kernel.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.kernel.dtype

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Video [B,3,T,H,W] -> features [B,N,C] as a VideoEncoder gives them."""
        steps = self.kernel.shape[2:]
        return torch.nn.functional.conv3d(video, self.kernel, stride=steps).flatten(2).transpose(1, 2)


class Targets:
    """Physics latents of clips, as an encoder sees them.

    Args:
        eyes: the encoder; frozen.
        kept: where the channels' statistics are.
    """

    def __init__(self, eyes: torch.nn.Module, space: PhysicsSpace, kept: ChannelStatistics) -> None:
        self.eyes, self.space, self.kept = eyes.eval().requires_grad_(False), space, kept
        self.measured = False

    def features(self, clips: torch.Tensor) -> torch.Tensor:
        """[B,C,N,h,w] of clips [B,3,T,H,W] in [-1,1], each seen alone, not yet normalised."""
        levels = whole_levels(clips) / 255
        shown = torch.cat([levels[:, :, :1], levels], 2).transpose(1, 2)
        squares = squashed(shown.flatten(0, 1), self.space.size).unflatten(0, shown.shape[:2]).transpose(1, 2)
        return passes(self.eyes, in_statistics(squares), self.space)

    def look(self, clips: torch.Tensor) -> torch.Tensor:
        """The same, normalised, where the clips are."""
        return normalised(self.features(clips).to(clips.device), self.kept.mean, self.kept.std)

    @torch.no_grad()
    def of(self, video: torch.Tensor, given: Sequence[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Clips [B,3,T,H,W] -> their latents [B,C,N,h,w], and for each those of its `given` frames seen alone."""
        self.eyes.to(video.device)
        with torch.autocast(video.device.type, enabled=False):
            whole = self.look(video)
            alone = [latents[:, :0] for latents in whole]
            for frames in sorted(set(given) - {0}):
                rows = [index for index, count in enumerate(given) if count == frames]
                for index, latents in zip(rows, self.look(video[rows, :, :frames]), strict=True):
                    alone[index] = latents
        return whole, alone

    @torch.no_grad()
    def measure(self, opened: Callable[[], torch.utils.data.Dataset], clips: int) -> None:
        """Mean and deviation of each channel over the first `clips` of the data, which are opened for it; once."""
        if self.measured:
            return
        data = opened()
        gathered, counted, index = Statistics(len(self.kept.mean)), 0, 0
        self.eyes.to(self.kept.mean.device)
        while counted < clips:
            for features in self.features(data[index % len(data)]["video"].to(self.kept.mean.device)):
                gathered.add(features.cpu())
                counted += 1
            index += 1
        self.set(*gathered.result())

    @torch.no_grad()
    def set(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Takes statistics [C] that were measured before."""
        self.kept.mean.copy_(mean)
        self.kept.std.copy_(std)
        self.measured = True

    def state(self) -> dict[str, torch.Tensor]:
        """The statistics, for a run that goes on later; nothing before they were measured."""
        return {name: getattr(self.kept, name).detach().cpu() for name in ("mean", "std")} if self.measured else {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Takes what `state` gave."""
        if "mean" in state:
            self.set(state["mean"], state["std"])


def build_branch(settings: BranchSettings, visual: Any, *, channels: int) -> PhysicsBranch:
    """A fresh branch for a visual transformer of this configuration, started as Wan is: head and answers at zero."""
    branch = PhysicsBranch(
        visual_width=visual.num_attention_heads * visual.attention_head_dim,
        coupling_layers=settings.coupling_layers,
        coupling_rope=settings.coupling_rope,
        coupling_head_dim=settings.coupling_head_dim,
        takes_force=settings.takes_force,
        patch_size=(1, 1, 1),
        num_attention_heads=settings.physics_num_heads,
        attention_head_dim=settings.physics_dim // settings.physics_num_heads,
        in_channels=channels,
        out_channels=channels,
        text_dim=visual.text_dim,
        freq_dim=visual.freq_dim,
        ffn_dim=settings.physics_ffn_dim,
        num_layers=visual.num_layers,
        cross_attn_norm=visual.cross_attn_norm,
    )
    for name, layer in branch.named_modules():
        if ".coupling." in name or name.startswith("force."):
            continue
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv3d):
            embeds = any(part in name for part in ("text_embedder", "time_embedder"))
            if embeds:
                torch.nn.init.normal_(layer.weight, std=0.02)
            else:
                torch.nn.init.xavier_uniform_(layer.weight.flatten(1))
            torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(branch.proj_out.weight)
    return branch
