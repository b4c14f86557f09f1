"""The denoising loop and the schedules of flow matching.

Velocity model: x_t = (1 - sigma) x_0 + sigma noise; the network predicts v = noise - x_0, so x_0 = x_t - sigma v.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from engines.sampling.finite import finite

TRAINING_STEPS = 1000
UNIPC_FIRST_SIGMA = 0.999  # the reference's grid starts here before the shift; diffusers' own starts at 1

Scheduler = UniPCMultistepScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler


@dataclass(frozen=True)
class SamplingStep:
    """Where in its schedule a run is: step `index` of `total`, counted from 0, at the noise level `sigma`."""

    index: int
    total: int
    sigma: float

    @classmethod
    def of(cls, scheduler: Scheduler) -> SamplingStep:
        """The step that `scheduler` is about to take."""
        index = scheduler.step_index or 0
        return cls(index, len(scheduler.timesteps), scheduler.sigmas[index].item())


class Denoised(NamedTuple):
    """The state after step `index` of `total`: the noisy `latents`, and the `clean` ones the network now aims at."""

    index: int
    total: int
    latents: torch.Tensor
    clean: torch.Tensor


def shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    """sigma -> shift * sigma / (1 + (shift - 1) * sigma): more steps at high noise the larger `shift`."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def unipc(steps: int, *, shift: float) -> UniPCMultistepScheduler:
    """UniPC of order 2 (bh2) on the reference's grid; timesteps are whole numbers, the solver uses the exact sigmas.

    Source: Wan2.1 wan/utils/fm_solvers_unipc.py with shift 1 in the constructor, so that it is applied once.
    """
    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=TRAINING_STEPS, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(sigmas=np.linspace(UNIPC_FIRST_SIGMA, 0, steps + 1)[:-1])
    scheduler.set_begin_index(0)
    return scheduler


def dpm_plus_plus(steps: int, *, shift: float) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of order 2 (midpoint) on the reference's grid, which starts at exactly 1.

    Source: Wan2.1 wan/utils/fm_solvers.py and get_sampling_sigmas.
    """
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=TRAINING_STEPS, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    # A new scheduler is in the state that set_timesteps leaves; only the grid it would compute is another one.
    scheduler.num_inference_steps = steps
    sigmas = shifted(np.linspace(1, 0, steps + 1)[:-1], shift)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy((sigmas * TRAINING_STEPS).astype(np.int64))
    scheduler.set_begin_index(0)
    return scheduler


def euler(steps: int, *, shift: float) -> FlowMatchEulerDiscreteScheduler:
    """Euler on the shifted grid 1, 1 - 1/N, ..., 1/N, 0 with fractional timesteps 1000 sigma.

    diffusers' own grid ends elsewhere (0.047 instead of 0.125 at 50 steps and shift 7).
    Source: FlashI2V flashi2v/schedulers/flashi2v_flow_matching.py.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAINING_STEPS, shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1])
    scheduler.set_begin_index(0)
    return scheduler


SOLVERS: dict[str, Callable[..., Scheduler]] = {"unipc": unipc, "dpm++": dpm_plus_plus, "euler": euler}


def denoise(
    latents: torch.Tensor, scheduler: Scheduler, predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Iterator[Denoised]:
    """Runs the schedule from noise `latents` and yields the state after every step; closing it stops the run.

    Args:
        predict: (latents, timestep) -> velocity of the same shape, float32; where it is, `SamplingStep.of` tells.

    Raises:
        NotFinite: at the first step whose velocity is not finite.
    """
    total = len(scheduler.timesteps)
    there = scheduler.timesteps.to(latents.device)  # once, for each step would wait for it
    for index, timestep in enumerate(scheduler.timesteps):
        velocity = finite(predict(latents, there[index]), role="transformer", when=f"at step {index + 1} of {total}")
        clean = latents - scheduler.sigmas[index].item() * velocity
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        yield Denoised(index + 1, total, latents, clean)
