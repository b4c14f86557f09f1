"""The loop of Pyramid Flow: unit after unit, each through all stages, each seeing the units before it.

Latents are [B,C,F,h,w], normalised, float32. A unit is one latent frame (eight frames of video).
Source: Pyramid-Flow pyramid_dit/pyramid_dit_for_video_gen_pipeline.py, generate, generate_i2v and generate_one_unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from engines.adapters.applying import at_step
from engines.pyramid_flow.history import history, pyramid
from engines.pyramid_flow.noise import block_noise, coarsest, next_stage
from engines.pyramid_flow.packing import PATCH, Text, join
from engines.pyramid_flow.scheduler import PyramidScheduler
from engines.pyramid_flow.sizes import BATCHED_TOKENS
from engines.sampling import caches, guidance
from engines.sampling.denoise import SamplingStep
from engines.sampling.extrapolated import Extrapolated
from engines.sampling.finite import finite
from engines.sampling.guidance import NetworkCall


@dataclass(frozen=True)
class Unit:
    """What one unit is made of.

    Attributes:
        start: noise [B,C,f,h,w] of the full latent size.
        block_noise: shape -> standard normal draws for the change into a stage.
        texts: the passes `cond` and `uncond`, B rows each.
        scale: of classifier-free guidance; 0 turns it off.
        steps: per stage.
        step_cache: of engines.sampling.caches.EXTRAPOLATING; every stage begins anew, for what is found of one size
            says nothing of another.
    """

    start: torch.Tensor
    block_noise: Callable[[tuple[int, ...]], torch.Tensor]
    texts: dict[str, Text]
    scale: float
    steps: tuple[int, ...]
    step_cache: str = caches.NONE


class UnitStep(NamedTuple):
    """The state after a step of `stage`: its noisy latents, and at a stage's end whether this is it."""

    stage: int
    index: int
    latents: torch.Tensor
    stage_ends: bool


def make_unit(
    network: Any,
    unit: Unit,
    *,
    past: Sequence[Sequence[torch.Tensor]],
    scheduler: PyramidScheduler,
    renoise: Callable[[torch.Tensor, float], torch.Tensor] = block_noise,
) -> Iterator[UnitStep]:
    """The steps of one unit; the last one's latents are the finished unit. Closing it stops.

    Args:
        past: for each stage, the clips of history, oldest first; empty for the video's first frame.
        renoise: standard normal draws -> block noise; a golden case gives its own.
    """
    device, dtype = network.device, next(network.parameters()).dtype
    texts = {name: text.on(device, dtype) for name, text in unit.texts.items()}
    latents = coarsest(unit.start, scheduler.stages).to(device)
    for stage in range(scheduler.stages):
        if stage > 0:
            size = (*latents.shape[:-2], latents.shape[-2] * 2, latents.shape[-1] * 2)
            noise = renoise(unit.block_noise(size), scheduler.gamma)
            latents = next_stage(latents, noise, *scheduler.renoise(stage))
        clips = [clip.to(device, dtype) for clip in past[stage]]
        tokens = sum(clip.shape[2] * clip.shape[3] * clip.shape[4] for clip in (*clips, latents)) // PATCH**2
        schedule = scheduler.schedule(stage, unit.steps[stage])
        memory = Extrapolated(unit.step_cache)
        batches: dict[tuple[str, ...], tuple[Text, list[torch.Tensor]]] = {}
        for index, timestep in enumerate(schedule.timesteps.to(device)):

            def predict(
                batch: list[Text], call: NetworkCall, latents=latents, clips=clips, timestep=timestep, known=batches
            ) -> torch.Tensor:
                if call.passes not in known:
                    known[call.passes] = join(batch), [clip.repeat(len(batch), 1, 1, 1, 1) for clip in clips]
                text, seen = known[call.passes]
                rows = [*seen, latents.to(dtype).repeat(len(batch), 1, 1, 1, 1)]
                velocity = network(rows, text, timestep.expand(rows[-1].shape[0])).float()
                return velocity.unflatten(0, (len(batch), -1))

            at_step(network, (sum(unit.steps[:stage]) + index) / sum(unit.steps))
            step = SamplingStep(index, unit.steps[stage], schedule.sigmas[index].item())
            weights = guidance.off_at_zero(unit.scale)
            made = partial(guidance.guided, predict, texts, weights, batched=tokens <= BATCHED_TOKENS, step=step)
            (velocity,) = memory.at(index, lambda made=made: [made()])
            velocity = finite(velocity, role="transformer", when=f"at step {index + 1} of stage {stage + 1}")
            latents = schedule.step(index, latents, velocity)
            yield UnitStep(stage, index, latents, stage_ends=index + 1 == unit.steps[stage])


def past_of(finished: torch.Tensor | None, scheduler: PyramidScheduler, *, unit_frames: int = 1) -> list[list[Any]]:
    """The history of the next unit in every stage, from all finished latents; None before the first."""
    if finished is None:
        return [[] for _ in range(scheduler.stages)]
    levels = pyramid(finished, scheduler.stages)
    return [history(levels, stage, unit_frames=unit_frames) for stage in range(scheduler.stages)]


def call_count(steps: Sequence[int], later: Sequence[int], *, units: int, first: int = 0) -> int:
    """Steps in all of units `first` to `units` - 1; the video's first frame takes `steps`, every other `later`."""
    return sum(sum(steps if unit == 0 else later) for unit in range(first, units))
