"""What a clip will take, before it is made: the same plans as the run's, over what is known of its networks.

Imports no torch. An engine says which networks its phases use at the same time (`EngineSpec.phases`); the planner says
how each would be held on this device; the largest phase is what the clip takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engines.memory import budget
from engines.memory.outlines import Outline
from engines.memory.planning import Abilities, Plan, Room, least_bytes, plan
from engines.request import Request
from engines.types import EngineSpec, ModelSpec, Phase, Size

_READERS = ("text_encoder", "mllm")

Verdict = Literal["fits", "slower", "refused", "unknown"]
"""As it was published and whole; in another form, in parts or in turns; not at all; nothing is known of the model."""


@dataclass(frozen=True)
class Machine:
    """A device, and what may be used of it.

    Attributes:
        able: what it computes in.
        allowed_bytes: the most that the process may take of it.
        ram_bytes: the most that a network may take of RAM beside it; of no meaning where the device is RAM.
        devices: how many of its kind share the weights, and with them the tokens.
    """

    able: Abilities
    allowed_bytes: int
    ram_bytes: int = 0
    devices: int = 1

    @property
    def own_bytes(self) -> int:
        """What the program takes of the device for itself."""
        return budget.OWN_BYTES[self.able.kind]

    def room(self, busy_bytes: int = 0) -> Room:
        """The memory for networks and their runs."""
        ram = None if self.able.is_ram else self.ram_bytes
        budget = max(0, self.allowed_bytes - self.own_bytes)
        return Room(budget, busy_bytes=busy_bytes, ram_bytes=ram, devices=self.devices, members=self.devices)


@dataclass(frozen=True)
class Held:
    """A network in a phase, and how it would be held; `usual` says whether that is the first rung of its ladder."""

    role: str
    plan: Plan

    @property
    def usual(self) -> bool:
        """Whether it is whole, in its first form and manner."""
        return self.plan.possible and self.plan.rung == 0


@dataclass(frozen=True)
class Step:
    """A phase and what it takes of the device, the program's own memory included."""

    name: str
    networks: tuple[Held, ...]
    device_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a clip takes.

    Attributes:
        steps: phase by phase.
        device_bytes, ram_bytes: at the most, the program's own memory included; RAM beside the device only where that
            is not RAM itself.
        allowed_bytes: of the device.
    """

    verdict: Verdict
    steps: tuple[Step, ...] = ()
    device_bytes: int = 0
    ram_bytes: int = 0
    allowed_bytes: int = 0

    @property
    def unusual(self) -> list[Held]:
        """The networks that would not be held as usual."""
        return [held for step in self.steps for held in step.networks if not held.usual]


def estimate(phases: Sequence[Phase], outlines: Mapping[str, Outline], machine: Machine) -> Estimate:
    """What a clip of these phases takes of a machine."""
    steps: list[Step] = []
    ram = 0
    for phase in phases:
        if any(need.role not in outlines for need in phase.needs):
            return Estimate("unknown", allowed_bytes=machine.allowed_bytes)
        busy, held = 0, []
        ways = [outlines[need.role].ways(machine.able, need.manners) for need in phase.needs]
        for index, need in enumerate(phase.needs):
            beside = sum(least_bytes([*usual, *narrow]) for usual, narrow in ways[index + 1 :])
            patient = outlines[need.role].forms(machine.able).turns_first
            usual, narrow = ways[index]
            room = machine.room(busy + beside).of(need.role)
            made = plan(usual, room, narrow=narrow, turns_first=patient)
            busy += made.needs_bytes
            ram = max(ram, made.way.size_bytes if made.mode != "split" else 0)
            held.append(Held(need.role, made))
        steps.append(Step(phase.name, tuple(held), busy + machine.own_bytes))
    networks = [one for step in steps for one in step.networks]
    verdict: Verdict = (
        "refused"
        if not all(one.plan.possible for one in networks)
        else "fits"
        if all(one.usual for one in networks)
        else "slower"
    )
    device = max((step.device_bytes for step in steps), default=machine.own_bytes)
    beside = 0 if machine.able.is_ram else ram + budget.OWN_BYTES["cpu"]
    return Estimate(verdict, tuple(steps), device, beside, machine.allowed_bytes)


def of_request(spec: EngineSpec, request: Request, outlines: Mapping[str, Outline], machine: Machine) -> Estimate:
    """What a checked request takes of a machine."""
    if spec.phases is None or not outlines:
        return Estimate("unknown", allowed_bytes=machine.allowed_bytes)
    try:
        phases = spec.phases(request, outlines, machine.able.kind)
    except KeyError:  # a network of the engine of which nothing is known
        return Estimate("unknown", allowed_bytes=machine.allowed_bytes)
    return estimate(phases, outlines, machine)


def holders(spec: EngineSpec, request: Request, outlines: Mapping[str, Outline], machine: Machine, *, most: int) -> int:
    """The fewest of up to `most` such machines that hold the networks of the steps between them; 1 where none do."""
    for devices in range(1, most + 1):
        made = of_request(spec, request, outlines, replace(machine, devices=devices))
        stepping = [one for step in made.steps for one in step.networks if one.role in ("transformer", "physics")]
        whole = "resident" if devices == 1 else "split"
        if stepping and all(one.plan.mode == whole for one in stepping):
            return devices
    return 1


def reads_elsewhere(
    spec: EngineSpec, request: Request, outlines: Mapping[str, Outline], here: Machine, there: Machine
) -> bool:
    """Whether an idle device had better read a clip's prompts: `here` its text encoder cannot stay whole beside all
    other networks, so one of them would come and go with every clip, and `there` it is as usual.
    """
    made = of_request(spec, request, outlines, here)
    networks = [one for step in made.steps for one in step.networks]
    if here.able.is_ram or not any(one.role in _READERS for one in networks):
        return False
    weights = {one.role: one.plan.device_bytes for one in networks}
    running = max(sum(one.plan.way.working_bytes for one in step.networks) for step in made.steps)
    whole = all(one.usual for one in networks if one.role in _READERS)
    if whole and sum(weights.values()) + running <= here.room().budget_bytes:
        return False
    other = of_request(spec, request, outlines, there)
    return all(one.usual for step in other.steps for one in step.networks if one.role in _READERS)


def smaller(
    spec: EngineSpec,
    request: Request,
    outlines: Mapping[str, Outline],
    machine: Machine,
    *,
    fits: Callable[[Estimate], bool],
) -> dict[str, Any] | None:
    """The largest clip below `request` that fits, as the fields to change: a named size or a shorter length first."""

    def fitting(changes: dict[str, Any]) -> bool:
        return fits(of_request(spec, request.model_copy(update=changes), outlines, machine))

    found = [*_candidates(spec.model(request.model), request)]
    if not found or not fitting(found[-1]):  # not even the smallest: no size is the reason
        return None
    return next(changes for changes in found if fitting(changes))


def _candidates(model: ModelSpec, request: Request) -> Iterator[dict[str, Any]]:
    """Smaller clips, the largest first; of the same shape before others."""
    now = Size(request.width, request.height)
    sizes = [now, *(size for size in (Size(*one) for one in model.geometry.sizes) if size.pixels < now.pixels)]
    lengths = [frames for frames in model.geometry.lengths if frames <= request.frames]
    clips = [(size, frames) for size in sizes for frames in lengths if (size, frames) != (now, request.frames)]

    def worth(clip: tuple[Size, int]) -> tuple[int, bool]:
        size, frames = clip
        return size.pixels * frames, (size.width > size.height) == (now.width > now.height)

    for size, frames in sorted(clips, key=worth, reverse=True):
        changes: dict[str, Any] = {} if size == now else size._asdict()
        yield changes | ({} if frames == request.frames else {"frames": frames})
