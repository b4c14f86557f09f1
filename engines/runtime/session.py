"""One device with everything kept warm on it between jobs: networks, encodings, and what is known about its pace."""

from __future__ import annotations

from engines.loading.store import Store
from engines.memory.devices import TorchDevice, ram
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.messages import Held, Status
from engines.runtime import attention
from engines.runtime.context import WorkerContext
from engines.runtime.time_left import Pace
from engines.types import ModelSpec

_RAM_SHARE = 0.7
# Of the networks' RAM: hidden states of a large encoder come to some hundred megabytes a prompt.
_REMEMBERED_SHARE = 0.05


class Session:
    """A device at work.

    Args:
        device: "cpu", "cuda:0", "mps".
        memory_bytes: the most that may be used of it; None for most of what is free now.
        kernel: what attention is computed with: of engines.runtime.attention.CHOICES.

    Raises:
        DeviceError: there is no such device.
        BadAttention: the kernel cannot be used on it.
    """

    def __init__(
        self, device: str, *, store: Store, memory_bytes: int | None = None, kernel: str = attention.AUTO
    ) -> None:
        self.device, self.store, self.pace = TorchDevice(device), store, Pace()
        self.attention = attention.choose(kernel, self.device.torch_device)
        budget = memory_bytes or self.device.budget_bytes()
        spare = int(ram()[0] * _RAM_SHARE)
        self.cache = ComponentCache(self.device, device_budget_bytes=budget, ram_budget_bytes=spare)
        in_ram = min(budget, spare) if self.device.is_ram else spare
        self.remembered = Remembered(limit_bytes=int(in_ram * _REMEMBERED_SHARE))
        self._models: dict[str, set[str]] = {}

    def context(self, engine: str, model: ModelSpec) -> WorkerContext:
        """The context of one job."""
        return WorkerContext(
            engine,
            model,
            cache=self.cache,
            store=self.store,
            remembered=self.remembered,
            attention=self.attention,
            used=lambda key: self._models.setdefault(key, set()).add(f"{engine}/{model.name}"),
        )

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
            budget_bytes=self.cache.device_budget_bytes,
            free_bytes=free,
            total_bytes=total,
        )
