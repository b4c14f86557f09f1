"""The networks of a model: found, described from their headers, checked to fit together, built only when used."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError

from engines.adapters import matching
from engines.adapters.applying import applied, is_layers
from engines.errors import IncompatibleCheckpoint
from engines.inputs import Adapter
from engines.loading import weight_only
from engines.loading.checkpoints import Blueprint, fill, outline
from engines.loading.integrity import odd
from engines.loading.key_rules import Architecture
from engines.loading.packed import as_stored, layer_shapes
from engines.loading.reading import Checkpoint, open_checkpoint
from engines.loading.streaming import block_of, stream, streamed_bytes
from engines.memory import planning
from engines.memory.devices import abilities
from engines.memory.fitting import Planned, Use, Working
from engines.memory.precision import FLOAT32, PRECISIONS, Precision
from engines.sampling.caches import NO_CACHE, StepCache
from engines.types import Component, Context, Put, Shared, Streamed

T = TypeVar("T")


def _able(context: Context) -> planning.Abilities:
    """What the context's device computes in, and what of that is wanted."""
    return replace(abilities(context.device), wanted=context.wanted)


@dataclass(frozen=True, eq=False)
class Network:
    """A checkpoint on this machine: opened, matched to its architecture, none of its weights read.

    Attributes:
        role: which part of the model it is.
        identity: names the files' present content; two networks of the same identity are the same.
        empty: the network on the meta device.
        adapters: what changes it for the job at hand.
        cache: what of its steps is used again in that job.
    """

    role: str
    paths: tuple[Path, ...]
    architecture: Architecture
    checkpoint: Checkpoint
    blueprint: Blueprint
    empty: torch.nn.Module
    identity: str
    adapters: tuple[matching.FittedAdapter, ...] = ()
    cache: StepCache = NO_CACHE

    @property
    def name(self) -> str:
        """What to call its file before people."""
        return self.paths[0].name

    @property
    def config(self) -> Mapping[str, Any]:
        """Arguments of its class, as far as the file or its shapes tell them."""
        return self.blueprint.config

    @property
    def layout(self) -> str:
        """Name of the way its tensors are named (engines/loading/key_rules.py)."""
        return self.blueprint.layout

    def fact(self, name: str, kind: type[T] | Any, default: T) -> T:
        """What this project's trainer wrote into the file under `name`, `default` for published files.

        Args:
            kind: a type that pydantic can check.

        Raises:
            IncompatibleCheckpoint: it is nothing of that kind.
        """
        if name not in self.checkpoint.metadata:
            return default
        try:
            return TypeAdapter(kind).validate_python(self.checkpoint.metadata[name])
        except ValidationError as error:
            raise odd(self.name, name) from error

    def precision(self, context: Context) -> Precision:
        """What it computes in on the context's device where there is room enough."""
        able = _able(context)
        best = self._forms(able).names[0]
        unasked = able.kind != "cpu" and best != able.half and able.wanted != best
        return replace(PRECISIONS[best], instead_of=able.half if unasked else "")

    def planned(self, context: Context, working: Working = lambda itemsize: 0, *, beside: int = 0) -> Use:
        """The component as this context has the memory for it, and what a run takes beside it.

        Args:
            working: bytes of a run's activations, computed in numbers of so many bytes.
            beside: bytes to be left for what is used at the same time.
        """
        found = self.plan(context, {"": working}, beside=beside)
        return Use(found.component, found.working_bytes)

    def plan(self, context: Context, manners: Mapping[str, Working], *, beside: int = 0) -> Planned:
        """How it runs in this context: engines/memory/planning.py chooses the form, the manner, and whether its blocks
        take turns.

        Args:
            manners: how a run can be made, the best first: "in tiles" -> bytes of its activations.
            beside: as of `planned`.
        """
        able = _able(context)
        tried = self._forms(able)
        usual, narrow = self._ways(able, manners), self._ways(able, manners, self._narrow(able))
        ways, narrow = planning.as_wanted(usual, narrow, able)
        room = context.room(beside=beside).of(self.role)
        lower = context.lower.get(self.role, 0)
        decision = planning.plan(ways, room, narrow=narrow, turns_first=tried.turns_first, lower=lower)
        component = self.component(PRECISIONS[decision.way.form])
        notes = component.notes
        if decision.way.form in {way.form for way in narrow}:
            notes += (
                f"There was not the memory for {tried.names[0]}: the weights of {self.architecture.title} were made "
                "8 bits wide, so fine details may differ.",
            )
        if decision.way.form in self.architecture.makeshifts and decision.way.form not in tried.names:
            notes += (
                f"There was not the memory for {tried.names[0]}: {self.architecture.title} computed in "
                f"{decision.way.form}, so fine shades may be off.",
            )
        if decision.mode == "turns":
            notes += (f"{self._title} took turns block by block: there was not the memory for all of it at once.",)
        elif decision.way.manner and decision.way.manner != next(iter(manners)):
            notes += (f"{self._title} worked {decision.way.manner}: there was not the memory for more at once.",)
        if room.devices > 1 and decision.mode != "split" and self._changed_inside:
            notes += (f"{self._title} was held whole by each device: an adapter changes more of it than its layers.",)
        shared = self._shared(decision, room.devices) if decision.mode == "split" else None
        in_turns = decision.mode == "turns"
        return Planned(replace(component, notes=notes, in_turns=in_turns, shared=shared, rung=decision.rung), decision)

    def least_bytes(self, context: Context, working: Working) -> int:
        """What it and a run of it need of the context's device at the least."""
        able, manners = _able(context), {"": working}
        return planning.least_bytes([*self._ways(able, manners), *self._ways(able, manners, self._narrow(able))])

    def _narrow(self, able: planning.Abilities) -> list[str]:
        """The forms whose weights are made narrower than the file has them."""
        return [f"int8 in {self._forms(able).names[0]}"] if self.can_be_narrower else []

    def _ways(
        self, able: planning.Abilities, manners: Mapping[str, Working], names: Sequence[str] | None = None
    ) -> list[planning.Way]:
        """Every way in which it can be run, best first; by default in the forms that lose nothing, or very little."""
        if names is None:
            names = [*dict.fromkeys((*self._forms(able).names, *self.architecture.makeshifts))]
        return [self._way(name, manner, working, able) for name in names for manner, working in manners.items()]

    @property
    def _title(self) -> str:
        """What it is, as the beginning of a sentence."""
        return f"{self.architecture.title[:1].upper()}{self.architecture.title[1:]}"

    def _forms(self, able: planning.Abilities) -> planning.Forms:
        return planning.forms(able, self.architecture.precisions, float32_bytes=self.size_bytes(FLOAT32))

    def _way(self, form: str, manner: str, working: Working, able: planning.Abilities) -> planning.Way:
        """It in a precision, with the job's adapters; where the device is RAM, blocks take turns only from its file."""
        precision = PRECISIONS[form]
        adapters = sum(adapter.bytes_in(precision.compute) for adapter in self.adapters)
        way = self.counted_in(precision).way(
            form, precision.storage.itemsize, working(precision.compute.itemsize) + adapters
        )
        turns = way.turn_bytes if not able.is_ram or (self.streams and not precision.weights) else None
        block = 0 if self._changed_inside else way.block_bytes
        return replace(way, manner=manner, turn_bytes=turns, block_bytes=block, fixed_bytes=adapters)

    @property
    def can_be_narrower(self) -> bool:
        """Whether its weights can be made 8 bits wide while they are loaded."""
        return bool(self.architecture.blocks) and not self.blueprint.packed and weight_only.available()

    def held(self, precision: Precision) -> torch.nn.Module:
        """The network on the meta device with the layers that it has in a precision."""
        if (kind := precision.weights) not in self._held:
            self._held[kind] = weight_only.outline(copy.deepcopy(self.empty), self.architecture.blocks, kind)
        return self._held[kind]

    def counted_in(self, precision: Precision) -> planning.Counted:
        """Its weights, counted from the empty network as it is in a precision."""
        if (kind := precision.weights) not in self._counted:
            self._counted[kind] = counted(self.held(precision), self.architecture)
        return self._counted[kind]

    @cached_property
    def _held(self) -> dict[str, torch.nn.Module]:
        return {"": self.empty}

    @cached_property
    def _counted(self) -> dict[str, planning.Counted]:
        return {}

    def size_bytes(self, precision: Precision) -> int:
        """Bytes of its parameters and buffers in a precision."""
        return precision.bytes_of(self.held(precision), self.architecture.stays_float32)

    @property
    def streams(self) -> bool:
        """Whether its blocks can take turns from its file."""
        return self.checkpoint.mapped and bool(self.architecture.blocks)

    def streamed_bytes(self, precision: Precision) -> int:
        """Bytes in RAM while its blocks take turns from its file."""
        return streamed_bytes(self.empty, self.architecture.blocks, self._dtypes(precision))

    def component(self, precision: Precision) -> Component:
        """The network in a precision, read from its files when it is first used."""
        return Component(
            key=" ".join((self.role, self.identity, precision.name)),
            build=lambda: self._build(precision),
            size_bytes=self.size_bytes(precision),
            blocks=self.architecture.blocks,
            role=self.role,
            precision=f"{self.blueprint.packed} in {precision.name}" if self.blueprint.packed else precision.name,
            half=precision.compute.itemsize == 2,
            notes=tuple(filter(None, (self.blueprint.note, self.cache.note))),
            streamed=Streamed(lambda: self._stream(precision), self.streamed_bytes(precision))
            if self.streams and not precision.weights
            else None,
            adapts=bool(self.adapters),
            adapted=self._for_job,
        )

    def with_adapters(self, given: Sequence[Adapter]) -> Network:
        """The network as these adapters change it; those of no strength are left out.

        Raises:
            MissingWeights, IncompatibleCheckpoint: one is gone, damaged, or was made for another network.
        """
        shapes = layer_shapes(self.empty)
        counting = (adapter for adapter in given if adapter.strength)
        fitted = [matching.fit(one, self.architecture, shapes, network=self.name) for one in counting]
        return replace(self, adapters=tuple(fitted))

    @property
    def _changed_inside(self) -> bool:
        """Whether an adapter changes a block's parameter that is no layer's, which must then be whole."""
        names = (change.parameter for adapter in self.adapters for change in adapter.changes)
        return any(block_of(name, self.architecture.blocks) and not is_layers(self.empty, name) for name in names)

    def _shared(self, decision: planning.Plan, devices: int) -> Shared:
        precision = PRECISIONS[decision.way.form]

        def build(spread: Callable[[torch.nn.Module, tuple[str, ...]], Put]) -> torch.nn.Module:
            checkpoint = self.checkpoint if self.checkpoint.mapped else open_checkpoint(self.paths)
            module = copy.deepcopy(self.held(precision)).requires_grad_(False)
            held = spread(module, self.architecture.blocks)
            return fill(module, checkpoint, self.architecture, self.blueprint, dtype=precision.storage, held=held)

        return Shared(build, decision.way.share_bytes(devices), 2 * decision.way.block_bytes)

    @contextmanager
    def _for_job(self, module: torch.nn.Module) -> Iterator[None]:
        """Its adapters and its step cache on the built network, for the length of the block."""
        with applied(self.adapters, module), self.cache.on(module):
            yield

    def _build(self, precision: Precision) -> torch.nn.Module:
        checkpoint = self.checkpoint if self.checkpoint.mapped else open_checkpoint(self.paths)
        module = copy.deepcopy(self.held(precision))
        return fill(module, checkpoint, self.architecture, self.blueprint, dtype=precision.storage)

    def _stream(self, precision: Precision) -> torch.nn.Module:
        module, blocks = copy.deepcopy(self.empty), self.architecture.blocks
        fill(
            module,
            self.checkpoint,
            self.architecture,
            self.blueprint,
            dtype=precision.compute,
            as_stored=lambda name: bool(block_of(name, blocks)),
        )
        return stream(module, blocks, self._dtypes(precision))

    def _dtypes(self, precision: Precision) -> Callable[[str], torch.dtype]:
        """In which dtype a parameter computes, by its name."""
        return lambda name: torch.float32 if self.architecture.stays_float32(name) else precision.compute


