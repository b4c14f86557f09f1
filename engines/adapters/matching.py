"""An adapter's file and a network -> what it changes there, with every part of the file accounted for.

Libraries load of a file what they find a place for and drop the rest without a word: of a LoRA for a deeper network, of
a distillation with norms. Here a file fits whole, or is refused in one sentence before a weight of the network is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from engines.adapters.naming import TEXT_ENCODERS, Part, dotted, other_kind, parts_of, prefixes
from engines.errors import IncompatibleCheckpoint
from engines.inputs import Adapter
from engines.loading.families import family
from engines.loading.key_rules import Architecture, Layout, Shapes, Source
from engines.loading.reading import Checkpoint, open_checkpoint
from engines.wording import some

# What peft writes beside its files; diffusers writes the same into the header.
PEFT_FILE, PEFT_CONFIG, HEADER_CONFIG = "adapter_model.safetensors", "adapter_config.json", "lora_adapter_metadata"
_HINT = "Choose an adapter that was made for this model."


@dataclass(frozen=True)
class Change:
    """What an adapter adds to one parameter at strength 1: scale * up @ down, or a whole difference.

    Attributes:
        parameter: its name in the network.
        down, up: [r,in,...] and [out,r,...]; None where `whole` holds the difference.
        whole: a tensor of the parameter's shape, up to sides of length 1.
    """

    parameter: str
    scale: float = 1.0
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    whole: torch.Tensor | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it consists of."""
        return sum(tensor.numel() for tensor in (self.down, self.up, self.whole) if tensor is not None)


@dataclass(frozen=True)
class FittedAdapter:
    """An adapter as a network takes it.

    Attributes:
        given: the file, its strength, and over which share of the steps it counts.
        changes: what it adds.
    """

    given: Adapter
    changes: tuple[Change, ...]

    def bytes_in(self, dtype: torch.dtype) -> int:
        """Memory for it beside a network that computes in `dtype`."""
        return sum(change.numbers for change in self.changes) * dtype.itemsize


def fit(given: Adapter, architecture: Architecture, shapes: Shapes, *, network: str) -> FittedAdapter:
    """What an adapter changes in a network.

    Args:
        shapes: of the network's parameters, by name.
        network: what to call its file before people.

    Raises:
        MissingWeights: the file is gone.
        IncompatibleCheckpoint: it is damaged, of another kind, or of another network.
    """
    status = given.path.stat() if given.path.is_file() else None
    checkpoint = _opened(given.path, status and (status.st_mtime_ns, status.st_size))
    name, keys = given.path.name, checkpoint.tensors.keys()
    if kind := other_kind(keys):
        raise IncompatibleCheckpoint(f"{name} is {kind}, which cannot be used.", hint="Choose a LoRA.")
    named, others = parts_of(keys)
    if not named:
        looks = f"looks like {what}" if (what := family(keys)) else f"holds tensors such as {some(sorted(keys))}"
        raise IncompatibleCheckpoint(f"{name} is no adapter: it {looks}.", hint="Choose a LoRA file.")
    if text := [layer for layer in named if TEXT_ENCODERS.fullmatch(layer)]:
        raise IncompatibleCheckpoint(
            f"{name} changes a text encoder too ({some(text)}), which is not supported.",
            hint="Choose an adapter of the video model alone.",
        )
    if others:
        raise IncompatibleCheckpoint(
            f"{name} holds tensors that are no part of an adapter ({some(sorted(others))}).", hint=_HINT
        )
    own = {parameter.rpartition(".")[0].replace(".", "_"): parameter.rpartition(".")[0] for parameter in shapes}
    layers = {dotted(layer, own): parts for layer, parts in named.items()}
    prefix, sources = _best(layers, architecture, shapes)
    _check_all_found(name, layers, prefix, sources, architecture, shapes, network)
    scales = _scales(given.path, checkpoint)
    changes: list[Change] = []
    for parameter, source in sources.items():
        layer, _, kind = source.key.rpartition("/")
        changes += _changes(name, checkpoint, parameter, kind, layers[layer], source, shapes, scales, network)
    return FittedAdapter(given, tuple(changes))


