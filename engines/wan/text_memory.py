"""Texts embedded once a clip: at every step a Wan transformer makes the same keys and values of them, block by block.

What a pass's text became at the first step is what it becomes at every other one, to the bit, for the projections and
their input are the same. It is kept where the device has memory to spare, beside everything else that is booked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from engines.memory.activations import width
from engines.types import Component, Context

_passes: ContextVar[tuple[str, ...]] = ContextVar("passes", default=())


@contextmanager
def reading(passes: Sequence[str]) -> Iterator[None]:
    """For the length of the block, networks are called for these passes, in this order."""
    before = _passes.set(tuple(passes))
    try:
        yield
    finally:
        _passes.reset(before)


@contextmanager
def kept_texts(
    context: Context,
    component: Component,
    network: WanTransformer3DModel,
    *,
    tokens: int,
    rows: int,
    shared: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """For the length of the block `network`, in use as `component`, keeps what it makes of texts, if there is room.

    Args:
        tokens: of a text, as attention sees it.
        rows: texts of all passes of a step.
        shared: pass -> the one that has the same text.
    """
    layers, wide = len(network.blocks), width(network.config)
    needed = rows * tokens * wide * (2 * layers + 1) * (2 if component.half else 4)
    room = context.room()
    spare = room.budget_bytes - room.busy_bytes - room.idle_bytes
    # Shared weights are gathered anew for every call, an adapter may change them from one step to the next, and what is
    # compiled would be compiled anew for every clip.
    if room.devices > 1 or component.adapts or "blocks" in context.computed or needed > spare:
        yield
        return
    memory = replace(component, role="", notes=(), shared=None, compiles=False, adapted=_as_it_is)
    with context.use(memory, working_bytes=needed), kept_on(network, shared):
        yield


@contextmanager
def _as_it_is(_: Any) -> Iterator[None]:
    yield


@contextmanager
def kept_on(network: WanTransformer3DModel, shared: Mapping[str, str]) -> Iterator[None]:
    """For the length of the block `network` keeps what it makes of texts, however much that is."""
    kept: dict[tuple[torch.nn.Module, tuple[str, ...]], torch.Tensor] = {}

    def remembering(module: torch.nn.Module, *, of: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        plain = module.forward

        def forward(given: torch.Tensor) -> torch.Tensor:
            passes = _passes.get()
            if not passes:
                return plain(given)
            key = of, tuple(shared.get(name, name) for name in passes)
            if key in kept:
                return kept[key]
            made = plain(given)
            if module is of:
                kept[key] = made
            return made

        return forward

    embedder = network.condition_embedder.text_embedder
    modules = {embedder: embedder}
    for block in network.blocks:  # keys are kept as they are normalised
        asked = block.attn2
        modules |= {asked.to_k: asked.norm_k, asked.norm_k: asked.norm_k, asked.to_v: asked.to_v}
    before = {module: module.__dict__.get("forward") for module in modules}
    for module, of in modules.items():
        module.forward = remembering(module, of=of)
    try:
        yield
    finally:
        kept.clear()
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward
