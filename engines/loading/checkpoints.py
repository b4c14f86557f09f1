"""Opened checkpoints -> networks: recognise the keys, build empty, assign, account for every key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from threading import Lock
from typing import Any

import torch

from engines.errors import IncompatibleCheckpoint, StudioError
from engines.loading import families, weight_only
from engines.loading.key_rules import Architecture, Place, Shapes, Source
from engines.loading.memory_map import converted, release_pages, remember_mapped
from engines.loading.packed import PackedLinear, Packing, form_of
from engines.loading.reading import Checkpoint, open_checkpoint
from engines.loading.streaming import block_of
from engines.types import Put
from engines.wording import both, printable, some

__all__ = ["Blueprint", "Checkpoint", "construct", "fill", "load", "match", "open_checkpoint", "outline"]

# Construction on the meta device redirects what a library builds in the meantime, also in other threads.
CONSTRUCTION = Lock()
# Weights that are numbers by themselves.
PLAIN = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
}  # fmt: skip


@dataclass(frozen=True)
class Blueprint:
    """A checkpoint matched to an architecture: how to construct it and where each parameter comes from.

    Attributes:
        config: arguments of its class.
        sources: {parameter name: where in the file it comes from}.
        shapes: {parameter name: shape in the file}.
        layout: name of the layout.
        note: what people should know of the weights that were chosen, "" if nothing.
        packed: what the matrices that stay packed are held in, for people; "" if none is.
    """

    config: dict[str, Any]
    sources: dict[str, Source]
    shapes: Shapes
    layout: str
    note: str = ""
    packed: str = ""


def match(checkpoint: Checkpoint, architecture: Architecture, **overrides: Any) -> Blueprint:
    """How `checkpoint` fits `architecture`; `overrides` replace what shapes cannot tell (the number of heads).

    Raises:
        IncompatibleCheckpoint: it is another network's file.
    """
    place, note = _place(checkpoint, architecture)
    config = checkpoint.config_of(architecture.class_name)
    made_for = checkpoint.metadata.get("class", architecture.class_name)
    likely = families.family(checkpoint.tensors)
    if made_for != architecture.class_name or (place is None and likely != architecture.title):
        looks = f"looks like {likely}" if likely else f"holds tensors such as {some(sorted(checkpoint.tensors))}"
        raise IncompatibleCheckpoint(
            f"{checkpoint.name} is not {architecture.title}: it {looks}.",
            hint="Choose the file that belongs to this model.",
        )
    if place is None:
        raise _incomplete(checkpoint, architecture)
    sources = {
        name: replace(source, key=place.keys[source.key]) for name, source in place.layout.convert(place.keys).items()
    }
    shapes = {name: _shape(checkpoint, source) for name, source in sources.items()}
    if config is None and architecture.configure is not None:
        try:
            config = architecture.configure(shapes)
        except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            raise _incomplete(checkpoint, architecture) from error
    return Blueprint(dict(config or {}) | overrides, sources, shapes, place.layout.name, note)


def _place(checkpoint: Checkpoint, architecture: Architecture) -> tuple[Place | None, str]:
    """Where the network stands in the file, and what people should know of that; the averaged weights of two.

    Raises:
        IncompatibleCheckpoint: its weights are quantised, or there are several such networks.
    """
    found = architecture.places(checkpoint.tensors)
    if kind := families.quantised(found[0].keys if len(found) == 1 else checkpoint.tensors):
        raise _quantised(checkpoint, f"{kind} quantised weights")
    averages = [place for place in found if place.averaged]
    every = [place for place in found if not place.averaged]
    plain = [place for place in every if not place.beside] or every
    if len(plain) == 1 and not averages:
        averages = [place for place in plain[0].averages(checkpoint.tensors) if _alike(place, plain[0], checkpoint)]
    for several in (averages, plain):
        if len(several) > 1:
            raise IncompatibleCheckpoint(
                f"{checkpoint.name} holds {architecture.title} more than once: "
                f"under {both([place.title for place in several])}.",
                hint="Save the one that is meant alone.",
            )
    if averages:
        averaged = averages[0].completed(plain[0] if plain else averages[0])
        return averaged, f"{checkpoint.name} holds averaged weights, and these are used ({averages[0].title})."
    if len(every) > 1:
        return plain[0], f"{checkpoint.name} holds several such networks, and one of them is used ({plain[0].title})."
    return (plain[0] if plain else None), ""


def _alike(one: Place, other: Place, checkpoint: Checkpoint) -> bool:
    """Whether the weights of both places have the same shapes."""
    tensors = checkpoint.tensors
    return all(tensors[key].shape == tensors[other.keys[name]].shape for name, key in one.keys.items())


def _quantised(checkpoint: Checkpoint, what: str) -> IncompatibleCheckpoint:
    return IncompatibleCheckpoint(
        f"{checkpoint.name} holds {what}, which cannot be used yet.",
        hint="Use the file in bfloat16, float16, float32 or plain 8-bit floats.",
    )


def _incomplete(checkpoint: Checkpoint, architecture: Architecture) -> IncompatibleCheckpoint:
    """What to say of the right kind of file without the tensors that tell which size it is."""
    numbers = {key: tensor for key, tensor in checkpoint.tensors.items() if key not in checkpoint.packed}
    others = [tensor for tensor in numbers.values() if tensor.dtype not in PLAIN]
    if 2 * sum(tensor.numel() for tensor in others) > sum(tensor.numel() for tensor in checkpoint.tensors.values()):
        return _quantised(checkpoint, f"weights in {str(others[0].dtype).removeprefix('torch.')} under other names")
    first, last = (key.split(".") for key in (min(checkpoint.tensors), max(checkpoint.tensors)))
    same = takewhile(lambda words: words[0] == words[1], zip(first, last, strict=False))
    prefix = ".".join(word for word, _ in same)
    begins = f' Its keys begin with "{printable(prefix)}".' if prefix else ""
    return IncompatibleCheckpoint(
        f"{checkpoint.name} is {architecture.title} with tensors missing, among them those that tell its size.{begins}",
        hint="Download the file again; of a sharded model, all files are needed.",
    )


def outline(checkpoint: Checkpoint, architecture: Architecture, **overrides: Any) -> tuple[Blueprint, torch.nn.Module]:
    """How `checkpoint` fits `architecture`, and the empty network on the meta device. No weight is read.

    Raises:
        IncompatibleCheckpoint: another network's file, or keys missing, left over or of the wrong shape.
    """
    blueprint = match(checkpoint, architecture, **overrides)
    module = construct(architecture, blueprint.config, name=checkpoint.name)
    expected = module.state_dict()
    for name, source in blueprint.sources.items():
        dtype = checkpoint.tensors[source.key].dtype
        stored = source.key in checkpoint.packed or dtype in PLAIN
        if name in expected and expected[name].is_floating_point() and not stored:
            raise _quantised(checkpoint, f"weights in {str(dtype).removeprefix('torch.')} without what scales them")
    _check(checkpoint, architecture, blueprint, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    used = {name: source for name, source in blueprint.sources.items() if name in expected}
    kept = _keep_packed(module, checkpoint, architecture, used)
    return replace(blueprint, sources=used, packed=form_of(kept)), module


def _keep_packed(
    module: torch.nn.Module, checkpoint: Checkpoint, architecture: Architecture, sources: Mapping[str, Source]
) -> dict[str, tuple[torch.Tensor, Packing]]:
    """Has the matrices of an empty network's blocks stay packed as they are in the file; which these are."""
    kept = {}
    for name, source in sources.items():
        layer, _, kind = name.rpartition(".")
        if source.key not in checkpoint.packed or kind != "weight" or not block_of(name, architecture.blocks):
            continue
        if type(owner := module.get_submodule(layer)) is torch.nn.Linear and not architecture.stays_float32(name):
            packed, packing = _packed(checkpoint, source)
            kept[layer] = (packed, packing)
            empty = torch.empty_like(packed, device="meta")
            scale = None if packing.scale is None else packing.scale.to("meta")
            module.set_submodule(layer, PackedLinear(empty, replace(packing, scale=scale), owner.bias))
    return kept


