"""Checkpoint files -> their tensors under flat keys: mapped, never copied, never run as code."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading import gguf_files
from engines.loading.integrity import (
    FACTS_KEY,
    MOST_TENSORS,
    damaged,
    facts_of,
    kind_of,
    odd,
    safetensors_header,
    too_many,
)
from engines.loading.packed import Packing, eight_bit
from engines.wording import printable, some

# Of the pickle that lists an archive's tensors; a published network's has some hundred kilobytes.
MAX_PICKLE_BYTES = 64 * 2**20
MAX_CONFIG_BYTES = 2**20
MOST_ENTRIES, MOST_LAYERS, MOST_POSITIONS = 4096, 256, 2**14
DEEPEST = 8
# How torch says that a pickle asks for a class or a function, or that the file is a program.
MORE_THAN_TENSORS = ("Unsupported global", "Can only", "Trying to", "TorchScript")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        name: what to call it before people: a base name, never a path.
        tensors: {key: tensor}; views of a memory map, so nothing is read until it is used. Tensors in nested
            dictionaries have their keys joined by dots.
        metadata: what this project's trainer wrote into the file, empty for published files.
        notes: what others wrote into its header, as text.
        mapped: whether every tensor is an untouched view of a mapped file.
        config: arguments of its class, from the metadata or from a file beside it; None where only shapes tell.
        packed: {key: how it is packed} of tensors that are not numbers as they stand.
        configs: of a file that holds several networks, the arguments of each class by its name.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mapped: bool = False
    config: Mapping[str, Any] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    packed: Mapping[str, Packing] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor's numbers."""
        return self.packed[key].shape if key in self.packed else tuple(self.tensors[key].shape)

    def config_of(self, class_name: str) -> Mapping[str, Any] | None:
        """Arguments of this class, None where only shapes tell."""
        return self.configs.get(class_name, self.config)


def open_checkpoint(paths: Sequence[Path], *, config_file: str = "") -> Checkpoint:
    """All files of one checkpoint (several when sharded), opened together.

    Args:
        config_file: name of the one of `paths` that is a JSON file with the network's configuration.

    Raises:
        MissingWeights: a file is not there.
        IncompatibleCheckpoint: a file is damaged or no checkpoint, or two shards hold the same key.
    """
    documents = [path for path in paths if path.name == config_file]
    paths = [path for path in paths if path not in documents]
    name = paths[0].name + (f" (with {len(paths) - 1} more files)" if len(paths) > 1 else "")
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, Any] = {}
    notes: dict[str, str] = {}
    packed: dict[str, Packing] = {}
    mapped = True
    holders: dict[str, set[str]] = {}
    for path in paths:
        if not path.is_file():
            raise MissingWeights(f"{path.name} is not on this machine.", hint="Download the model's files first.")
        kind = kind_of(path)
        # torch takes this suffix at its word; a file object it cannot map.
        misnamed = kind != "safetensors" and path.suffix == ".safetensors"
        if kind == "safetensors":
            part, facts, told = _read_safetensors(path)
        elif kind == "gguf":
            part, blocks, facts = gguf_files.read(path, facts_key=FACTS_KEY)
            told = {}
            packed |= blocks
        else:
            part, facts, told = _read_pickle(path, archive=kind == "archive", mapped=not misnamed), {}, {}
        if twice := sorted(part.keys() & tensors.keys()):
            raise _repeated(path.name, set(part), twice, holders)
        holders[path.name] = set(part)
        tensors |= part
        metadata |= facts
        notes |= told
        mapped = mapped and kind != "pickle" and not (misnamed and kind != "gguf")
    tensors, floats = eight_bit(name, tensors)
    config = metadata.get("config")
    for path in documents:
        config = config or _read_json(path)
    if not isinstance(metadata.get("class", ""), str):
        raise odd(name, "class")
    configs = metadata.get("configs", {})
    if not isinstance(configs, dict):
        raise odd(name, "configs")
    for known in (config, *configs.values()):
        if known is not None and not (isinstance(known, dict) and _plausible(known, layers=len(tensors))):
            raise odd(name, "config")
    return Checkpoint(name, tensors, metadata, mapped, config, notes, packed | floats, configs)