@lru_cache(maxsize=4)
def _opened(path: Path, stamp: Any) -> Checkpoint:
    """The file, mapped, with nothing in it that is no number."""
    checkpoint = open_checkpoint((path,))
    if bad := [key for key, tensor in checkpoint.tensors.items() if not torch.isfinite(tensor.float()).all()]:
        raise IncompatibleCheckpoint(
            f"{path.name} is damaged: it holds numbers that are not finite ({some(bad)}).",
            hint="Download the file again.",
        )
    return checkpoint


def _best(
    layers: Mapping[str, Mapping[Part, str]], architecture: Architecture, shapes: Shapes
) -> tuple[str, dict[str, Source]]:
    """The prefix of the file's names and {parameter: source} of those that the network has, in the naming of most.

    A source's key is "layer/weight" or "layer/bias", the layer as the file calls it.
    """
    best: tuple[str, dict[str, Source]] = ("", {})
    for prefix in prefixes(layers):
        inside = {layer.removeprefix(prefix): layer for layer in layers if layer.startswith(prefix)}
        for layout in (*architecture.layouts, Layout("network", ())):
            found: dict[str, Source] = {}
            for kind in ("weight", "bias", ""):
                keys = {_key(short, kind): layer for short, layer in inside.items() if _has(layers[layer], kind)}
                for parameter, source in layout.convert(keys).items():
                    if parameter in shapes:
                        place = f"{keys[source.key]}/{kind or 'weight'}"
                        found.setdefault(parameter, Source(place, source.part, source.parts))
            if len(found) > len(best[1]):
                best = (prefix, found)
    return best


def _key(layer: str, kind: str) -> str:
    """The parameter's key in a checkpoint; a parameter that no layer owns is called by its own name."""
    return f"{layer}.{kind}" if kind else layer


def _has(parts: Mapping[Part, str], kind: str) -> bool:
    if kind == "bias":
        return "bias" in parts or "up bias" in parts
    return "weight" in parts or (kind == "weight" and ("down" in parts or "up" in parts))


def _check_all_found(
    name: str,
    layers: Mapping[str, Mapping[Part, str]],
    prefix: str,
    sources: Mapping[str, Source],
    architecture: Architecture,
    shapes: Shapes,
    network: str,
) -> None:
    """Raises IncompatibleCheckpoint where a layer of the file has no place in the network."""
    placed = {source.key for source in sources.values()}
    wanted = {f"{layer}/{kind}" for layer, parts in layers.items() for kind in ("weight", "bias") if _has(parts, kind)}
    left = sorted(place.rpartition("/")[0] for place in wanted - placed)
    if not left and placed:
        return
    if not placed:
        raise IncompatibleCheckpoint(
            f"{name} was made for another network than {architecture.title}: it changes layers such as "
            f"{some(sorted(layers))}.",
            hint=_HINT,
        )
    depths = {path: sum(1 for _ in _numbers(shapes, path)) for path in architecture.blocks}
    for path, depth in depths.items():
        deepest = max(_numbers((layer.removeprefix(prefix) for layer in left), path), default=-1)
        if deepest >= depth:
            raise IncompatibleCheckpoint(
                f"{name} was made for a deeper network: it changes block {deepest + 1}, and {network} has {depth}.",
                hint=_HINT,
            )
    layer_s = f"{len(left)} layers" if len(left) > 1 else "a layer"
    raise IncompatibleCheckpoint(f"{name} changes {layer_s} that {network} does not have ({some(left)}).", hint=_HINT)


def _numbers(names: Any, path: str) -> set[int]:
    """The numbers of the blocks under `path` that names are of."""
    found = (re.match(rf"{re.escape(path)}\.(\d+)(\.|$)", name) for name in names)
    return {int(match[1]) for match in found if match}


