"""The objective of Pyramid Flow: one stage's piece of the flow, for one unit behind a corrupted history.

Source: Pyramid-Flow pyramid_dit/pyramid_dit_for_video_gen_pipeline.py (add_pyramid_noise_with_temporal_pyramid,
sample_stage_length); paper arXiv 2410.05954, sections 3.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from engines.pyramid_flow.history import history, pyramid
from engines.pyramid_flow.noise import coarsest, resized
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.scheduler import PyramidScheduler

from .flow import noise_like

SHARES = (0.25, 0.5, 0.25)  # of a batch's rows, by stage
STRONGEST = 1 / 3  # noise in the history


@dataclass(frozen=True)
class Piece:
    """Where a stage's flow starts and ends, and a point between: latents [B,C,1,h,w] of the stage's size."""

    start: torch.Tensor
    end: torch.Tensor
    remaining: torch.Tensor  # share of the start in the point, [B]
    timesteps: torch.Tensor  # [B] on the 0..1000 scale

    @property
    def point(self) -> torch.Tensor:
        """What the network sees."""
        share = self.remaining.view(-1, 1, 1, 1, 1)
        return share * self.start + (1 - share) * self.end

    @property
    def velocity(self) -> torch.Tensor:
        """What the network is to predict: the same at every point of the piece."""
        return self.start - self.end


def stages_of_rows(count: int, rng: torch.Generator, shares: tuple[float, ...] = SHARES) -> torch.Tensor:
    """The stage of each of `count` rows: exact shares where they divide the batch, right on average otherwise."""
    places = (torch.arange(count) + torch.rand(1, generator=rng)) / count
    return torch.bucketize(places, torch.tensor(shares).cumsum(0)[:-1], right=True)


def drawn_unit(count: int, rng: torch.Generator, *, later: bool) -> int:
    """Which of `count` units is trained, all with the same chance; `later` leaves the first out where it can."""
    first = int(later and count > 1)
    return first + int(torch.randint(count - first, (1,), generator=rng))


def flow_piece(
    levels: list[torch.Tensor], noise: torch.Tensor, stage: int, scheduler: PyramidScheduler, rng: torch.Generator
) -> Piece:
    """The piece of `stage` between noise and clean latents.

    Args:
        levels: one unit's clean latents [B,C,1,h,w] at every stage's size, coarsest first.
        noise: of the full size; every stage has the same noise, reduced as at sampling to deviation 1.
    """
    noise = coarsest(noise, scheduler.stages - stage)
    clean = levels[stage]
    if stage == 0:
        start = noise
    else:
        coarse = resized(levels[stage - 1], clean.shape[-2], clean.shape[-1], mode="nearest")
        start = scheduler.starts[stage] * noise + (1 - scheduler.starts[stage]) * coarse
    end = scheduler.ends[stage] * noise + (1 - scheduler.ends[stage]) * clean
    index = torch.randint(scheduler.train_timesteps, (clean.shape[0],), generator=rng)
    return Piece(
        start,
        end,
        torch.from_numpy(scheduler.training_sigmas()).float()[index].to(clean.device),
        torch.from_numpy(scheduler.training_timesteps(stage)).float()[index].to(clean.device),
    )


def corrupted(clip: torch.Tensor, rng: torch.Generator, strongest: float = STRONGEST) -> torch.Tensor:
    """History [B,C,t,h,w] with noise of a strength up to `strongest`, drawn for each row: so errors do not add up."""
    strength = (torch.rand(clip.shape[0], generator=rng) * strongest).view(-1, 1, 1, 1, 1).to(clip.device)
    noise = noise_like(clip, rng)
    return strength * noise + (1 - strength) * clip


def objective(
    network: Any,
    clean: torch.Tensor,
    text: Text,
    rng: torch.Generator,
    *,
    scheduler: PyramidScheduler | None = None,
    strongest: float = STRONGEST,
    later: bool = False,
    shares: tuple[float, ...] = SHARES,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean squared velocity error of one unit a row, each stage's rows at a length of their own; and its figures.

    Args:
        clean: latents [B,C,F,h,w]; of F units one is trained, those before it are its history.
        text: B rows.
        later: clips of several units train all but their first.
        shares: of the rows, by stage, the coarsest first.
    """
    scheduler = scheduler or PyramidScheduler()
    stages = stages_of_rows(clean.shape[0], rng, shares)
    errors, figures = [], {}
    for stage in range(scheduler.stages):
        rows = (stages == stage).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        here = rows.to(clean.device)
        unit = drawn_unit(clean.shape[2], rng, later=later)
        levels = pyramid(clean[here][:, :, : unit + 1], scheduler.stages)
        past = history([level[:, :, :unit] for level in levels], stage) if unit else []
        noise = noise_like(levels[-1][:, :, :1], rng)
        piece = flow_piece([level[:, :, unit:] for level in levels], noise, stage, scheduler, rng)
        clips = [*(corrupted(clip, rng, strongest) for clip in past), piece.point]
        at = Text(text.states[here], text.mask[rows.to(text.mask.device)], text.pooled[here])
        error = (network(clips, at, piece.timesteps).float() - piece.velocity).square().mean((1, 2, 3, 4))
        errors.append(error)
        if not error.is_meta:
            figures[f"loss_stage_{stage}"] = float(error.detach().mean())
            if unit == 0:
                figures[f"loss_stage_{stage}_first_unit"] = float(error.detach().mean())
    return torch.cat(errors).mean(), figures
