"""Checkpoint files -> networks: map the file, recognise its keys, build empty, assign, account for every key."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading.key_rules import Architecture, Shapes, Source, family, strip_prefix
from engines.loading.memory_map import release_pages

# Construction on the meta device redirects what a library builds in the meantime, also in other threads.
CONSTRUCTION = Lock()
LISTED_KEYS = 4


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        name: what to call it before people: a base name, never a path.
        tensors: {key: tensor}; views of a memory map, so nothing is read until it is used.
        metadata: what this project's trainer wrote into the file, empty for published files.
        mapped: whether every tensor is an untouched view of a mapped file.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mapped: bool = False


@dataclass(frozen=True)
class Blueprint:
    """A checkpoint matched to an architecture: how to construct it and where each parameter comes from."""

    config: dict[str, Any]
    sources: dict[str, Source]
    shapes: Shapes
    layout: str


def open_checkpoint(paths: Sequence[Path]) -> Checkpoint:
    """All files of one checkpoint (several when sharded), opened together.

    Raises:
        MissingWeights: a file is not there.
        IncompatibleCheckpoint: a file is damaged, or two shards hold the same key.
    """
    name = paths[0].name + (f" (with {len(paths) - 1} more files)" if len(paths) > 1 else "")
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, Any] = {}
    for path in paths:
        if not path.is_file():
            raise MissingWeights(f"{path.name} is not on this machine.", hint="Download the model's files first.")
        part, notes = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
        if twice := sorted(part.keys() & tensors.keys()):
            raise IncompatibleCheckpoint(
                f"{path.name} repeats tensors of another file of the model: {_some(twice)}.",
                hint="Choose each of the model's files once.",
            )
        tensors |= part
        metadata |= notes
    tensors = {short: tensors[key] for short, key in strip_prefix(tensors).items()}
    return Checkpoint(name, tensors, metadata, mapped=all(_can_map(path) for path in paths))


def match(checkpoint: Checkpoint, architecture: Architecture, **overrides: Any) -> Blueprint:
    """How `checkpoint` fits `architecture`; `overrides` replace what shapes cannot tell (the number of heads).

    Raises:
        IncompatibleCheckpoint: it is another network's file.
    """
    made_for = checkpoint.metadata.get("class", architecture.class_name)
    layout = architecture.layout(checkpoint.tensors)
    likely = family(checkpoint.tensors)
    if made_for != architecture.class_name or (layout is None and likely != architecture.title):
        looks = f"looks like {likely}" if likely else f"holds tensors such as {_some(sorted(checkpoint.tensors))}"
        raise IncompatibleCheckpoint(
            f"{checkpoint.name} is not {architecture.title}: it {looks}.",
            hint="Choose the file that belongs to this model.",
        )
    if layout is None:
        raise _incomplete(checkpoint, architecture)
    sources = layout.convert(checkpoint.tensors)
    shapes = {name: _shape(checkpoint.tensors[source.key], source) for name, source in sources.items()}
    config = checkpoint.metadata.get("config")
    if config is None:
        try:
            config = architecture.configure(shapes)
        except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise _incomplete(checkpoint, architecture) from error
    return Blueprint(dict(config) | overrides, sources, shapes, layout.name)


def _incomplete(checkpoint: Checkpoint, architecture: Architecture) -> IncompatibleCheckpoint:
    """What to say of the right kind of file without the tensors that tell which size it is."""
    return IncompatibleCheckpoint(
        f"{checkpoint.name} is {architecture.title} with tensors missing, among them those that tell its size.",
        hint="Download the file again; of a sharded model, all files are needed.",
    )


def outline(checkpoint: Checkpoint, architecture: Architecture, **overrides: Any) -> tuple[Blueprint, torch.nn.Module]:
    """How `checkpoint` fits `architecture`, and the empty network on the meta device. No weight is read.

    Raises:
        IncompatibleCheckpoint: another network's file, or keys missing, left over or of the wrong shape.
    """
    blueprint = match(checkpoint, architecture, **overrides)
    module = construct(architecture, blueprint.config, name=checkpoint.name)
    _check(checkpoint, architecture, blueprint, {name: tuple(t.shape) for name, t in module.state_dict().items()})
    return blueprint, module


def network_bytes(module: torch.nn.Module, architecture: Architecture, dtype: torch.dtype) -> int:
    """Bytes of a network's parameters and buffers once loaded in `dtype`."""
    parameters = sum(
        parameter.numel() * (4 if architecture.stays_float32(name) else dtype.itemsize)
        for name, parameter in module.named_parameters()
    )
    return parameters + sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())


