"""Starter files: safetensors whose metadata say which class and configuration they hold and how they were trained."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engines.loading.integrity import FACTS_KEY
from engines.media.output import whole_file


def save_network(
    path: Path, tensors: dict[str, torch.Tensor], *, facts: dict[str, Any], dtype: torch.dtype | None = torch.bfloat16
) -> None:
    """Write tensors with `facts` (class, config, recipe, ...) as JSON metadata; floats are cast to `dtype`."""
    ready = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        ready[name] = (value.to(dtype) if dtype is not None and value.is_floating_point() else value).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        save_file(ready, part, metadata={FACTS_KEY: json.dumps(facts)})


def read_facts(path: Path) -> dict[str, Any]:
    """The JSON metadata of a starter file."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[FACTS_KEY])


def read_network(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors as float32, and the facts."""
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()
    }
    return tensors, read_facts(path)
