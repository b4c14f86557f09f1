"""The devices of this machine, and one device as an object that networks are placed on. torch is imported late."""

from __future__ import annotations

import gc
import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from engines.errors import DeviceError
from engines.memory.budget import CONTEXT_BYTES, Memory
from engines.memory.planning import Abilities

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceInfo:
    """A device as people know it; memory in bytes, `half` as in planning.Abilities."""

    name: str
    title: str
    free_bytes: int
    total_bytes: int
    half: str = ""


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
    """A real device: "cpu", "mps", "cuda" or "cuda:1"; "cpu:1" is the processor, as a second process knows it."""

    def __init__(self, name: str) -> None:
        import torch

        self.name = name
        self._in_ram: WeakKeyDictionary[Any, dict[str, torch.Tensor]] = WeakKeyDictionary()
        self._device = torch.device("cpu" if name.startswith("cpu") else name)  # several processes may share it
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
        from engines.loading.memory_map import mapped

        self._in_ram[module] = mapped(module)
        module.to(self._device)

    def withdraw(self, module: Any, size_bytes: int) -> None:
        """Weights that still lie in their mapped file are not copied back: nothing here writes them."""
        import torch

        views = self._in_ram.pop(module, {})
        back = {
            id(one): torch.nn.Parameter(views[name], requires_grad=False)
            for name, one in module.named_parameters()
            if name in views
        }
        for owner in module.modules():  # one by one, for two names may have one parameter
            owner._parameters.update({name: back.get(id(one), one) for name, one in owner._parameters.items()})
        module.to("cpu")

    def forget(self, module: Any) -> None:
        return

    def empty_cache(self) -> None:
        import torch

        gc.collect()  # networks with hooks hold themselves in a cycle
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            # The pinned copies of a network whose blocks took turns are RAM that torch keeps otherwise.
            getattr(torch.accelerator, "empty_host_cache", lambda: None)()
        elif self._device.type == "mps":
            torch.mps.empty_cache()

    @property
    def kind(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self._device.type

    def now(self) -> Memory:
        """How much memory there is, and what this process holds of it."""
        return Memory(*self.memory(), _held_bytes(self._device))

    def hold(self, allowed_bytes: int) -> None:
        """Hold torch's own allocator to `allowed_bytes` of the device, its context included; RAM has nobody to do so.

        What would take more then raises torch's out-of-memory error instead of taking it from others.
        """
        import torch

        if self.kind == "cuda":
            share = max(allowed_bytes - CONTEXT_BYTES, 0) / self.memory()[1]
            torch.cuda.set_per_process_memory_fraction(min(1.0, share), self._device)
        elif self.kind == "mps":
            share = allowed_bytes / torch.mps.recommended_max_memory()
            torch.mps.set_per_process_memory_fraction(min(2.0, max(0.0, share)))

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        import torch

        return torch.cuda.mem_get_info(self._device) if self._device.type == "cuda" else ram()


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
            self._sampled = max(self._sampled, _held_bytes(self._device))

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


def _held_bytes(device: torch.device) -> int:
    """What this process takes of a device now; on an Apple GPU what lies in RAM is of the same memory."""
    import psutil
    import torch

    if device.type == "cuda":  # its context is there as soon as its memory is asked for
        return torch.cuda.memory_reserved(device) + CONTEXT_BYTES
    held = psutil.Process().memory_info().rss
    return held + (torch.mps.driver_allocated_memory() if device.type == "mps" else 0)


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
        for index in range(torch.cuda.device_count()):
            device = torch.device(f"cuda:{index}")
            memory = TorchDevice(str(device)).memory()
            found.append(DeviceInfo(str(device), title(device), *memory, half=abilities(device).half))
    if torch.backends.mps.is_available():
        found.append(DeviceInfo("mps", "Apple GPU", *ram(), half=abilities(torch.device("mps")).half))
    return [*found, DeviceInfo("cpu", "CPU", *ram(), half=abilities(torch.device("cpu")).half)]


def processor_half() -> str:
    """The half precision that this machine's processor multiplies itself, as `abilities` says it, without torch."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return ""
    return "bfloat16" if words & {"avx512_bf16", "amx_bf16", "svebf16", "bf16"} else ""


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
        case _:  # an Apple GPU, which multiplies bfloat16 from macOS 14 on
            return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16


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