def load(
    checkpoint: Checkpoint, architecture: Architecture, *, dtype: torch.dtype, **overrides: Any
) -> torch.nn.Module:
    """The network with the checkpoint's weights, on the CPU, in inference mode.

    Parameters already in their dtype stay views of the memory map; the others are converted one by one and the pages
    they were read from are given back, so no weight stands twice in memory.

    Raises:
        IncompatibleCheckpoint: another network's file, or keys missing, left over or of the wrong shape.
    """
    blueprint, module = outline(checkpoint, architecture, **overrides)
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    state = {}
    for name, source in blueprint.sources.items():
        stored = checkpoint.tensors[source.key]
        tensor = stored.chunk(source.parts)[source.part] if source.parts > 1 else stored
        kept = torch.float32 if architecture.stays_float32(name) else dtype
        if tensor.is_floating_point() and tensor.dtype != kept:
            tensor = tensor.to(kept)
            if checkpoint.mapped:
                release_pages(stored)
        state[name] = tensor.reshape(expected[name])
    for alias, name in architecture.aliases.items():
        if name not in state:
            state[name] = state[alias]
        state[alias] = state[name]
    module.load_state_dict(state, strict=True, assign=True)
    architecture.restore(module)
    return module.eval().requires_grad_(False)


def construct(
    architecture: Architecture, config: Mapping[str, Any], *, name: str = "The checkpoint"
) -> torch.nn.Module:
    """The empty network on the meta device, one at a time in this process."""
    try:
        with CONSTRUCTION, torch.device("meta"):
            network: torch.nn.Module = architecture.construct(dict(config))
            return network
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        raise IncompatibleCheckpoint(
            f"{name} describes {architecture.title} that cannot be built.", hint="Download the file again."
        ) from error


def _check(checkpoint: Checkpoint, architecture: Architecture, blueprint: Blueprint, expected: Shapes) -> None:
    """Raises one error that accounts for every key missing, left over or of the wrong shape."""
    have = set(blueprint.shapes)
    for alias, name in architecture.aliases.items():
        if have & {alias, name}:
            have |= {alias, name}
    missing, unexpected = sorted(expected.keys() - have), sorted(have - expected.keys())
    unexpected = [blueprint.sources[name].key for name in unexpected]
    wrong = [
        f"{blueprint.sources[name].key} {list(shape)} instead of {list(expected[name])}"
        for name, shape in sorted(blueprint.shapes.items())
        if name in expected and [n for n in shape if n != 1] != [n for n in expected[name] if n != 1]
    ]
    faults = [
        f"{len(keys)} {what} ({_some(keys)})"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "of the wrong shape"))
        if keys
    ]
    if faults:
        raise IncompatibleCheckpoint(
            f"{checkpoint.name} does not fit {architecture.title}: of {len(expected)} tensors, {'; '.join(faults)}.",
            hint="Download the file again, or choose the one that belongs to this model.",
        )


def _shape(tensor: torch.Tensor, source: Source) -> tuple[int, ...]:
    rows = tensor.shape[0] // source.parts if tensor.dim() else 0
    return (rows, *tensor.shape[1:]) if source.parts > 1 else tuple(tensor.shape)


def _some(keys: Sequence[str]) -> str:
    """The first few keys and how many more."""
    more = len(keys) - LISTED_KEYS
    return ", ".join(keys[:LISTED_KEYS]) + (f" and {more} more" if more > 0 else "")


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Views of the file's tensors and the JSON that this project's trainer put under `kinora`."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            notes = json.loads((file.metadata() or {}).get("kinora", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:
        raise _damaged(path) from error


def _read_pickle(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Views of a `torch.save` file's tensors; only tensors and plain containers are unpickled."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError, TypeError) as error:
        raise _damaged(path) from error
    while isinstance(content, Mapping) and not _is_state_dict(content):
        inner = [value for value in content.values() if isinstance(value, Mapping) and value]
        if not inner:
            raise IncompatibleCheckpoint(f"{path.name} holds no tensors.", hint="Choose the model's weights.")
        content = content.get("ema_model") or max(inner, key=len)  # training files: the average is the release
    if not isinstance(content, Mapping):
        raise IncompatibleCheckpoint(f"{path.name} holds no tensors.", hint="Choose the model's weights.")
    return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}, {}


def _can_map(path: Path) -> bool:
    """Whether the tensors can be mapped; a pickle from before 2020 is no zip archive and is read whole."""
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in content.values())


def _damaged(path: Path) -> IncompatibleCheckpoint:
    """What to say of a file that cannot be opened."""
    with path.open("rb") as file:
        start = file.read(256).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return IncompatibleCheckpoint(
            f"{path.name} is only a pointer to the real file (Git LFS).", hint='Fetch it with "git lfs pull".'
        )
    if start[:1] == b"<":
        return IncompatibleCheckpoint(f"{path.name} is a web page, not weights.", hint="Download the file again.")
    return IncompatibleCheckpoint(
        f"{path.name} cannot be read: it is truncated, damaged or no checkpoint.", hint="Download the file again."
    )
