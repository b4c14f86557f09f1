"""BindWeave's training objective: noise levels of a shifted grid, weighted by a bell over the timesteps.

Source: BindWeave train branch (flow matching, shift 5, 1000 noise levels, weights exp(-2((t-500)/1000)^2)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.sampling.denoise import TRAINING_STEPS

from ..flow import noised
from ..shifted import shift_sigmas


@dataclass(frozen=True)
class Bell:
    """The grid of noise levels that training draws from, and how much each of them counts; both [1000], float32."""

    sigmas: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, shift: float) -> Bell:
        """Levels 1 .. 1/1000, shifted; the bell is lowered to begin at 0 and has mean 1 over the grid."""
        sigmas = shift_sigmas(torch.linspace(1, 0, TRAINING_STEPS + 1)[:-1], shift)
        bell = torch.exp(-2 * (sigmas - 0.5) ** 2)
        bell = bell - bell.min()
        return cls(sigmas, bell / bell.mean())

    def draw(self, count: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise levels [count] and their weights [count]; any level as often as another."""
        drawn = torch.randint(TRAINING_STEPS, (count,), generator=rng)
        return self.sigmas[drawn], self.weights[drawn]


def losses(
    network: BindWeaveTransformer3DModel,
    clean: torch.Tensor,
    rng: torch.Generator,
    *,
    bell: Bell,
    **conditions: Any,
) -> torch.Tensor:
    """Weighted squared velocity errors [B] over the clip's own frames; the network cuts off those of the pictures.

    Args:
        clean: latents [B,C,F,h,w].
        conditions: mllm, text, clip and condition, as of the network's forward.
    """
    sigmas, weights = (values.to(clean.device) for values in bell.draw(len(clean), rng))
    noisy, velocity = noised(clean, sigmas, rng)
    predicted = network(noisy, sigmas * TRAINING_STEPS, **conditions)
    return (predicted.float() - velocity).square().mean((1, 2, 3, 4)) * weights
