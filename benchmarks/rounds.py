"""Works taken in turn in one process, their seconds compared round by round, and whether a figure keeps its target."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any


def in_rounds(
    *works: Callable[[], Any], rounds: int, clock: Callable[[], float] = process_time
) -> tuple[list[float], ...]:
    """Seconds of each work in every round, by a clock; every second round in the opposite order."""
    seconds: tuple[list[float], ...] = tuple([] for _ in works)
    for number in range(rounds):
        order = list(zip(works, seconds, strict=True))
        for work, kept in reversed(order) if number % 2 else order:
            began = clock()
            work()
            kept.append(clock() - began)
    return seconds


def paired(ours: list[float], theirs: list[float]) -> float:
    """The median of what was taken against the other of the same round."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


class Judged:
    """A line of a table with a figure that is to stay at or below its target; None where it is only told."""

    figure: float
    target: float | None

    @property
    def missed(self) -> bool:
        """Whether it is above its target."""
        return self.target is not None and self.figure > self.target

    @property
    def goal(self) -> str:
        """The target as the table says it."""
        return "" if self.target is None else f"{self.target:.2f}{', MISSED' if self.missed else ''}"
