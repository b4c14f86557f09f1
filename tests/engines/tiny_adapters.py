"""Adapters for tiny networks, in the namings that people have, and the weights that they make of a network's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

RANK = 3
# The library's names of a Wan block's layers -> the authors'.
TO_WAN = (
    (".attn1.to_out.0", ".self_attn.o"), (".attn2.to_out.0", ".cross_attn.o"), (".attn1.to_", ".self_attn."),
    (".attn2.to_", ".cross_attn."), (".attn1.", ".self_attn."), (".attn2.", ".cross_attn."),
    (".ffn.net.0.proj", ".ffn.0"), (".ffn.net.2", ".ffn.2"), (".norm2", ".norm3"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
)  # fmt: skip


def wan_name(name: str) -> str:
    for library, authors in TO_WAN:
        name = name.replace(library, authors)
    return name


def layers(network: torch.nn.Module, path: str = "") -> dict[str, torch.nn.Linear]:
    """The layers with a matrix under `path`, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(path)
    }


def factors(network: torch.nn.Module, path: str = "blocks.", seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Random (down, up) for every layer under `path`: as large as to be seen."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=draw) * 0.2,
            torch.randn(layer.out_features, RANK, generator=draw) * 0.2,
        )
        for name, layer in layers(network, path).items()
    }


def write(path: Path, tensors: dict[str, torch.Tensor], **notes: Any) -> Path:
    """An adapter's file; what stands in its header is written as JSON."""
    tensors = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in notes.items()} or None)
    return path


def plain(path: Path, network: torch.nn.Module, prefix: str = "blocks.", seed: int = 0) -> Path:
    """An adapter of the layers under `prefix`, as diffusers writes it."""
    tensors = {}
    for name, (down, up) in factors(network, prefix, seed).items():
        tensors |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
    return write(path, tensors)
