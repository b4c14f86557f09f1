"""A tiny task whose rows follow from the recipe's seed; and a run of it by processes with batches of their own.

torchrun --nproc-per-node 2 -m tests.training.tiny_batches_run OUT
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from engines.training.recipe import Recipe, Stage
from engines.training.share import ALONE, Share, joined
from engines.training.trainer import Trainer
from engines.training.world import WorldConfig

RECIPE = Recipe(
    name="tiny", steps=6, seed=7, stages=(Stage(until=10**9, batch=4, world=WorldConfig()),),
    learning_rate=0.1, warmup=1, bfloat16=False,
)  # fmt: skip


class Rows(torch.utils.data.Dataset):
    """Batch [seeds,4,3] of a step, drawn from each of these seeds."""

    def __init__(self, seeds: list[int]) -> None:
        self.seeds = seeds

    def __len__(self) -> int:
        return RECIPE.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rngs = [torch.Generator().manual_seed(100 * seed + step) for seed in self.seeds]
        return {"rows": torch.stack([torch.randn(4, 3, generator=rng) for rng in rngs])}


class Mean:
    """Learns to answer 1 to rows of noise, which are drawn from each of `seeds`."""

    def __init__(self, seeds: list[int]) -> None:
        self.linear, self.seeds = torch.nn.Linear(3, 1), seeds

    def networks(self) -> dict[str, torch.nn.Module]:
        """The one layer."""
        return {"linear": self.linear}

    def dataset(self) -> Rows:
        """Rows from these seeds."""
        return Rows(self.seeds)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Squared error."""
        return (self.linear(batch["rows"]) - 1).square().mean(), {f"of_seed_{self.seeds[0]}": 1.0}

    def export(self, folder: Path, weights: dict[str, Any], record: dict[str, Any]) -> None:
        """Nothing: the checkpoint is looked at."""


def run(out: Path, seeds: list[int], *, steps: int, resume: bool = False, share: Share = ALONE) -> Trainer:
    """A run from these seeds up to a step, from the start or from what `out` holds."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(RECIPE, seed=seeds[0], steps=steps, decay_share=0.0)
    trainer = Trainer(recipe, Mean(seeds), out, workers=0, share=share)
    if resume:
        trainer.resume()
    trainer.run(log_every=1)
    return trainer


if __name__ == "__main__":
    torch.set_num_threads(1)
    ours, folder = joined("cpu", rows=False), Path(sys.argv[1])
    mine = [ours.seed(RECIPE.seed)]
    run(folder, mine, steps=3, share=ours)
    ours.sum(0.0)  # nobody reads before the first process has written
    last = run(folder, mine, steps=6, resume=True, share=ours)
    torch.save(last.networks.state_dict(), folder / f"weights{ours.rank}.pt")
    ours.leave()