def _packed(checkpoint: Checkpoint, source: Source) -> tuple[torch.Tensor, Packing]:
    """A packed tensor of the file, or its row block that a source means."""
    stored, packing = checkpoint.tensors[source.key], checkpoint.packed[source.key]
    return packing.rows(stored, source.part, source.parts) if source.parts > 1 else (stored, packing)


def load(
    checkpoint: Checkpoint, architecture: Architecture, *, dtype: torch.dtype, **overrides: Any
) -> torch.nn.Module:
    """The network with the checkpoint's weights, on the CPU, in inference mode.

    Raises:
        IncompatibleCheckpoint: another network's file, or keys missing, left over or of the wrong shape.
    """
    blueprint, module = outline(checkpoint, architecture, **overrides)
    return fill(module, checkpoint, architecture, blueprint, dtype=dtype)


def fill(
    module: torch.nn.Module,
    checkpoint: Checkpoint,
    architecture: Architecture,
    blueprint: Blueprint,
    *,
    dtype: torch.dtype,
    as_stored: Callable[[str], bool] = lambda name: False,
    held: Put = lambda name, numbers: numbers,
) -> torch.nn.Module:
    """An empty network with the checkpoint's weights, in inference mode.

    Parameters already in their dtype stay views of the memory map; the others are converted one by one and the pages
    they were read from are given back, so no weight stands twice in memory. So it is with those that are to be packed.

    Args:
        as_stored: names of parameters that keep the file's dtype, whatever it is.
        held: what the network holds of a parameter, asked as soon as it is read; all of it if nobody says.
    """
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    state: dict[str, torch.Tensor] = {}
    views: dict[str, torch.Tensor] = {}

    def put(name: str, numbers: torch.Tensor, *, view: bool = False) -> None:
        state[name] = held(name, numbers)
        if view and checkpoint.mapped:
            views[name] = numbers

    for name, source in blueprint.sources.items():
        if architecture.aliases.get(name) in blueprint.sources:
            continue  # the file holds the tensor twice
        stored = checkpoint.tensors[source.key]
        layer = name.removesuffix(".weight")
        if source.key in checkpoint.packed:
            tensor, packing = _packed(checkpoint, source)
            if name not in expected and isinstance(owner := module.get_submodule(layer), PackedLinear):
                owner.compute = dtype
                put(f"{layer}.packed", tensor, view=True)
                if packing.scale is not None:
                    put(f"{layer}.scale", packing.scale.float())
                continue
            tensor = packing.numbers(tensor, torch.float32, packing.scale)
        else:
            tensor = stored.chunk(source.parts)[source.part] if source.parts > 1 else stored
            if name not in expected and isinstance(owner := module.get_submodule(layer), PackedLinear):
                owner.compute = dtype
                packed, made = weight_only.pack(tensor.to(dtype), owner.packing.form)
                put(f"{layer}.packed", packed)
                if made.scale is not None:
                    put(f"{layer}.scale", made.scale)
                if checkpoint.mapped:
                    release_pages(stored)
                continue
        view = source.key not in checkpoint.packed
        kept = torch.float32 if architecture.stays_float32(name) else dtype
        if tensor.is_floating_point() and tensor.dtype != kept and not as_stored(name):
            own = checkpoint.mapped and source.key not in checkpoint.packed
            tensor = converted(tensor, kept) if own else tensor.to(kept)
            view = False
            if checkpoint.mapped:
                release_pages(stored)
        put(name, tensor.reshape(expected[name]), view=view)
    for alias, name in architecture.aliases.items():
        if name not in state:
            state[name] = state[alias]
        state[alias] = state[name]
    module.load_state_dict(state, strict=True, assign=True)
    remember_mapped(module, views)
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
    except StudioError:  # the network itself says what is wrong
        raise
    except Exception as error:  # a library raises whatever an odd configuration leads it to
        raise IncompatibleCheckpoint(
            f"{name} describes {architecture.title} that cannot be built.", hint="Download the file again."
        ) from error


