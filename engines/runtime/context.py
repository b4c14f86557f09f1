"""What the worker gives an engine for one job: its files, its networks, its memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engines.loading.store import Store
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.types import Component, ModelSpec

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class WorkerContext:
    """The Context of engines/types.py over a component cache, a store and a memory of small tensors.

    Args:
        engine: name of the engine, for files the user overrides.
        dtype: in which the networks run.
        used: told the key of every network that is used.
    """

    def __init__(
        self,
        engine: str,
        model: ModelSpec,
        *,
        dtype: torch.dtype,
        cache: ComponentCache,
        store: Store,
        remembered: Remembered,
        used: Callable[[str], None] = lambda key: None,
    ) -> None:
        self.model, self.dtype = model, dtype
        self.device = cache.device.torch_device
        self._engine, self._cache, self._store, self._remembered = engine, cache, store, remembered
        self._used = used
        self._paths: dict[str, tuple[Path, ...]] | None = None

    def paths(self, role: str) -> tuple[Path, ...]:
        """The files of one component; raises MissingWeights or IncompatibleCheckpoint before anything is loaded."""
        if self._paths is None:
            self._paths = self._store.require(self._engine, self.model)
        return self._paths[role]

    def use(self, component: Component, *, working_bytes: int = 0) -> AbstractContextManager[Any]:
        """The module on the device for the length of the block."""
        self._used(component.key)
        return self._cache.use(component, working_bytes=working_bytes)

    def remember(self, key: str, compute: Callable[[], T]) -> T:
        """`compute()`, or its earlier result for the same key."""
        return self._remembered.get(key, compute)
