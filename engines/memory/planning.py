"""How networks are held on a device: a pure function of counted weights, what a run needs and a budget, all in bytes.

The run and the estimate before it ask here alike. A way is one form of a network's weights with what a run needs beside
them; a ladder has every way in every mode, the best first; a plan is the first rung that fits. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from engines.wording import gigabytes

# Up to this size in float32 a network computes in float32 on every CPU: nothing is lost, and a starter's clip does not
# depend on the processor.
SMALL_BYTES = 2 * 2**30

# The networks whose weights several devices may share, for all of them run these in step, and the one whose tokens.
SHARED_WEIGHTS, SHARED_TOKENS = ("transformer", "physics", "text_encoder", "mllm"), ("transformer",)
EXCHANGED = 1.25  # a device's activations with what it exchanges, against its share of one device's

AUTO, INT8 = "auto", "int8"
PRECISIONS = (AUTO, "float32", "half", INT8)
"""What can be wanted: what suits device and network; float32; the half precision of the device; weights 8 bits wide."""

Mode = Literal["resident", "turns", "split", "refused"]
"""All weights on the device; its blocks taking turns on it; shared by several devices; not at all."""


class Share(NamedTuple):
    """Some of a network's parameters: how many numbers, how many of them stay float32 in every precision, and the bytes
    of those that stay packed as their file has them."""

    numbers: int = 0
    single: int = 0
    packed_bytes: int = 0

    def with_(self, other: Share) -> Share:
        """These and others."""
        return Share(*map(sum, zip(self, other, strict=True)))

    def size_bytes(self, itemsize: int) -> int:
        """Their bytes where the others take `itemsize` bytes each."""
        return (self.numbers - self.single) * itemsize + self.single * 4 + self.packed_bytes


NOTHING = Share()


@dataclass(frozen=True)
class Counted:
    """A network's weights, counted.

    Attributes:
        whole: all parameters.
        outside: those outside of the blocks that may take turns.
        block: those of the largest block; none where there are no blocks.
        buffer_bytes: what its buffers take, in every precision.
    """

    whole: Share
    outside: Share = NOTHING
    block: Share = NOTHING
    buffer_bytes: int = 0

    def way(self, form: str, itemsize: int, working_bytes: int = 0) -> Way:
        """It in a precision of `itemsize` bytes a number."""
        size = self.whole.size_bytes(itemsize) + self.buffer_bytes
        if not (self.block.numbers or self.block.packed_bytes):
            return Way(form, size, working_bytes)
        outside, block = self.outside.size_bytes(itemsize) + self.buffer_bytes, self.block.size_bytes(itemsize)
        return Way(form, size, working_bytes, outside + 2 * block, block_bytes=block, outside_bytes=outside)


@dataclass(frozen=True)
class Way:
    """One way to run a network.

    Attributes:
        form: how its weights are held, for people: "bfloat16", "int8", "GGUF Q4_K".
        size_bytes: its weights, parameters and buffers, in this form.
        working_bytes: what a run allocates beside them; `fixed_bytes` of it on every device that has a part in it.
        turn_bytes: its weights' share of the device while its blocks take turns: all outside of them and two of the
            largest; None where they cannot.
        block_bytes: the largest block, gathered from several devices when its turn comes; 0 where it cannot be split.
        outside_bytes: what stands outside of the blocks, whole on each of these devices.
        manner: what else is unusual, for people: "in tiles"; "" if nothing is.
    """

    form: str
    size_bytes: int
    working_bytes: int = 0
    turn_bytes: int | None = None
    block_bytes: int = 0
    outside_bytes: int = 0
    fixed_bytes: int = 0
    manner: str = ""

    def over(self, devices: int) -> Way:
        """It where so many devices share its tokens."""
        shared = EXCHANGED * (self.working_bytes - self.fixed_bytes) / devices
        return self if devices < 2 else replace(self, working_bytes=self.fixed_bytes + math.ceil(shared))

    def share_bytes(self, devices: int) -> int:
        """What one of several devices that share its weights holds of them between two blocks."""
        return self.outside_bytes + -(-(self.size_bytes - self.outside_bytes) // devices)


@dataclass(frozen=True)
class Room:
    """The memory that there is.

    Attributes:
        budget_bytes: the most that networks and their runs may take of the device.
        busy_bytes: taken by what is in use, working memory included.
        idle_bytes: taken by what may go.
        ram_bytes: the most that a network may take of RAM while it is built or waits; None where the device is RAM.
        devices: how many devices share the weights of the job.
        members: how many devices share its tokens.
    """

    budget_bytes: int
    busy_bytes: int = 0
    idle_bytes: int = 0
    ram_bytes: int | None = None
    devices: int = 1
    members: int = 1

    def of(self, role: str) -> Room:
        """It for the network of a role, which may have to lie and run on one device."""
        devices = self.devices if role in SHARED_WEIGHTS else 1
        return replace(self, devices=devices, members=self.members if role in SHARED_TOKENS else 1)


class Rung(NamedTuple):
    """A way in a mode."""

    mode: Mode
    way: Way

    def device_bytes(self, devices: int = 1) -> int:
        """What the weights take of one device."""
        match self.mode:
            case "turns":
                return self.way.turn_bytes or 0
            case "split":
                return self.way.share_bytes(devices) + 2 * self.way.block_bytes
            case _:
                return self.way.size_bytes


@dataclass(frozen=True)
class Plan:
    """A decision.

    Attributes:
        mode, way: see Rung; of a refusal, the way that would need least.
        device_bytes: what the weights take of the device, 0 of a refusal.
        reason: one line for the log, or for people if refused.
        rung: where on its ladder it stands; the next try after memory ran out begins below.
        swaps: whether something idle has to go first.
        fits: of a refusal, the share of the working memory that would fit; 0 if the weights alone are too big.
        needs_bytes: what weights and run take of the device, also of a refusal.
    """

    mode: Mode
    way: Way
    device_bytes: int
    reason: str
    rung: int = 0
    swaps: bool = False
    fits: float = 1.0
    needs_bytes: int = 0

    @property
    def possible(self) -> bool:
        """Whether it can be run like this."""
        return self.mode != "refused"


def ladder(
    ways: Sequence[Way], *, narrow: Sequence[Way] = (), turns_first: bool = False, devices: int = 1
) -> list[Rung]:
    """Every plan there is, best first: whole in each way, then with blocks taking turns.

    Before all of them stands the share of several devices, where the weights are to be shared at all: whether they are
    is chosen before (engines/parallel/choosing.py), for the devices that are not needed could make other clips.

    Args:
        narrow: ways whose weights were made narrower than the file has them: after everything that loses nothing.
        turns_first: whether blocks take turns in one way before the next way is tried at all, as where the next one
            computes several times slower.
    """
    turns = [Rung("turns", way) for way in ways if way.turn_bytes is not None and way.turn_bytes < way.size_bytes]
    split = [Rung("split", way) for way in ways if way.block_bytes] if devices > 1 else []
    lossy = ladder(narrow, devices=devices) if narrow else []
    if not turns_first:
        return [*split, *(Rung("resident", way) for way in ways), *turns, *lossy]
    found = [rung for way in ways for rung in (Rung("resident", way), *(turn for turn in turns if turn.way is way))]
    return [*split, *found, *lossy]


def least_bytes(ways: Sequence[Way]) -> int:
    """What a network and its run need of the device at the least."""
    return min(rung.device_bytes() + rung.way.working_bytes for rung in ladder(ways))


def plan(
    ways: Sequence[Way], room: Room, *, narrow: Sequence[Way] = (), turns_first: bool = False, lower: int = 0
) -> Plan:
    """The first rung of the ladder that fits.

    Args:
        ways: of one network, best first; at least one.
        narrow, turns_first: see `ladder`.
        lower: rungs to leave out at the top, because memory ran out on them.
    """
    ways, narrow = ([way.over(room.members) for way in some] for some in (ways, narrow))
    rungs = ladder(ways, narrow=narrow, turns_first=turns_first, devices=room.devices)
    for number, rung in enumerate(rungs):
        if number >= lower and _fits(rung, room):
            size, working = rung.device_bytes(room.devices), rung.way.working_bytes
            swaps = size + working + room.busy_bytes + room.idle_bytes > room.budget_bytes
            reason = f"{rung.mode}: {gigabytes(size)} of {_told(rung.way, room)}"
            return Plan(rung.mode, rung.way, size, reason, number, swaps, needs_bytes=size + working)
    return _refusal(rungs[lower:] or rungs[-1:], room)


def _fits(rung: Rung, room: Room) -> bool:
    in_ram = room.ram_bytes is None or rung.way.size_bytes <= room.ram_bytes or rung.mode == "split"
    taken = rung.device_bytes(room.devices) + rung.way.working_bytes + room.busy_bytes
    return in_ram and taken <= room.budget_bytes


def _refusal(rungs: Sequence[Rung], room: Room) -> Plan:
    """Why none of them fits, by the one that needs least."""
    if room.ram_bytes is not None and all(rung.way.size_bytes > room.ram_bytes for rung in rungs):
        way = min((rung.way for rung in rungs), key=lambda way: way.size_bytes)
        needed, allowed = gigabytes(way.size_bytes), gigabytes(room.ram_bytes)
        return Plan("refused", way, 0, f"it needs {needed} of RAM but only {allowed} may be used", fits=0.0,
                    needs_bytes=way.size_bytes + way.working_bytes)  # fmt: skip
    rung = min(rungs, key=lambda rung: rung.device_bytes(room.devices) + rung.way.working_bytes)
    least, working = rung.device_bytes(room.devices), rung.way.working_bytes
    left = room.budget_bytes - room.busy_bytes - least
    needed, allowed = gigabytes(least + working + room.busy_bytes), gigabytes(room.budget_bytes)
    return Plan(
        "refused",
        rung.way,
        0,
        f"this needs {needed} of memory but only {allowed} may be used",
        fits=max(0.0, left / working) if working else 0.0,
        needs_bytes=least + working,
    )


def _told(way: Way, room: Room) -> str:
    manner = f" {way.manner}" if way.manner else ""
    working = gigabytes(way.working_bytes)
    return (
        f"{gigabytes(way.size_bytes)} in {way.form}{manner} + {working} working, {gigabytes(room.budget_bytes)} allowed"
    )


@dataclass(frozen=True)
class Abilities:
    """What a device computes in; see devices.abilities.

    Attributes:
        wanted: of PRECISIONS, which one somebody chose.
        kind: "cpu", "cuda" or "mps".
        half: the half precision that it multiplies itself: "bfloat16", "float16"; "" for a processor that only
            emulates bfloat16.
    """

    kind: str
    half: str = ""
    wanted: str = AUTO

    @property
    def is_ram(self) -> bool:
        """Whether its memory is the machine's own."""
        return self.kind != "cuda"