def counted(module: torch.nn.Module, architecture: Architecture) -> planning.Counted:
    """The weights of a network, which may lie on the meta device, counted as the planner wants them."""
    kept, whole, blocks = as_stored(module), planning.NOTHING, dict[str, planning.Share]()
    for name, parameter in module.named_parameters():
        size, single = parameter.numel(), architecture.stays_float32(name)
        one = planning.Share(0, 0, parameter.nbytes) if name in kept else planning.Share(size, size * single)
        block = block_of(name, architecture.blocks)
        whole, blocks[block] = whole.with_(one), blocks.get(block, planning.NOTHING).with_(one)
    outside = blocks.pop("", planning.NOTHING)
    largest = max(blocks.values(), key=lambda share: share.size_bytes(2), default=planning.NOTHING)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    return planning.Counted(whole, outside if blocks else planning.NOTHING, largest, buffers)


def outlined(module: torch.nn.Module, architecture: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be known of a network that is not opened: an entry of outlines.json, or of a built-in file's header.

    Args:
        config: what formulas ask of its configuration.
    """
    numbers = counted(module, architecture)
    return {
        "kind": architecture.class_name,
        "whole": [*numbers.whole[:2]],
        "outside": [*numbers.outside[:2]],
        "block": [*numbers.block[:2]],
        "buffer_bytes": numbers.buffer_bytes,
        "config": json.loads(json.dumps(config, default=list)),
    }


Networks = Mapping[str, Network]


@dataclass(frozen=True)
class Fit:
    """What must be equal in two networks of a model.

    Attributes:
        what: for people: "latent channels".
        role: whose file is named as having it; `wanted_by` as wanting another number.
        has, wants: the two numbers.
    """

    what: str
    role: str
    has: Callable[[Networks], int]
    wants: Callable[[Networks], int]
    wanted_by: str = "transformer"


def networks(
    context: Context,
    architectures: Mapping[str, Architecture],
    *,
    fits: Sequence[Fit] = (),
    adapters: Sequence[Adapter] = (),
) -> dict[str, Network]:
    """The networks of a model by role, as the context has their files; nothing is loaded.

    Args:
        adapters: what changes the network of the role "transformer".

    Raises:
        MissingWeights: a file is missing.
        IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others; an adapter likewise.
    """
    found = {role: find_network(role, context.paths(role), kind) for role, kind in architectures.items()}
    check_fits(found, fits)
    if adapters:
        found["transformer"] = found["transformer"].with_adapters(adapters)
    return found


def check_fits(found: Networks, fits: Sequence[Fit]) -> None:
    """Raises IncompatibleCheckpoint of the first two networks that were not made for each other."""
    for fit in fits:
        has, wants = fit.has(found), fit.wants(found)
        if has != wants:
            raise IncompatibleCheckpoint(
                f"{found[fit.role].name} has {has} {fit.what}, but {found[fit.wanted_by].name} was made for {wants}.",
                hint="Use the files that were published together.",
            )


def find_network(role: str, paths: tuple[Path, ...], architecture: Architecture) -> Network:
    """Describes the checkpoint in `paths`; opens and matches it once while its files stay the same.

    Raises:
        MissingWeights, IncompatibleCheckpoint: see open_checkpoint and engines.loading.checkpoints.
    """
    weights = tuple(path for path in paths if path.name != architecture.config_file)
    if architecture.config_file:
        given = [path for path in paths if path not in weights]
        paths = (*weights, *(given or [weights[0].with_name(architecture.config_file)]))
    stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for path in paths)
    return replace(_describe(paths, architecture, stamps), role=role)


@lru_cache(maxsize=64)
def _describe(paths: tuple[Path, ...], architecture: Architecture, stamps: Any) -> Network:
    checkpoint = open_checkpoint(paths, config_file=architecture.config_file)
    blueprint, empty = outline(checkpoint, architecture)
    if not checkpoint.mapped:  # what was read whole is read again to be built, rather than kept
        checkpoint = replace(checkpoint, tensors={})
    digest = hashlib.sha256(repr((paths[0].resolve(), stamps)).encode()).hexdigest()[:8]
    return Network(
        role="",
        paths=paths,
        architecture=architecture,
        checkpoint=checkpoint,
        blueprint=blueprint,
        empty=empty,
        identity=f"{paths[0].name} {digest}",
    )
