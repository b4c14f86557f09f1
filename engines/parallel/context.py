"""What an engine is given for a job that several devices share: the context of one, where the members agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engines.memory.planning import Room
from engines.parallel.choosing import Split
from engines.parallel.group import Group
from engines.types import Component

if TYPE_CHECKING:
    from engines.runtime.context import WorkerContext

T = TypeVar("T")

SHARED = ("transformer", "physics")  # the networks that are called in every step; all others the first member has


class MemberContext:
    """What a member of a group has from the context of its own device, whatever the members do together."""

    def __init__(self, inner: WorkerContext, group: Group) -> None:
        self.inner, self.group = inner, group
        self.model, self.device, self.lower, self.wanted = inner.model, inner.device, inner.lower, inner.wanted
        self.decodes = group.rank == 0

    @property
    def precisions(self) -> Mapping[str, str]:
        """See Context."""
        return self.inner.precisions

    @property
    def computed(self) -> Mapping[str, str]:
        """See Context."""
        return self.inner.computed

    @property
    def notes(self) -> Sequence[str]:
        """See Context."""
        return self.inner.notes

    def paths(self, role: str) -> tuple[Path, ...]:
        """See Context."""
        return self.inner.paths(role)


class GroupContext(MemberContext):
    """The Context of engines/types.py, of one member of a group.

    What is remembered (texts and pictures as their encoders see them) the first member makes for all. The members plan
    with the smallest of their budgets, so that they decide alike.
    """

    def __init__(self, inner: WorkerContext, group: Group, split: Split, devices: Sequence[str]) -> None:
        super().__init__(inner, group)
        self.split = split
        room = inner.room()
        self._budget_bytes = group.least(room.budget_bytes)
        self._ram_bytes = None if room.ram_bytes is None else group.least(room.ram_bytes)
        self._devices = devices
        self._parts: dict[str, Component] = {}

    @property
    def computed(self) -> Mapping[str, str]:
        """See Context; and over which devices the clip was split, and how."""
        return {**self.inner.computed, "split": self.split, "devices": ", ".join(self._devices)}

    def room(self, *, beside: int = 0) -> Room:
        """See Context; that of the member with the least memory."""
        room = self.inner.room(beside=beside)
        budget = min(room.budget_bytes, self._budget_bytes)
        devices = self.group.size if self.split == "weights" else 1
        members = self.group.size if self.split != "guidance" else 1
        return replace(room, budget_bytes=budget, ram_bytes=self._ram_bytes, devices=devices, members=members)

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        """See Context; a network that is called in every step is shared from here on."""
        if component.shared is not None:
            component, working_bytes = self._part_of(component), working_bytes + component.shared.gathered_bytes
        with ExitStack() as used:
            module = used.enter_context(self.inner.use(component, working_bytes=working_bytes))
            if component.role in SHARED or component.key in self._parts:
                self.group.together()
            if component.role in SHARED and self.split != "guidance":
                used.enter_context(self._sequence(module))
            yield module

    def _part_of(self, component: Component) -> Component:
        """What this member holds of a network that all share, for as long as there is the group."""
        from engines.parallel.weights import spread

        shared = component.shared
        assert shared is not None
        key = f"{component.key}, shared by {self.group.size}"
        build = partial(shared.build, spread(self.group))
        self._parts[key] = replace(
            component, key=key, build=build, size_bytes=shared.size_bytes, shared=None, streamed=None, stays=True
        )
        return self._parts[key]

    @contextmanager
    def _sequence(self, module: Any) -> Iterator[None]:
        """The tokens of the pictures are shared: by diffusers' split, or as the network does it itself."""
        from engines.parallel.sequence import Tokens, shared

        if hasattr(module, "share"):
            module.share = Tokens(self.group)
            try:
                yield
            finally:
                module.share = None
            return
        with shared(module, self.group):
            yield

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """See Context; the first member computes, but for what is computed with weights that all share."""
        if self.split != "weights" or self.group.same(self.inner.remembers(key)):
            return self.group.same(self.inner.remember(key, compute) if self.group.rank == 0 else None)
        return self.group.same(self.inner.remember(key, compute) if self.group.rank == 0 else compute())

    def part(self) -> None:
        """Let go of what is of no use without the others."""
        for component in self._parts.values():
            self.inner.drop(component)
