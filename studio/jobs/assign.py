"""Which device makes a clip, or which together: a pure choice between workers by what they are, hold and do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.parallel.choosing import AUTO, NONE, Split, choose
from engines.request import Request
from engines.types import EngineSpec


@dataclass(frozen=True)
class Needs:
    """What a clip asks of a device.

    Attributes:
        model: "engine/model".
        device_bytes: memory of a GPU that it wants; 0 = runs well on a CPU.
        passes: of its network in a step.
        holders: the fewest devices that hold that network between them: see engines.parallel.choosing.
    """

    model: str
    device_bytes: int = 0
    passes: int = 1
    holders: int = 1

    @classmethod
    def of(cls, spec: EngineSpec, request: Request, *, holders: int = 1) -> Needs:
        """What this request's clip asks."""
        model = spec.model(request.model)
        return cls(f"{spec.name}/{model.name}", model.device_bytes, spec.passes(request), holders)


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


@dataclass(frozen=True)
class Team:
    """Idle workers that make a clip, the one that speaks first.

    Attributes:
        split: how they do it; None where there is one.
        why: why there is one, where more were asked for.
    """

    workers: tuple[Candidate, ...]
    split: Split | None = None
    why: str = ""


def gather(needs: Needs, workers: Sequence[Candidate], *, split: str = NONE, waiting: int = 1) -> Team | None:
    """The idle workers that should make the clip; None if it is better to wait for some that are busy.

    Only devices of one kind work together. By AUTO they do so while no other clip could use them, or where none of
    them alone holds the model.

    Args:
        split: of engines.parallel.choosing.CHOICES.
        waiting: how many clips could begin now, this one included.
    """
    alone = assign(needs, workers)
    best = max((_rank(needs, worker) for worker in workers), default=0)
    able = [worker for worker in workers if _rank(needs, worker) == best and kind(worker.name) in _TOGETHER]
    idle = [worker for worker in able if not worker.busy]
    if split == AUTO and waiting >= len(idle) and needs.holders < 2:
        split = NONE
    devices = max(len(idle), min(needs.holders, len(able))) if split == AUTO else len(able)
    share = choose(split, passes=needs.passes, devices=devices, holders=needs.holders)
    if share.how is None:
        return Team((alone,), why=share.why) if alone is not None else None
    if len(idle) < share.devices:
        return None
    idle.sort(key=lambda worker: (dict(worker.warm).get(needs.model, 0), worker.free_bytes), reverse=True)
    return Team(tuple(idle[: share.devices]), share.how)


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


_TOGETHER = ("cuda", "cpu")
_FITS, _SLOW, _SMALL = 3, 2, 1
_REPORTED = 0.93


def _rank(needs: Needs, worker: Candidate) -> int:
    if kind(worker.name) == "cpu":
        return _SLOW
    return _FITS if not worker.total_bytes or has_memory(worker.total_bytes, needs.device_bytes) else _SMALL


def kind(name: str) -> str:
    """What a device is, without its number: "cuda" for "cuda:1"."""
    return name.partition(":")[0]


def has_memory(total_bytes: int, wanted_bytes: int) -> bool:
    """Whether a GPU is one of the size that is wanted; drivers keep some of it, so a card of 24 GB reports 23.6."""
    return total_bytes >= _REPORTED * wanted_bytes
