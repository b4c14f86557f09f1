"""One device with everything kept warm on it between jobs: networks, encodings, and what is known about its pace."""

from __future__ import annotations

from collections.abc import Mapping

from engines.loading.store import Store
from engines.memory import budget
from engines.memory.devices import TorchDevice, ram
from engines.memory.planning import AUTO
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.messages import Held, Status
from engines.runtime import attention, compiling
from engines.runtime.compiling import Compiling
from engines.runtime.context import WorkerContext
from engines.runtime.time_left import Pace
from engines.types import ModelSpec

# Of the networks' RAM: hidden states of a large encoder come to some hundred megabytes a prompt.
_REMEMBERED_SHARE = 0.05


class Session:
    """A device at work.

    Args:
        device: "cpu", "cuda:0", "mps".
        memory_bytes: the most that may be used of it; None for what is free, less a reserve.
        workers: how many processes share the RAM of this machine.
        kernel: what attention is computed with: of engines.runtime.attention.CHOICES.
        precision: what networks should be held in: of engines.memory.planning.PRECISIONS.
        compile: when networks are compiled: of engines.runtime.compiling.CHOICES.

    Raises:
        DeviceError: there is no such device.
        BadAttention: the kernel cannot be used on it.
        CannotCompile: nothing can be compiled for it.
    """

    def __init__(
        self,
        device: str,
        *,
        store: Store,
        memory_bytes: int | None = None,
        workers: int = 1,
        kernel: str = attention.AUTO,
        precision: str = AUTO,
        compile: str = compiling.OFF,
    ) -> None:
        self.device, self.store, self.pace = TorchDevice(device), store, Pace()
        self.attention, self._kernel = attention.choose(kernel, self.device.torch_device), kernel
        self.compiling = Compiling(compile, self.device.kind)
        self.limit, self.precision = memory_bytes, precision
        spare = budget.ram_bytes(ram()[0], workers=workers)
        self.cache = ComponentCache(self.device, device_budget_bytes=0, ram_budget_bytes=spare)
        self.remembered = Remembered(limit_bytes=0)
        self._models: dict[str, set[str]] = {}
        self._look()

    def context(
        self,
        engine: str,
        model: ModelSpec,
        *,
        lower: Mapping[str, int] | None = None,
        split: bool = False,
        compiles: bool = False,
    ) -> WorkerContext:
        """The context of one job, with the memory that there is now.

        Args:
            lower: role -> rungs of its ladder to leave out.
            split: whether its network's tokens are to lie on several devices, which not every attention allows.
            compiles: whether its networks are compiled, where they can be.

        Raises:
            OutOfMemory: there is not even the memory for the program itself.
            BadAttention: the attention that was chosen cannot be split.
        """
        kernel = self.attention
        if split and not kernel.kernel.splits:
            kernel = attention.choose(self._kernel, self.device.torch_device, split=True)
        self._look()
        budget.networks_bytes(self.device.kind, self.allowed)
        return WorkerContext(
            engine,
            model,
            cache=self.cache,
            store=self.store,
            remembered=self.remembered,
            attention=kernel,
            lower=lower or {},
            wanted=self.precision,
            compiles=compiles,
            used=lambda key: self._models.setdefault(key, set()).add(f"{engine}/{model.name}"),
        )

    def allow(self, memory_bytes: int | None) -> None:
        """From the next job on, use at most so much of the device; None for what is free, less a reserve."""
        self.limit = memory_bytes
        self._look()

    def _look(self) -> None:
        """How much memory there is now: what is stated, what others left, less what the program takes for itself."""
        self.allowed = budget.allowed_bytes(self.device.kind, self.device.now(), self.limit)
        self.device.hold(self.allowed)
        usable = max(0, self.allowed - budget.OWN_BYTES[self.device.kind])
        in_ram = min(usable, self.cache.ram_budget_bytes) if self.device.is_ram else self.cache.ram_budget_bytes
        # Remembered results lie in RAM: where the device is RAM, networks get what these may take less.
        self.remembered.limit_bytes = int(in_ram * _REMEMBERED_SHARE)
        self.cache.device_budget_bytes = usable - self.remembered.limit_bytes * self.device.is_ram

    def free(self) -> None:
        """Drop every idle network and everything remembered."""
        self.cache.free()
        self.remembered.clear()

    def status(self) -> Status:
        """Who is where and how big."""
        free, total = self.device.memory()
        held = self.cache.state()
        self._models = {key: self._models.get(key, set()) for key, _, _ in held}
        return Status(
            device=self.device.name,
            components=tuple(
                Held(key=key, where=where, size_bytes=size, models=tuple(sorted(self._models[key])))
                for key, where, size in held
            ),
            budget_bytes=self.allowed,
            free_bytes=free,
            total_bytes=total,
        )
