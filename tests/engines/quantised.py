"""Tiny networks in the quantised files that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from tests.engines.tiny_adapters import TO_WAN

_MORE = (
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"), ("proj_out", "head.head"),
)  # fmt: skip


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A Wan transformer's tensors in the authors' names."""
    found = {}
    for key, value in state.items():
        name = key
        for library, authors in (*TO_WAN, *_MORE):
            name = name.replace(library, authors)
        if name == "scale_shift_table":
            name = "head.modulation"
        found[name.replace("scale_shift_table", "modulation")] = value
    return found


def is_matrix(name: str, value: torch.Tensor) -> bool:
    """Whether a converter would quantise it: a matrix of 1024 numbers or more, no modulation."""
    return value.dim() == 2 and value.numel() >= 1024 and value.shape[1] % 32 == 0 and "modulation" not in name


def write_gguf(
    path: Path, tensors: dict[str, torch.Tensor], kind: str = "Q8_0", *, architecture: str = "wan", **facts: Any
) -> Path:
    """As city96's converter writes a file: matrices quantised, everything else in float32."""
    writer = gguf.GGUFWriter(path, arch=architecture)
    if facts:
        writer.add_string("kinora", json.dumps(facts))
    for name, value in tensors.items():
        numbers = value.float().numpy()
        if is_matrix(name, value):
            quantised = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quants.quantize(numbers, quantised), raw_dtype=quantised)
        elif numbers.ndim > 4:  # what the format has no room for is written flatter, with a note
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(numbers.shape))
            writer.add_tensor(name, np.ascontiguousarray(numbers.reshape(numbers.shape[0], -1)))
        else:
            writer.add_tensor(name, np.ascontiguousarray(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def scaled_float8(tensors: dict[str, torch.Tensor], *, scale: str = "scale_weight") -> dict[str, torch.Tensor]:
    """As ComfyUI repacks a network: matrices in 8-bit floats, each with one scale, the rest in float16 or bfloat16."""
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if not is_matrix(name, value):
            found[name] = value.to(torch.bfloat16)
            continue
        largest = value.abs().max().float() / 448
        found[name] = (value.float() / largest).to(torch.float8_e4m3fn)
        found[f"{name.removesuffix('weight')}{scale}"] = largest
        if scale == "weight_scale":
            layer = name.removesuffix("weight")
            said = json.dumps({"format": "float8_e4m3fn"}).encode()
            found[f"{layer}comfy_quant"] = torch.tensor(list(said), dtype=torch.uint8)
            found[f"{layer}input_scale"] = torch.ones(())
    if scale == "scale_weight":
        found["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    return found


def save(path: Path, tensors: dict[str, torch.Tensor], **facts: Any) -> Path:
    notes = {"kinora": json.dumps(facts)} if facts else None
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata=notes)
    return path
