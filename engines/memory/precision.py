"""In which precision a network is held and computes: one value, chosen in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from engines.memory.devices import half_precision

# Up to this size in float32 a network computes in float32 on every CPU: nothing is lost, and a starter's clip does not
# depend on the processor.
SMALL_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Precision:
    """How a network is held and computes.

    Attributes:
        name: as people and metadata call it: "bfloat16".
        compute: dtype of its activations.
        storage: dtype of its weights in memory, but for the parts that its architecture keeps in float32.
        instead_of: what the device would have chosen, where the network cannot compute in it.
    """

    name: str
    compute: torch.dtype
    storage: torch.dtype
    instead_of: str = field(default="", compare=False)

    def bytes_of(self, module: torch.nn.Module, stays_float32: Callable[[str], bool] = lambda name: False) -> int:
        """Bytes of a network's parameters and buffers once held like this; the module may lie on the meta device."""
        parameters = sum(
            parameter.numel() * (torch.float32 if stays_float32(name) else self.storage).itemsize
            for name, parameter in module.named_parameters()
        )
        return parameters + sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())


FLOAT32 = Precision("float32", torch.float32, torch.float32)
BFLOAT16 = Precision("bfloat16", torch.bfloat16, torch.bfloat16)
FLOAT16 = Precision("float16", torch.float16, torch.float16)
PRECISIONS = {precision.name: precision for precision in (FLOAT32, BFLOAT16, FLOAT16)}


def choose(
    device: torch.device,
    names: Sequence[str],
    *,
    weights: Callable[[Precision], int],
    working: Callable[[Precision], int],
    budget_bytes: int,
    streamed: Callable[[Precision], int] | None = None,
) -> Precision:
    """The precision of a network on a device.

    An accelerator computes in the half precision it has. A CPU computes in float32 where that fits, unless it
    multiplies bfloat16 itself and the network is large. A CPU that only emulates it is several times slower: there,
    float32 is worth having the blocks take turns from the file.

    Args:
        names: of the precisions in which the network's numbers are right.
        weights, working: bytes of the weights and of a run's activations in a precision.
        budget_bytes: what both together may take.
        streamed: bytes of the weights while blocks take turns from the file; None if they cannot.
    """
    half = half_precision(device)
    if device.type != "cpu":
        fast = next(precision for precision in PRECISIONS.values() if precision.compute == half)
        return fast if fast.name in names else Precision("float32", torch.float32, torch.float32, instead_of=fast.name)
    if BFLOAT16.name not in names:
        return FLOAT32
    if half is not None and weights(FLOAT32) > SMALL_BYTES:
        return BFLOAT16
    least = min(weights(FLOAT32), streamed(FLOAT32)) if streamed is not None and half is None else weights(FLOAT32)
    return FLOAT32 if least + working(FLOAT32) <= budget_bytes else BFLOAT16
