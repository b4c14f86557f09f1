"""Which device makes a clip: a pure choice between workers by what they are, hold and do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """What a clip asks of a device.

    Attributes:
        model: "engine/model".
        device_bytes: memory of a GPU that it wants; 0 = runs well on a CPU.
    """

    model: str
    device_bytes: int = 0


@dataclass(frozen=True)
class Candidate:
    """A worker as far as the choice goes; memory in bytes, 0 where it is not known.

    Attributes:
        warm: model ("engine/model") -> bytes of the networks it has used that are still on the device.
    """

    name: str
    free_bytes: int = 0
    total_bytes: int = 0
    busy: bool = False
    warm: tuple[tuple[str, int], ...] = ()


def assign(needs: Needs, workers: Sequence[Candidate]) -> Candidate | None:
    """The idle worker that should make the clip; None if it is better to wait for one that is busy.

    A GPU with the memory that the model wants goes before the CPU, and that before a GPU that is too small. A model
    that wants a GPU waits for one that has the memory, for on anything else it would take hours; any other clip takes
    what is idle. Among equals the one that holds the model warm wins, then the one with more free memory.
    """
    best = max((_rank(needs, worker) for worker in workers), default=0)
    idle = [worker for worker in workers if not worker.busy]
    if needs.device_bytes and best == _FITS:
        idle = [worker for worker in idle if _rank(needs, worker) == best]

    def worth(worker: Candidate) -> tuple[int, int, int]:
        return _rank(needs, worker), dict(worker.warm).get(needs.model, 0), worker.free_bytes

    return max(idle, key=worth, default=None)


_FITS, _SLOW, _SMALL = 3, 2, 1
_REPORTED = 0.93


def _rank(needs: Needs, worker: Candidate) -> int:
    if worker.name == "cpu":
        return _SLOW
    return _FITS if not worker.total_bytes or has_memory(worker.total_bytes, needs.device_bytes) else _SMALL


def has_memory(total_bytes: int, wanted_bytes: int) -> bool:
    """Whether a GPU is one of the size that is wanted; drivers keep some of it, so a card of 24 GB reports 23.6."""
    return total_bytes >= _REPORTED * wanted_bytes
