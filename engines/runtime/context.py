"""What the worker gives an engine for one job: its files, its networks, its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from engines.loading.store import Store
from engines.memory.devices import is_out_of_memory
from engines.memory.planning import AUTO, Room
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.runtime import compiling
from engines.runtime.attention import Attention
from engines.types import Component, ModelSpec

T = TypeVar("T")

_DENOISING = ("transformer", "physics")  # networks whose attention is asked for by diffusers' dispatcher


class _Ran(NamedTuple):
    """What is told of a network that was used."""

    role: str
    precision: str
    notes: tuple[str, ...]


Made = tuple[T, list[_Ran]]
"""A result, and the networks behind it."""


class WorkerContext:
    """The Context of engines/types.py over a component cache, a store and a memory of small tensors.

    Args:
        engine: name of the engine, for files the user overrides.
        attention: what the networks' attention is computed with.
        used: told the key of every network that is used.
        compiles: whether blocks of the networks that allow it are compiled.
    """

    decodes = True

    def __init__(
        self,
        engine: str,
        model: ModelSpec,
        *,
        cache: ComponentCache,
        store: Store,
        remembered: Remembered,
        attention: Attention,
        used: Callable[[str], None] = lambda key: None,
        lower: Mapping[str, int] = MappingProxyType({}),
        wanted: str = AUTO,
        compiles: bool = False,
    ) -> None:
        self.model, self.device = model, cache.device.torch_device
        self.lower: Mapping[str, int] = dict(lower)
        self.wanted = wanted
        self.precisions: dict[str, str] = {}
        self.computed: dict[str, str] = {}
        self.notes: list[str] = []
        self._engine, self._cache, self._store, self._remembered = engine, cache, store, remembered
        self._attention, self._used, self._compiles = attention, used, compiles
        self._behind: list[_Ran] = []
        self._rungs: dict[str, int] = {}
        self._ran_out_of = ""
        self._paths: dict[str, tuple[Path, ...]] | None = None

    def paths(self, role: str) -> tuple[Path, ...]:
        """The files of one component; raises MissingWeights or IncompatibleCheckpoint before anything is loaded."""
        if self._paths is None:
            self._paths = self._store.require(self._engine, self.model)
        return self._paths[role]

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        """The module on the device for the length of the block, with its adapters; what it computes in is recorded."""
        self._used(component.key)
        kernel = self._attention.within(half=component.half)
        notes = (*component.notes, kernel.note) if kernel.note and component.role in _DENOISING else component.notes
        self._record(_Ran(component.role, component.precision, notes))
        if component.role in _DENOISING:
            self.computed["attention"] = self._attention.told(half=component.half)
        self._rungs[component.role] = component.rung
        try:
            with (
                self._cache.use(component, working_bytes=working_bytes) as module,
                self._attention.active(half=component.half),
                component.adapted(module),
                self._compiled(component, module),
            ):
                yield module
        except Exception as error:
            if not self._ran_out_of and is_out_of_memory(error):
                self._ran_out_of = component.role
            raise

    def _compiled(self, component: Component, module: Any) -> AbstractContextManager[None]:
        """Its blocks compiled, where that is wanted and can be; why not, people are told."""
        if not (self._compiles and component.compiles):
            return nullcontext()
        if why := compiling.hindrance(module):
            self.notes.append(f"The video network was not compiled: {why}.")
            return nullcontext()
        self.computed["blocks"] = "compiled"
        return compiling.compiled(module)

    @property
    def ran_out(self) -> str:
        """The network in whose use memory ran out, for people; "" where it was none's."""
        return f"the {self._ran_out_of.replace('_', ' ')}" if self._ran_out_of else ""

    def lowered(self) -> dict[str, int]:
        """Role -> rungs to leave out in a next try: those up to where memory ran out, of every network if of none."""
        roles = [self._ran_out_of] if self._ran_out_of else [*self._rungs]
        return {**self.lower, **{role: self._rungs[role] + 1 for role in roles}}

    def room(self, *, beside: int = 0) -> Room:
        """The memory that networks and their runs may take now, with `beside` bytes left for others."""
        return self._cache.room(beside=beside)

    def drop(self, component: Component) -> None:
        """Let a network go that nobody will use again."""
        self._cache.drop(component.key)

    def remembers(self, key: str) -> bool:
        """Whether there is a result for this key."""
        return key in self._remembered

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()`, or its earlier result for the same key; either way, the networks behind it are recorded."""

        return self.adopt(key, self.made(key, compute))

    def made(self, key: str, compute: Callable[[], T]) -> Made[T]:
        """`compute()`, or its earlier result for the same key, and the networks behind it; nothing is recorded."""

        def computed() -> Made[T]:
            outer, self._behind = self._behind, []
            try:
                return compute(), self._behind
            finally:
                self._behind = [*outer, *self._behind]

        found: Made[T] = self._remembered.get(key, computed)
        return found

    def adopt(self, key: str, made: Made[T]) -> T:
        """A result that was made here, or by another process for this one: remembered, and recorded as used."""
        value, behind = self._remembered.get(key, lambda: made)
        for ran in behind:
            self._record(ran)
        return value

    def _record(self, ran: _Ran) -> None:
        self._behind.append(ran)
        if ran.role:
            self.precisions[ran.role] = ran.precision
        self.notes += [note for note in ran.notes if note not in self.notes]
