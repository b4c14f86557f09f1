"""Whether a run fits on a device, asked before it begins. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from engines.errors import OutOfMemory
from engines.memory.planning import Plan
from engines.types import Component, Context, Size
from engines.wording import either, gigabytes

Working = Callable[[int], int]
"""Bytes of one number that a network computes with -> bytes of its activations."""


class Use(NamedTuple):
    """A network for a run, and the memory for its activations: what `Context.use` takes."""

    component: Component
    working_bytes: int


@dataclass(frozen=True)
class Planned:
    """A network as it was planned for a run; the plan may be a refusal, which `Context.use` says."""

    component: Component
    plan: Plan

    @property
    def working_bytes(self) -> int:
        """The memory for its activations."""
        return self.plan.way.working_bytes

    @property
    def manner(self) -> str:
        """Which of the manners that were offered."""
        return self.plan.way.manner


def planned_or_refused(context: Context, planned: Callable[[Size], Planned], size: Size, *, doing: str) -> Planned:
    """What is planned for frames of `size`, whatever their number.

    Args:
        doing: for people: "Decoding".

    Raises:
        OutOfMemory: nothing fits; the hint names the model's sizes that would.
    """
    if (found := planned(size)).plan.possible:
        return found
    smaller = [Size(*other) for other in context.model.geometry.sizes if Size(*other).pixels < size.pixels]
    possible = [str(other) for other in smaller if planned(other).plan.possible]
    raise OutOfMemory(
        f"{doing} frames of {size} needs {gigabytes(found.plan.needs_bytes)} of memory but only "
        f"{gigabytes(context.room().budget_bytes)} may be used, for a clip of any length.",
        hint=f"Choose {either(possible)}." if possible else "Choose a smaller size, or allow more memory.",
    )
