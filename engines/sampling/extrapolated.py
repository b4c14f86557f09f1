"""A step cache where hooks on a network would be wrong: what a step found, extrapolated from the two computed last.

Guidance is a weighted sum, so extrapolating its result is extrapolating every pass: one memory serves them all. It goes
by the step alone, so devices that share a step leave out the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engines.sampling.caches import CACHES, Taylor

if TYPE_CHECKING:
    import torch


class Extrapolated:
    """The memory of one run of steps; another run, such as the next stage of a pyramid, begins with an empty one.

    Args:
        name: of engines.sampling.caches.EXTRAPOLATING.
    """

    def __init__(self, name: str) -> None:
        cache = CACHES[name]
        self._cache = cache if isinstance(cache, Taylor) else None
        self._found: list[tuple[int, Sequence[torch.Tensor]]] = []

    def at(self, index: int, compute: Callable[[], Sequence[torch.Tensor]]) -> Sequence[torch.Tensor]:
        """What step `index`, counted from 0, finds: computed, or on the line through what was computed last."""
        if self._cache is None or self._cache.computes(index):
            found = compute()
            self._found = [*self._found[-1:], (index, found)]
            return found
        (before, first), (last, second) = self._found
        ahead = (index - last) / (last - before)
        return [new + ahead * (new - old) for old, new in zip(first, second, strict=True)]
