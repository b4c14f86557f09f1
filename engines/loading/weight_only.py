"""Weights made 8 bits wide while they are loaded, where there is not the memory for more; torchao does the arithmetic.

A number for each row scales it. What is made is held as a file's packed weights are (packed.py), so that blocks take
turns and adapters add to it alike.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from engines.errors import StudioError
from engines.loading.gguf_files import INSTALL
from engines.loading.packed import PackedLinear, Packing, as_they_are
from engines.loading.streaming import block_of

KINDS = {"int8": torch.int8, "float8": torch.float8_e4m3fn}


@cache
def available() -> bool:
    """Whether the package that does the arithmetic is installed."""
    return find_spec("torchao") is not None


def pack(weight: torch.Tensor, kind: str) -> tuple[torch.Tensor, Packing]:
    """A matrix [out,in] in 8 bits, with a scale for each row; raises StudioError without the package."""
    try:
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise StudioError("Weights of 8 bits need the package torchao.", hint=f"Install it: {INSTALL}") from error
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    holder = torch.nn.Sequential(layer)
    quantize_(holder, Int8WeightOnlyConfig() if kind == "int8" else Float8WeightOnlyConfig())
    made = holder[0].weight
    packing = Packing(kind, tuple(weight.shape), as_they_are, made.scale.float().reshape(-1).contiguous())
    return made.qdata.contiguous(), packing


def outline(network: torch.nn.Module, blocks: tuple[str, ...], kind: str) -> torch.nn.Module:
    """An empty network whose blocks' matrices are to be packed; the network is changed."""
    for name, layer in list(network.named_modules()):
        if type(layer) is torch.nn.Linear and block_of(f"{name}.weight", blocks):
            shape = (layer.out_features, layer.in_features)
            packing = Packing(kind, shape, as_they_are, torch.empty(shape[0], device="meta"))
            packed = torch.empty(shape, dtype=KINDS[kind], device="meta")
            network.set_submodule(name, PackedLinear(packed, packing, layer.bias))
    return network
