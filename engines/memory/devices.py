"""The devices of this machine, and one device as an object that networks are placed on. torch is imported late."""

from __future__ import annotations

import gc
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engines.errors import DeviceError
from engines.memory.planning import Abilities

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_SHARE_OF_FREE = 0.9


@dataclass(frozen=True)
class DeviceInfo:
    """A device as people know it; memory in bytes."""

    name: str
    title: str
    free_bytes: int
    total_bytes: int


class Device(Protocol):
    """What the residency cache may do to a device; tests give one that only counts."""

    name: str

    @property
    def torch_device(self) -> torch.device:
        """Where tensors of this device live."""
        ...

    @property
    def is_ram(self) -> bool:
        """Whether its memory is the machine's own, so that moving to RAM frees nothing."""
        ...

    def place(self, module: Any, size_bytes: int) -> None:
        """Move a module from RAM onto the device."""
        ...

    def withdraw(self, module: Any, size_bytes: int) -> None:
        """Move a module from the device to RAM."""
        ...

    def forget(self, module: Any) -> None:
        """A module on the device is about to be dropped."""
        ...

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the device."""
        ...


class TorchDevice:
    """A real device: "cpu", "mps", "cuda" or "cuda:1"."""

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self._device = torch.device(name)
        kind = self._device.type
        usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not usable.get(kind, False):
            raise DeviceError(f"This machine has no {kind} device that can be used.", hint="Choose cpu.")
        if kind == "cuda" and (self._device.index or 0) >= torch.cuda.device_count():
            raise DeviceError(f"This machine has only {torch.cuda.device_count()} cuda devices.")

    @property
    def torch_device(self) -> torch.device:
        return self._device

    @property
    def is_ram(self) -> bool:
        return self._device.type != "cuda"

    def place(self, module: Any, size_bytes: int) -> None:
        module.to(self._device)

    def withdraw(self, module: Any, size_bytes: int) -> None:
        module.to("cpu")

    def forget(self, module: Any) -> None:
        return

    def empty_cache(self) -> None:
        import torch

        gc.collect()  # networks with hooks hold themselves in a cycle
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        import torch

        return torch.cuda.mem_get_info(self._device) if self._device.type == "cuda" else ram()

    def budget_bytes(self) -> int:
        """What may be used of it when the user states no number."""
        return int(self.memory()[0] * _SHARE_OF_FREE)


class PeakMeter:
    """Peak memory of one job: of the GPU where there is one, else of this process. Starts on construction."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device, self._sampled = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._resettable = self._reset_high_water()
        self.sample()

    def sample(self) -> None:
        """Look at the memory in use now; for systems that keep no high-water mark."""
        if self._device.type != "cuda" and not self._resettable:
            import psutil

            self._sampled = max(self._sampled, psutil.Process().memory_info().rss)

    def peak_bytes(self) -> int:
        """The most bytes in use since construction."""
        import torch

        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device)
        if not self._resettable:
            return self._sampled
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    @staticmethod
    def _reset_high_water() -> bool:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return False
        return True


def ram() -> tuple[int, int]:
    """Free and total bytes of RAM, the container's limit included."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    group = Path("/sys/fs/cgroup")
    try:
        bound = int((group / "memory.max").read_text(encoding="ascii"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        reclaimable = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file", "inactive_file")))
        total = min(total, bound)
        free = min(free, bound - int((group / "memory.current").read_text(encoding="ascii")) + reclaimable)
    except (OSError, ValueError):
        return free, total
    return max(free, 0), total


def discover() -> list[DeviceInfo]:
    """The devices of this machine, fastest kind first; imports torch."""
    import torch

    found = []
    if torch.cuda.is_available():
        names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        found += [DeviceInfo(name, title(torch.device(name)), *TorchDevice(name).memory()) for name in names]
    if torch.backends.mps.is_available():
        found.append(DeviceInfo("mps", "Apple GPU", *ram()))
    return [*found, DeviceInfo("cpu", "CPU", *ram())]


def abilities(device: torch.device) -> Abilities:
    """What a device computes in, as the planner asks."""
    half = half_precision(device)
    return Abilities(device.type, "" if half is None else str(half).removeprefix("torch."))


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half precision that a device multiplies itself; None for a processor that only emulates bfloat16."""
    import torch

    match device.type:
        case "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        case "cpu":
            able = torch.cpu.get_capabilities()
            multiplies = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "arm_bf16"))
            return torch.bfloat16 if multiplies else None
        case _:
            return torch.bfloat16


def title(device: torch.device) -> str:
    """The device as people know it."""
    import torch

    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "mps":
            return "Apple GPU"
        case _:
            return "CPU"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python ran out of device or machine memory."""
    import torch

    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
    )


def device_error(error: BaseException) -> DeviceError | None:
    """The sentence for an error after which a device cannot be used by this process any more; None for others."""
    import torch

    broken = isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in str(error)
    return DeviceError("The GPU failed and its process is started again.", hint="Try once more.") if broken else None


def main() -> None:
    """`python -m engines.memory.devices`: one line of JSON per device, for a process that must not import torch."""
    for device in discover():
        sys.stdout.write(json.dumps(asdict(device)) + "\n")


if __name__ == "__main__":
    main()