class Forms(NamedTuple):
    """The precisions to try for a network, best first, and whether blocks take turns in one before the next."""

    names: tuple[str, ...]
    turns_first: bool = False


def as_wanted(ways: list[Way], narrow: list[Way], able: Abilities) -> tuple[list[Way], list[Way]]:
    """The ways to try, best first, and those that are a last resort: weights 8 bits wide are none where wanted."""
    return ([*narrow, *ways], []) if able.wanted == INT8 else (ways, narrow)


def forms(able: Abilities, right: Sequence[str], *, float32_bytes: int) -> Forms:
    """In which precisions a network runs on a device.

    An accelerator computes in the half precision it has. A CPU computes in float32 where that fits, unless it
    multiplies bfloat16 itself and the network is large. A CPU that only emulates it is several times slower: there,
    float32 is worth having the blocks take turns from the file. What somebody wants goes before all that, where the
    network's numbers are right in it.

    Args:
        right: names of the precisions in which the network's numbers are right.
        float32_bytes: its weights in float32.
    """
    if able.wanted == "float32":
        return Forms(("float32",))
    if able.wanted == "half":
        half = able.half or "bfloat16"
        return Forms((half if half in right else "float32",))
    if able.kind != "cpu":
        return Forms((able.half,) if able.half in right else ("float32",))
    if "bfloat16" not in right:
        return Forms(("float32",))
    if able.half and float32_bytes > SMALL_BYTES:
        return Forms(("bfloat16",))
    return Forms(("float32", "bfloat16"), turns_first=not able.half)