def _check(checkpoint: Checkpoint, architecture: Architecture, blueprint: Blueprint, expected: Shapes) -> None:
    """Raises one error that accounts for every key missing, left over or of the wrong shape."""
    have = set(blueprint.shapes)
    for alias, name in architecture.aliases.items():
        if have & {alias, name}:
            have |= {alias, name}
    missing, left_over = sorted(expected.keys() - have), sorted(have - expected.keys())
    unexpected = _of_no_other([blueprint.sources[name].key for name in left_over], blueprint, expected)
    wrong = [
        f"{blueprint.sources[name].key} {list(shape)} instead of {list(expected[name])}"
        for name, shape in sorted(blueprint.shapes.items())
        if name in expected and [n for n in shape if n != 1] != [n for n in expected[name] if n != 1]
    ]
    faults = [
        f"{len(keys)} {what} ({some(keys)})"
        for keys, what in ((missing, "missing"), (unexpected, "unexpected"), (wrong, "of the wrong shape"))
        if keys
    ]
    if faults:
        raise IncompatibleCheckpoint(
            f"{checkpoint.name} does not fit {architecture.title}: of {len(expected)} tensors, {'; '.join(faults)}.",
            hint="Download the file again, or choose the one that belongs to this model.",
        )


def _of_no_other(keys: list[str], blueprint: Blueprint, expected: Shapes) -> list[str]:
    """Of keys that are not used, those that belong to no other network which was merged into the file."""
    used = {source.key.partition(".")[0] for name, source in blueprint.sources.items() if name in expected}
    parts: dict[str, list[str]] = {}
    for key in keys:
        part, _, name = key.partition(".")
        parts.setdefault(part, []).append(name)
    others = {part for part, names in parts.items() if part not in used and families.family(names)}
    return [key for key in keys if key.partition(".")[0] not in others]


def _shape(checkpoint: Checkpoint, source: Source) -> tuple[int, ...]:
    shape = checkpoint.shape(source.key)
    return (shape[0] // source.parts, *shape[1:]) if source.parts > 1 and shape else shape
