"""The networks of a Wan-based model as components: found, described from their headers, built only when used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from engines.loading.checkpoints import load, network_bytes, open_checkpoint, outline
from engines.loading.key_rules import Architecture
from engines.types import Component, Context

# A CPU computes fastest in float32; a network too large for that stays in bfloat16, as published.
LARGEST_FLOAT32_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Network:
    """A checkpoint on this machine: what it is, but none of its weights.

    Attributes:
        config: arguments of its class, defaults included.
        layout: name of the way its tensors are named (engines/loading/key_rules.py).
        metadata: what this project's trainer wrote into the file, empty for published files.
        float32_bytes, float16_bytes: size of its parameters and buffers when loaded in either width.
        identity: names the files' present content; two networks of the same identity are the same.
    """

    role: str
    paths: tuple[Path, ...]
    architecture: Architecture
    config: Mapping[str, Any]
    layout: str
    metadata: Mapping[str, Any]
    float32_bytes: int
    float16_bytes: int
    identity: str

    def dtype(self, context: Context) -> torch.dtype:
        """The precision this network computes in on the context's device."""
        if context.device.type != "cpu":
            return context.dtype
        return torch.float32 if self.float32_bytes <= LARGEST_FLOAT32_BYTES else torch.bfloat16

    def component(self, dtype: torch.dtype) -> Component:
        """The network in `dtype`, read from its files when it is first used."""
        name = str(dtype).removeprefix("torch.")
        return Component(
            key=f"{self.role} {self.identity} {name}",
            build=lambda: load(open_checkpoint(self.paths), self.architecture, dtype=dtype),
            size_bytes=self.float32_bytes if dtype == torch.float32 else self.float16_bytes,
        )


def find_network(role: str, paths: tuple[Path, ...], architecture: Architecture) -> Network:
    """Describes the checkpoint in `paths`; reads headers only, and those once while the files stay the same.

    Raises:
        MissingWeights, IncompatibleCheckpoint: see engines.loading.checkpoints.
    """
    stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for path in paths)
    return _describe(role, tuple(paths), architecture, stamps)


@lru_cache(maxsize=64)
def _describe(role: str, paths: tuple[Path, ...], architecture: Architecture, stamps: Any) -> Network:
    checkpoint = open_checkpoint(paths)
    blueprint, empty = outline(checkpoint, architecture)
    digest = hashlib.sha256(repr((paths[0].resolve(), stamps)).encode()).hexdigest()[:8]
    return Network(
        role=role,
        paths=paths,
        architecture=architecture,
        config=blueprint.config,
        layout=blueprint.layout,
        metadata=checkpoint.metadata,
        float32_bytes=network_bytes(empty, architecture, torch.float32),
        float16_bytes=network_bytes(empty, architecture, torch.bfloat16),
        identity=f"{paths[0].name} {digest}",
    )
