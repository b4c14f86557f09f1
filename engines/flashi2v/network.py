"""FlashI2V's transformer: Wan's own, and the two small paths by which the first frame enters it.

Latent shifting subtracts a learned projection of the first frame's latent from what the network sees; Fourier guidance
adds the latent's high frequencies at the patch embedding. Source: FlashI2V flashi2v/modules/flashi2v.py,
flashi2v/utils/filter.py (branch main), mindspeed_mm/models/predictor/dits/flashi2v_dit.py (branch npu).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import WanTransformer3DModel
from torch import nn

PUBLISHED_RATIO = 0.1
PROJECTION_WIDTH = 64
_TINY = 1e-12  # under the roots, as published

# How the picture enters: as published, or one of the two ways the paper argues against.
Variant = Literal["full", "concatenation", "shift"]
Interpolation = Literal["bicubic", "bilinear"]


def fourier_features(
    first: torch.Tensor,
    ratio: float | Sequence[float] | torch.Tensor = PUBLISHED_RATIO,
    *,
    magnitude: bool = True,
    cutoff: float | Sequence[float] | torch.Tensor | None = None,
) -> torch.Tensor:
    """The high frequencies of latents [B,C,h,w], the same shape, float32.

    Frequencies are circles in bins, also where h and w differ. Each sample's cut-off is the smallest radius within
    which lies at least `ratio` of the spectrum's magnitude, averaged over channels; what lies on it is kept.

    Args:
        ratio: 0 keeps everything, 1 only the outermost frequencies; one number, or one for each sample.
        magnitude: drop the sign of the result, so that the picture cannot simply be copied (published).
        cutoff: the radius itself, in bins, instead of `ratio`.
    """
    count, _, height, width = first.shape
    spectrum = torch.fft.fftshift(torch.fft.fft2(first.float()), dim=(-2, -1))
    rows = torch.arange(height, device=first.device) - height // 2
    columns = torch.arange(width, device=first.device) - width // 2
    radius = (rows[:, None].square() + columns.square()).float().sqrt()
    if cutoff is None:
        cutoff = _cutoff(_modulus(spectrum).mean(1), radius, _each(ratio, count, first.device))
    kept = radius >= _each(cutoff, count, first.device).view(-1, 1, 1, 1)
    passed = torch.fft.ifft2(torch.fft.ifftshift(spectrum * kept, dim=(-2, -1)))
    return _modulus(passed) if magnitude else passed.real


def _cutoff(strength: torch.Tensor, radius: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
    """Radius [B] within which `ratio` [B] of the strength [B,h,w] lies."""
    order = radius.flatten().argsort(stable=True)
    gathered = strength.flatten(1)[:, order].cumsum(1)
    found = torch.searchsorted(gathered, (ratio * gathered[:, -1])[:, None].contiguous())
    return radius.flatten()[order][found[:, 0].clamp(max=len(order) - 1)]


def _modulus(values: torch.Tensor) -> torch.Tensor:
    return (values.real.square() + values.imag.square() + _TINY).sqrt()


def _each(value: float | Sequence[float] | torch.Tensor, count: int, device: torch.device) -> torch.Tensor:
    """One number for each sample, float32 [count]."""
    return torch.as_tensor(value, dtype=torch.float32, device=device).expand(count)


class ShiftProjection(nn.Sequential):
    """First-frame latent -> what is subtracted from the clip's latents; zero before any training."""

    def __init__(self, channels: int, *, width: int = PROJECTION_WIDTH, kernel: Sequence[int] = (1, 3, 3)) -> None:
        padding = tuple(side // 2 for side in kernel)
        super().__init__(
            nn.Conv3d(channels, width, tuple(kernel), padding=padding),
            nn.SiLU(),
            nn.Conv3d(width, channels, tuple(kernel), padding=padding),
        )
        _start_at_zero(self[0], self[2])

    def shift(self, first: torch.Tensor, frames: int) -> torch.Tensor:
        """Latent [B,C,1,h,w] -> shift [B,C,frames,h,w], in the projection's precision and on its device.

        The frame is repeated before it is projected: kernels that reach through time see the padding at both ends,
        so the first and last two frames differ (the released weights). For 1x3x3 kernels one frame tells all.
        """
        seen = first.to(self[0].weight)
        through_time = self[0].kernel_size[0] > 1
        projected = super().forward(seen.expand(-1, -1, frames, -1, -1) if through_time else seen)
        return projected.expand(-1, -1, frames, -1, -1)


class GuidedPatches(nn.Conv3d):
    """Patch embedding of latents [B,2C,F,h,w] whose last C channels are the picture's features."""

    def __init__(self, channels: int, width: int, patch: Sequence[int]) -> None:
        super().__init__(channels, width, kernel_size=tuple(patch), stride=tuple(patch))
        self.fourier_embedding = nn.Sequential(
            nn.Conv3d(channels, width, kernel_size=tuple(patch), stride=tuple(patch)), nn.Conv3d(width, width, 1)
        )
        _start_at_zero(*self.fourier_embedding)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Tokens [B,D,F,h/2,w/2] of both."""
        noisy, features = latents.chunk(2, dim=1)
        return super().forward(noisy) + self.fourier_embedding(features)


def _start_at_zero(first: nn.Conv3d, last: nn.Conv3d) -> None:
    """A fresh path adds nothing, so that training starts from the text-to-video model."""
    for values in (first.bias, last.weight, last.bias):
        nn.init.zeros_(values)


class FlashI2VTransformer3DModel(WanTransformer3DModel):
    """diffusers' Wan transformer over latents and picture features stacked as [B,2C,F,h,w].

    Args:
        projection_kernel: (1,3,3), or (3,3,3) as released.
        variant: how the picture enters. "concatenation" embeds the plain latent and shifts nothing, "shift" leaves the
            Fourier features out; both exist to be compared with "full".
        interpolation: how the picture is resized before it is encoded, as the files were trained: "bicubic" on branch
            main, "bilinear" on npu.
        config: as of WanTransformer3DModel; `in_channels` counts the latents' alone.
    """

    def __init__(
        self,
        *,
        projection_kernel: Sequence[int] = (1, 3, 3),
        projection_width: int = PROJECTION_WIDTH,
        variant: Variant = "full",
        interpolation: Interpolation = "bicubic",
        **config: Any,
    ) -> None:
        super().__init__(**config)
        self.register_to_config(
            projection_kernel=tuple(projection_kernel),
            projection_width=projection_width,
            variant=variant,
            interpolation=interpolation,
        )
        channels, width = self.config.in_channels, self.config.num_attention_heads * self.config.attention_head_dim
        self.patch_embedding = GuidedPatches(channels, width, self.config.patch_size)
        self.learnable_proj = ShiftProjection(channels, width=projection_width, kernel=projection_kernel)

    def shift_and_features(
        self, first: torch.Tensor, *, frames: int, ratio: float | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First-frame latents [B,C,1,h,w] -> latent shift and Fourier features, both float32 [B,C,frames,h,w].

        Nothing here depends on the step or the text: once for a whole clip is enough.
        """
        long = first.float().expand(-1, -1, frames, -1, -1)
        match self.config.variant:
            case "concatenation":
                return torch.zeros_like(long), long
            case "shift":
                return self._shift(first, frames), torch.zeros_like(long)
        return self._shift(first, frames), fourier_features(first[:, :, 0], ratio)[:, :, None].expand_as(long)

    def _shift(self, first: torch.Tensor, frames: int) -> torch.Tensor:
        return self.learnable_proj.shift(first, frames).to(first.device, torch.float32)