def _repeated(
    name: str, keys: set[str], twice: Sequence[str], holders: Mapping[str, set[str]]
) -> IncompatibleCheckpoint:
    """What to say of two files with the same tensors: one network twice, or a file that was given twice."""
    other = next(held for held, known in holders.items() if twice[0] in known)
    if other != name and (len(twice) == len(keys) or keys >= holders[other]):
        return IncompatibleCheckpoint(
            f"{other} and {name} hold the same network, each by itself, perhaps in two precisions.",
            hint="Give one of the files instead of their folder.",
        )
    return IncompatibleCheckpoint(
        f"{name} repeats tensors of {other}: {some(twice)}.", hint="Choose each of the model's files once."
    )


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise MissingWeights(f"{path.name} is not beside the weights.", hint="Download the model's files first.")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("too long for a configuration")
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise damaged(path) from error


def _plausible(value: Any, *, layers: int, name: str = "") -> bool:
    """Whether a configuration can be built in bounded time: no list is endless, no network deeper than its file."""
    if isinstance(value, dict):
        return all(_plausible(inner, layers=layers, name=str(key)) for key, inner in value.items())
    if isinstance(value, list):
        return len(value) <= MOST_ENTRIES and all(_plausible(inner, layers=layers, name=name) for inner in value)
    if not isinstance(value, int | float):
        return True
    if re.search("layers|depth|num_.*blocks", name):
        return value <= max(layers, MOST_LAYERS)
    return abs(value) <= (MOST_POSITIONS if re.search("max_size|seq_len", name) else 2**32)


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, str]]:
    """Views of the file's tensors, what this project wrote into its header, and what others did."""
    header, _ = safetensors_header(path)
    facts = facts_of(header, path)
    notes = header.get("__metadata__")
    told = {str(key): text for key, text in notes.items() if isinstance(text, str)} if isinstance(notes, dict) else {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, facts, told  # noqa: SIM118 (no mapping)
    except (SafetensorError, ValueError, OSError, RuntimeError, AttributeError, KeyError) as error:
        raise damaged(path) from error


def _read_pickle(path: Path, *, archive: bool, mapped: bool) -> dict[str, torch.Tensor]:
    """Views of a `torch.save` file's tensors; only tensors and plain containers are unpickled."""
    try:
        if archive:
            _check_directory(path)
        with path.open("rb") if not mapped else nullcontext(path) as source:
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=archive and mapped)
    except (IncompatibleCheckpoint, MemoryError):
        raise
    except Exception as error:  # torch raises whatever a damaged file leads it to
        if not any(words in str(error) for words in MORE_THAN_TENSORS):
            raise damaged(path) from error
        raise IncompatibleCheckpoint(
            f"{path.name} holds more than tensors, so it is not opened.", hint="Save its state_dict alone."
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in _flat(content, "", set(), DEEPEST):
        if tensor.layout != torch.strided or tensor.is_meta:
            kind = "no numbers" if tensor.is_meta else "only what is not zero"
            raise IncompatibleCheckpoint(
                f"{path.name} holds tensors with {kind} in them ({printable(key)}).", hint="Save dense tensors."
            )
        tensors[key] = tensor
        if len(tensors) > MOST_TENSORS:
            raise too_many(path.name)
    if not tensors:
        raise IncompatibleCheckpoint(f"{path.name} holds no tensors.", hint="Choose the model's weights.")
    return tensors


def _check_directory(path: Path) -> None:
    """Raises IncompatibleCheckpoint for an archive that would take long to read."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    listings = [entry.file_size for entry in entries if entry.filename.endswith("data.pkl")]
    if not listings:
        raise IncompatibleCheckpoint(f"{path.name} is an archive of other files.", hint="Unpack it first.")
    if len(entries) > MOST_TENSORS or max(listings) > MAX_PICKLE_BYTES:
        raise too_many(path.name)


def _flat(content: Any, prefix: str, inside: set[int], deeper: int) -> Iterator[tuple[str, torch.Tensor]]:
    """(key, tensor) of everything in nested dictionaries and lists; what holds itself is entered once."""
    if isinstance(content, torch.Tensor):
        yield prefix.removesuffix("."), content
        return
    if id(content) in inside or not deeper:
        return
    if isinstance(content, Mapping):
        items = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    else:
        return
    inside.add(id(content))
    for key, value in items:
        yield from _flat(value, f"{prefix}{key}.", inside, deeper - 1)
