"""FlashI2V's network in a few kilobytes, of either flavour of published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engines.flashi2v.network import FlashI2VTransformer3DModel
from tests.engines import tiny_wan
from tests.engines.tiny_wan import TRANSFORMER

KERNELS = {"main": (1, 3, 3), "npu": (3, 3, 3)}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def transformer(flavour: str = "main", **changes: Any) -> FlashI2VTransformer3DModel:
    """A network whose picture paths are not at their zero start, so that they do something."""
    config = TRANSFORMER | {"projection_kernel": KERNELS[flavour], "projection_width": 8} | changes
    network = tiny_wan.seeded(lambda: FlashI2VTransformer3DModel(**config))
    for number, name in enumerate(("learnable_proj.2", "patch_embedding.fourier_embedding.1")):
        layer = network.get_submodule(name)
        layer.weight.copy_(0.3 * draw(*layer.weight.shape, seed=number))
    return network


def write_model(folder: Path, flavour: str = "main") -> dict[str, tuple[Path, ...]]:
    """All files of the model, by role."""
    config = TRANSFORMER | {"projection_kernel": KERNELS[flavour], "projection_width": 8}
    path = tiny_wan.write(folder / "flashi2v.safetensors", transformer(flavour), config, text_len=tiny_wan.TEXT_LEN)
    return tiny_wan.write_model(folder) | {"transformer": (path,)}
