"""One run by several processes, which all make the same step: by rows of one batch, or by batches of their own.

Rows: random numbers are drawn for the whole batch by everybody, from the same generator, and gradients are added up: a
run of two processes has the numbers of one with the same batch, up to the order of sums. Batches of their own, from
seeds of their own, make one that is larger by their number. Weights and the optimizer's state are whole on every
process. Started with `accelerate launch`, or `torchrun` on a CPU; a process alone is a share of one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


class Share:
    """What one process does of a run.

    Args:
        accelerator: of the library, where there are several; None for a process alone.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self._accelerator = accelerator
        self.rank = accelerator.process_index if accelerator else 0
        self.size = accelerator.num_processes if accelerator else 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device | None:
        """The device of this process; None where the caller chooses."""
        return self._accelerator.device if self._accelerator else None

    def whole(self, rows: int) -> int:
        """Rows of the whole batch where this process has `rows`."""
        return rows * self.size

    def rows(self, whole: Any) -> Any:
        """This process's rows of a tensor or list with those of the whole batch.

        Raises:
            ValueError: it cannot be shared evenly.
        """
        count, rest = divmod(len(whole), self.size)
        if rest:
            raise ValueError(f"A batch of {len(whole)} cannot be shared by {self.size} processes: choose a multiple.")
        return whole[self.rank * count : (self.rank + 1) * count]

    def batch(self, whole: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The same of every tensor of a batch."""
        return {name: self.rows(value) for name, value in whole.items()}

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of the processes' tensors of one shape; no gradient flows through it."""
        return self._accelerator.reduce(part.detach(), reduction="sum") if self._accelerator else part

    def totals(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The same of every figure."""
        if self.size == 1 or not figures:
            return dict(figures)
        device = self.device or torch.device("cpu")
        found = self.total(torch.tensor([*figures.values()], dtype=torch.float64, device=device))
        return dict(zip(figures, found.tolist(), strict=True))

    def sum(self, value: float) -> float:
        """The same of one number."""
        return self.totals({"": value})[""]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum of all processes'; one that nobody has stays without."""
        if self.size == 1:
            return
        there = torch.tensor([float(one.grad is not None) for one in parameters], device=self.device)
        for parameter, somewhere in zip(parameters, self.total(there).tolist(), strict=True):
            if somewhere:
                parameter.grad = self.total(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)

    def figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What the log says of a step to which this process contributed these figures."""
        return self.totals(figures)

    def seed(self, seed: int) -> int:
        """What this process draws from in a run with this seed."""
        return seed

    def leave(self) -> None:
        """Part from the others, when the run is over."""
        if self._accelerator:
            self._accelerator.wait_for_everyone()
            self._accelerator.end_training()


class Batches(Share):
    """Every process has batches of its own; what they follow is the mean of their gradients."""

    def batch(self, whole: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch as it is."""
        return dict(whole)

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Every parameter's gradient becomes the mean of all processes'."""
        super().add_gradients(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= self.size

    def figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """This process's own: others may have other ones."""
        return dict(figures)

    def seed(self, seed: int) -> int:
        """A seed of each process's own."""
        return seed + self.rank


ALONE = Share()


def several() -> bool:
    """Whether this is one of several processes that were started for one run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def joined(device: str, *, rows: bool = True) -> Share:
    """This process's share of a run that several were started for; the whole where it is alone.

    Args:
        device: "cpu" computes there whatever else there is.
        rows: whether batches are divided; every process has its own otherwise.
    """
    if not several():
        return ALONE
    from accelerate import Accelerator

    return (Share if rows else Batches)(Accelerator(cpu=device == "cpu"))
