"""The precisions that a network can be held and compute in; which one it is, the planner chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from engines.loading.packed import as_stored


@dataclass(frozen=True)
class Precision:
    """How a network is held and computes.

    Attributes:
        name: as people and metadata call it: "bfloat16".
        compute: dtype of its activations.
        storage: dtype of its weights in memory, but for the parts that its architecture keeps in float32.
        weights: what the matrices of its blocks are made into while it is loaded: "int8", "float8"; "" for `storage`.
        instead_of: what the device would have chosen, where the network cannot compute in it.
    """

    name: str
    compute: torch.dtype
    storage: torch.dtype
    weights: str = ""
    instead_of: str = field(default="", compare=False)

    def bytes_of(self, module: torch.nn.Module, stays_float32: Callable[[str], bool] = lambda name: False) -> int:
        """Bytes of a network's parameters and buffers once held like this; the module may lie on the meta device."""
        kept = as_stored(module)
        parameters = sum(
            parameter.nbytes
            if name in kept
            else parameter.numel() * (torch.float32 if stays_float32(name) else self.storage).itemsize
            for name, parameter in module.named_parameters()
        )
        return parameters + sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())


FLOAT32 = Precision("float32", torch.float32, torch.float32)
BFLOAT16 = Precision("bfloat16", torch.bfloat16, torch.bfloat16)
FLOAT16 = Precision("float16", torch.float16, torch.float16)
PRECISIONS = {precision.name: precision for precision in (FLOAT32, BFLOAT16, FLOAT16)}
for _kind in ("int8", "float8"):
    for _precision in (FLOAT32, BFLOAT16, FLOAT16):
        _name = f"{_kind} in {_precision.name}"
        PRECISIONS[_name] = replace(_precision, name=_name, weights=_kind)
