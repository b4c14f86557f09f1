"""FlashI2V's training objective: noise levels shifted by the clip's size, and a first frame subtracted from the input.

Source: FlashI2V flashi2v/schedulers/flashi2v_flow_matching.py, training_losses.
"""

from __future__ import annotations

import math

import torch

from engines.sampling.denoise import TRAINING_STEPS


def dynamic_shift(
    area: int, *, base_seq: int = 256, max_seq: int = 4096, base_shift: float = 0.5, max_shift: float = 1.15
) -> float:
    """The factor of `shift_sigmas` for latents of `area` = h*w; 2.06 for 832x480."""
    slope = (max_shift - base_shift) / (max_seq - base_seq)
    return math.exp(base_shift + slope * (area // 4 - base_seq))


def shift_sigmas(sigmas: torch.Tensor, factor: float) -> torch.Tensor:
    """Noise levels in 0..1 -> higher ones, the more the larger `factor`."""
    return factor * sigmas / (1 + (factor - 1) * sigmas)


def draw_shifted_sigmas(count: int, rng: torch.Generator, *, factor: float) -> torch.Tensor:
    """Noise levels [count]: sigmoid of a standard normal, shifted."""
    return shift_sigmas(torch.sigmoid(torch.randn(count, generator=rng)), factor)


def shifted_input(
    clean: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the network sees, its timesteps [B], and the velocity it must predict.

    The shift is in the input alone: its gradient flows through what is seen, the target stays noise - clean.

    Args:
        clean, noise: [B,C,F,h,w].
        sigmas: [B].
        shift: [B,C,1 or F,h,w].
    """
    level = sigmas.view(-1, 1, 1, 1, 1)
    return level * noise + (1 - level) * clean - shift, sigmas * TRAINING_STEPS, noise - clean
