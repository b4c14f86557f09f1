"""Pyramidal flow matching: one flow cut into stages of rising resolution, and the renoising between them.

Source: Pyramid-Flow diffusion_schedulers/scheduling_flow_matching.py and the stage change of
pyramid_dit_for_video_gen_pipeline.py (generate_one_unit); paper arXiv 2410.05954, section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from engines.sampling.denoise import TRAINING_STEPS

STAGES = 3


class StageSchedule(NamedTuple):
    """Timesteps [n] on the 0..1000 scale (no whole numbers) and sigmas [n+1], which fall from 1 to 0 in every stage."""

    timesteps: torch.Tensor
    sigmas: torch.Tensor

    def step(self, index: int, latents: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        """The Euler step `index`, in float32."""
        return latents + (self.sigmas[index + 1] - self.sigmas[index]).item() * velocity


@dataclass(frozen=True)
class PyramidScheduler:
    """The noise levels of every stage.

    Attributes:
        shift: sigma -> shift * sigma / (1 + (shift - 1) * sigma) on the training grid.
        stage_range: bounds of the stages on the training grid, rising from 0 to 1.
        gamma: the pixels of a 2x2 block of the renoise have correlation -gamma.
    """

    train_timesteps: int = TRAINING_STEPS
    shift: float = 1.0
    stage_range: tuple[float, ...] = (0, 1 / 3, 2 / 3, 1)
    gamma: float = 1 / 3

    @property
    def stages(self) -> int:
        """How many resolutions there are; each doubles the one before."""
        return len(self.stage_range) - 1

    @cached_property
    def original_starts(self) -> list[float]:
        """The sigma at which each stage would start without renoising."""
        return [float(self._grid[int(bound * self.train_timesteps)]) for bound in self.stage_range[:-1]]

    @cached_property
    def starts(self) -> list[float]:
        """The sigma at which each stage starts; a later one is, renoised, noisier than the one before ended."""
        corrected = [1 - self.renoise(stage)[0] * (1 - self.original_starts[stage]) for stage in range(1, self.stages)]
        return self.original_starts[:1] + corrected

    @cached_property
    def ends(self) -> list[float]:
        """The sigma at which each stage ends; the last one is clean."""
        return [*self.original_starts[1:], 0.0]

    @cached_property
    def ratios(self) -> list[tuple[float, float]]:
        """Where each stage begins and ends on the axis of all stages' lengths together, 0 to 1."""
        bounds = np.cumsum([0.0] + [start - end for start, end in zip(self.starts, self.ends, strict=True)])
        bounds = bounds / bounds[-1]
        return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))

    def training_timesteps(self, stage: int) -> np.ndarray:
        """The stage's own grid of `train_timesteps` timesteps, falling, float64."""
        begin, end = (min(int(ratio * self.train_timesteps), self.train_timesteps - 1) for ratio in self.ratios[stage])
        highest, lowest = (float(self._grid[index] * np.float32(self.train_timesteps)) for index in (begin, end))
        return np.linspace(highest, lowest, self.train_timesteps + 1)[:-1]

    def training_sigmas(self) -> np.ndarray:
        """The grid inside every stage: how much of its start is left, from 1 to just above 0, float64."""
        return np.linspace(1, 0, self.train_timesteps + 1)[:-1]

    def schedule(self, stage: int, steps: int) -> StageSchedule:
        """`steps` steps through `stage`; the last one, from the grid's end to 0, is tiny."""
        timesteps, sigmas = self.training_timesteps(stage), self.training_sigmas()
        return StageSchedule(
            torch.from_numpy(np.linspace(timesteps[0], timesteps[-1], steps)).float(),
            torch.from_numpy(np.append(np.linspace(sigmas[0], sigmas[-1], steps), 0)).float(),
        )

    def renoise(self, stage: int) -> tuple[float, float]:
        """(alpha, beta) of the change into `stage` > 0: latents enlarged x2 -> alpha * latents + beta * block noise."""
        noise_share = self.original_starts[stage]
        alpha = 1 / (math.sqrt(1 + 1 / self.gamma) * noise_share + 1 - noise_share)
        return alpha, alpha * noise_share / math.sqrt(self.gamma)

    @cached_property
    def _grid(self) -> np.ndarray:
        """Sigmas of the training grid, float32 as published."""
        sigmas = np.arange(self.train_timesteps, 0, -1, dtype=np.float32) / np.float32(self.train_timesteps)
        return (self.shift * sigmas / (1 + (self.shift - 1) * sigmas)).astype(np.float32)
