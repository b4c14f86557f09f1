"""Networks kept warm: built when first used, moved device -> RAM -> dropped by least recent use, each place within
its own byte budget. One thread owns a cache; `state` may be read from others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

from engines.errors import OutOfMemory
from engines.memory import offload
from engines.memory.devices import Device
from engines.memory.planning import Plan, Room, Way, plan
from engines.types import Component
from engines.wording import gigabytes

log = logging.getLogger(__name__)

_SIZE_TOLERANCE = 1.05


@dataclass
class _Entry:
    key: str
    module: Any
    size_bytes: int
    where: Literal["device", "ram", "grouped"]
    used: int
    form: str = ""
    locks: int = 0
    device_bytes: int = 0
    working_bytes: int = 0
    blocks: tuple[str, ...] = ()
    stays: bool = False


class ComponentCache:
    """The networks of one device.

    Args:
        device: where networks run.
        device_budget_bytes: the most that networks and their reserved working memory may take of the device.
        ram_budget_bytes: the most that networks may take of RAM while not on the device; unused where the device is
            RAM itself.
    """

    def __init__(self, device: Device, *, device_budget_bytes: int, ram_budget_bytes: int) -> None:
        self.device = device
        self.device_budget_bytes, self.ram_budget_bytes = device_budget_bytes, ram_budget_bytes
        self._entries: dict[str, _Entry] = {}
        self._clock = count()

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        """The module of `component` on the device, with `working_bytes` kept free for what its run allocates.

        Raises:
            OutOfMemory: it cannot fit even after everything idle is gone; the hint says what would.
        """
        entry = self._warm(component, working_bytes) or self._build(component, working_bytes)
        entry.locks += 1
        try:
            self._bring(entry, working_bytes, in_turns=component.in_turns)
            entry.working_bytes += working_bytes
            try:
                self._reset(entry)
                yield entry.module
            finally:
                entry.working_bytes -= working_bytes
                self._reset(entry)
        finally:
            entry.locks -= 1
            entry.used = next(self._clock)
            if not entry.locks and entry.where == "grouped" and not self.device.is_ram:
                entry.device_bytes = 0

    @staticmethod
    def _reset(entry: _Entry) -> None:
        """Nothing of a run is left for the next one; what is booked beside a run is none of its own."""
        if entry.locks == 1:
            offload.reset(entry.module)

    def room(self, *, beside: int = 0) -> Room:
        """The memory that there is for one more network, with `beside` bytes left for others."""
        return self._room(self._entries.values(), beside)

    def free(self) -> None:
        """Drop every network that is not in use."""
        for entry in [entry for entry in self._entries.values() if not entry.locks]:
            self._drop(entry)
        self.device.empty_cache()

    def drop(self, key: str) -> None:
        """Drop one network, if it is there and not in use."""
        entry = self._entries.get(key)
        if entry is not None and not entry.locks:
            self._drop(entry)
            self.device.empty_cache()

    def state(self) -> list[tuple[str, str, int]]:
        """Who is where and how big: (key, "device" | "grouped" | "ram", bytes), most recently used first."""
        entries = sorted(self._entries.values(), key=lambda entry: entry.used, reverse=True)
        return [(entry.key, entry.where, entry.size_bytes) for entry in entries]

    @property
    def device_bytes(self) -> int:
        """What is booked on the device: networks and the working memory of those in use."""
        return sum(entry.device_bytes + entry.working_bytes for entry in self._entries.values())

    @property
    def ram_bytes(self) -> int:
        """What networks take of RAM beside the device."""
        return sum(entry.size_bytes for entry in self._entries.values() if entry.where != "device")

    def _warm(self, component: Component, working_bytes: int) -> _Entry | None:
        """The entry of a component; where the device is RAM, only as it is wanted now: whole or block by block."""
        entry = self._entries.get(component.key)
        if entry is None or entry.locks or not self.device.is_ram or component.streamed is None:
            return entry
        decision = self._decide_in_ram(component, working_bytes, instead_of=entry)
        if (decision.mode == "turns") == (entry.where == "grouped"):
            return entry
        self._drop(entry)
        return None

    def _decide_in_ram(self, component: Component, working_bytes: int, *, instead_of: _Entry | None = None) -> Plan:
        turns = component.streamed.size_bytes if component.streamed is not None else None
        way = Way(component.precision, component.size_bytes, working_bytes, turns)
        return self._decide(component.key, way, in_turns=component.in_turns, instead_of=instead_of)

    def _build(self, component: Component, working_bytes: int) -> _Entry:
        """Build in RAM, after making room for it there."""
        size = component.size_bytes
        if component.stays:
            return self._build_in_place(component, working_bytes)
        if self.device.is_ram:
            decision = self._decide_in_ram(component, working_bytes)
            self._free_device(decision.device_bytes + working_bytes)
            if decision.mode == "turns" and component.streamed is not None:
                return self._build_streamed(component, decision)
        elif not self._free_ram(size):
            raise self._no_ram(component.key, size)
        module = component.build()
        entry = _Entry(
            component.key,
            module,
            offload.size_bytes(module),
            "ram",
            next(self._clock),
            form=component.precision,
            blocks=component.blocks,
        )
        if entry.size_bytes > size * _SIZE_TOLERANCE:
            log.warning("%s is larger than declared: %d instead of %d bytes", entry.key, entry.size_bytes, size)
        self._entries[component.key] = entry
        return entry

    def _build_in_place(self, component: Component, working_bytes: int) -> _Entry:
        """A network that comes to its device as it is built."""
        key, size, form = component.key, component.size_bytes, component.precision
        decision = self._decide(key, Way(form, size, working_bytes))
        self._free_device(size + working_bytes)
        entry = _Entry(key, component.build(), size, "device", next(self._clock), form=form, stays=True)
        entry.device_bytes = size
        self._entries[key] = entry
        log.info("%s in place, %s", key, decision.reason)
        return entry

    def _build_streamed(self, component: Component, decision: Plan) -> _Entry:
        """A network whose blocks take turns from its file."""
        assert component.streamed is not None
        module, size = component.streamed.build(), component.streamed.size_bytes
        form = component.precision
        entry = _Entry(component.key, module, size, "grouped", next(self._clock), form=form, device_bytes=size)
        self._entries[component.key] = entry
        log.info("%s from its file, %s", component.key, decision.reason)
        return entry

    def _bring(self, entry: _Entry, working_bytes: int, *, in_turns: bool) -> None:
        """Put an entry onto the device, in whole or by groups of blocks."""
        if entry.where == "grouped" and self.device.is_ram:
            way = Way(entry.form, entry.size_bytes, working_bytes + entry.working_bytes)
            self._decide(entry.key, way, instead_of=entry)
            self._free_device(working_bytes)
            return
        if entry.locks > 1:
            self._decide(entry.key, Way(entry.form, 0, working_bytes))
            self._free_device(working_bytes)
            return
        turns = None if self.device.is_ram or entry.stays else offload.grouped_bytes(entry.module, entry.blocks)
        way = Way(entry.form, entry.size_bytes, working_bytes, turns)
        decision = self._decide(entry.key, way, in_turns=in_turns, instead_of=entry)
        target: Literal["device", "grouped"] = "grouped" if decision.mode == "turns" else "device"
        if entry.where == "device" and target == "grouped" and not self._free_ram(entry.size_bytes):
            raise self._no_ram(entry.key, entry.size_bytes)
        if entry.where != target:
            self._leave(entry)
        self._free_device(decision.device_bytes - entry.device_bytes + working_bytes)
        if entry.where == "ram":
            try:
                if target == "grouped":
                    offload.group(entry.module, entry.blocks, device=self.device.torch_device)
                else:
                    self.device.place(entry.module, entry.size_bytes)
            except BaseException:
                del self._entries[entry.key]
                raise
            entry.where = target
            log.info("%s %s", entry.key, decision.reason)
        entry.device_bytes = decision.device_bytes

    def _decide(self, key: str, way: Way, *, in_turns: bool = False, instead_of: _Entry | None = None) -> Plan:
        """Plan a network beside what is in use; raises OutOfMemory if the plan is a refusal.

        Args:
            in_turns: leave out the rung on which all of it lies on the device.
        """
        others = [entry for entry in self._entries.values() if entry is not instead_of]
        decision = plan([way], replace(self._room(others), ram_bytes=None), lower=int(in_turns))
        if not decision.possible:
            share = int(decision.fits * 100)
            hint = (
                f"A clip of about {share} % of this one (width x height x frames) would fit."
                if share
                else "Choose a smaller model, or allow more memory."
            )
            raise OutOfMemory(f"{key} does not fit: {decision.reason}.", hint=hint)
        return decision

    def _room(self, entries: Iterable[_Entry], beside: int = 0) -> Room:
        held = list(entries)
        return Room(
            self.device_budget_bytes,
            busy_bytes=beside + sum(entry.device_bytes + entry.working_bytes for entry in held if entry.locks),
            idle_bytes=sum(entry.device_bytes for entry in held if not entry.locks),
            ram_bytes=None if self.device.is_ram else self.ram_budget_bytes,
        )

    def _no_ram(self, key: str, size: int) -> OutOfMemory:
        return OutOfMemory(
            f"{key} needs {gigabytes(size)} of RAM but only {gigabytes(self.ram_budget_bytes)} may be used.",
            hint="Close other programs or choose a smaller model.",
        )

    def _free_device(self, needed: int) -> None:
        """Move idle networks off the device, least recently used first, until `needed` bytes are free."""
        moved = False
        for victim in self._idle("device", *(["grouped"] if self.device.is_ram else [])):
            if self.device_bytes + needed <= self.device_budget_bytes:
                break
            movable = not (self.device.is_ram or victim.stays)
            if movable and self._free_ram(victim.size_bytes, newer_than=victim.used):
                self._leave(victim)
            else:
                self._drop(victim)
            moved = True
        if moved:
            self.device.empty_cache()

    def _free_ram(self, needed: int, *, newer_than: int | None = None) -> bool:
        """Drop idle networks in RAM until `needed` bytes fit; only those used before `newer_than` where it is given."""
        for victim in [*self._idle("ram", "grouped")]:
            if self.ram_bytes + needed <= self.ram_budget_bytes:
                break
            if newer_than is None or victim.used < newer_than:
                self._drop(victim)
        return self.ram_bytes + needed <= self.ram_budget_bytes

    def _idle(self, *places: str) -> list[_Entry]:
        found = [entry for entry in self._entries.values() if entry.where in places and not entry.locks]
        return sorted(found, key=lambda entry: entry.used)

    def _leave(self, entry: _Entry) -> None:
        """Back to RAM, without hooks."""
        if entry.where == "device":
            self.device.withdraw(entry.module, entry.size_bytes)
        elif entry.where == "grouped":
            offload.ungroup(entry.module)
        entry.where, entry.device_bytes = "ram", 0

    def _drop(self, entry: _Entry) -> None:
        if entry.where == "device":
            self.device.forget(entry.module)
        del self._entries[entry.key]
        entry.module = None