def _scales(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What peft and diffusers say of alpha and rank, in the header or in the file beside; empty where nothing is said.

    Raises:
        IncompatibleCheckpoint: that is no configuration.
    """
    text = checkpoint.notes.get(HEADER_CONFIG, "")
    if not text and path.name == PEFT_FILE and (beside := path.with_name(PEFT_CONFIG)).is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")[: 2**20]
    if not text:
        return {}
    try:
        said = json.loads(text)
        return {str(key).removeprefix("transformer."): value for key, value in said.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise IncompatibleCheckpoint(
            f"{path.name} says something of itself that cannot be used.", hint="Download the file again."
        ) from error


def _changes(
    name: str,
    checkpoint: Checkpoint,
    parameter: str,
    kind: str,
    parts: Mapping[Part, str],
    source: Source,
    shapes: Shapes,
    said: Mapping[str, Any],
    network: str,
) -> list[Change]:
    """What the parts of a layer add to one of its parameters."""
    tensors = {part: checkpoint.tensors[key] for part, key in parts.items()}
    shape, scale, found = shapes[parameter], 1.0, []
    down, up = tensors.get("down"), tensors.get("up")
    if (down is None) != (up is None):
        raise IncompatibleCheckpoint(
            f"{name} is not complete: of {source.key.rpartition('/')[0]} it holds one factor without the other.",
            hint="Download the file again.",
        )
    if down is not None:
        scale = _scale(tensors.get("alpha"), down.shape[0], said, parameter)
    if kind == "weight" and down is not None and up is not None:
        up = _rows(up, source)
        _check_factors(name, parameter, down, up, shape, network)
        if len(shape) > 2:  # of a convolution, which is small: the product itself
            found.append(Change(parameter, scale, whole=(up.flatten(1).float() @ down.flatten(1).float()).view(shape)))
        else:
            found.append(Change(parameter, scale, down=down.flatten(1), up=up.flatten(1)))
    if kind == "bias" and "up bias" in tensors:
        found.append(_whole(name, parameter, _rows(tensors["up bias"], source), shape, scale, network))
    if kind in tensors:
        found.append(_whole(name, parameter, _rows(tensors[kind], source), shape, 1.0, network))  # type: ignore[index]
    return found


def _scale(alpha: torch.Tensor | None, rank: int, said: Mapping[str, Any], parameter: str) -> float:
    """alpha / rank, where anything says alpha; with peft's rank stabilisation alpha / sqrt(rank)."""
    if alpha is not None:
        return alpha.float().flatten()[0].item() / rank if alpha.numel() else 1.0
    layer = parameter.rpartition(".")[0]
    patterns = said.get("alpha_pattern") or {}
    special = next(
        (value for pattern, value in patterns.items() if re.search(rf"(^|\.){re.escape(pattern)}$", layer)), None
    )
    value = special if special is not None else said.get("lora_alpha")
    if not isinstance(value, int | float):
        return 1.0
    return value / (math.sqrt(rank) if said.get("use_rslora") else rank)


def _rows(tensor: torch.Tensor, source: Source) -> torch.Tensor:
    """The row block of a fused layer that belongs to one of its parts."""
    return tensor.chunk(source.parts)[source.part] if source.parts > 1 else tensor


def _check_factors(
    name: str, parameter: str, down: torch.Tensor, up: torch.Tensor, shape: Sequence[int], network: str
) -> None:
    """Raises IncompatibleCheckpoint where the product of the factors is not of the parameter's shape."""
    made = (up.shape[0], math.prod(down.shape[1:]))
    if down.shape[0] != math.prod(up.shape[1:]) or made != (shape[0], math.prod(shape[1:])):
        raise _misfit(name, parameter, made, (shape[0], math.prod(shape[1:])), network)


def _whole(
    name: str, parameter: str, difference: torch.Tensor, shape: Sequence[int], scale: float, network: str
) -> Change:
    if [n for n in difference.shape if n != 1] != [n for n in shape if n != 1]:
        raise _misfit(name, parameter, tuple(difference.shape), tuple(shape), network)
    return Change(parameter, scale, whole=difference.reshape(tuple(shape)))


def _misfit(
    name: str, parameter: str, has: Sequence[int], wants: Sequence[int], network: str
) -> IncompatibleCheckpoint:
    return IncompatibleCheckpoint(
        f"{name} was made for a network of another size: it changes {list(has)} numbers of {parameter}, "
        f"and {network} has {list(wants)}.",
        hint=_HINT,
    )
