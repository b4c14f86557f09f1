"""A network's repeated blocks compiled for the length of a job: the same numbers up to rounding, sooner.

Only the block is compiled, once for all of them, so the first step of a shape takes tens of seconds and not minutes.
What was compiled is kept by torch for this process: a second clip of the same shape begins at once. torch is imported
late: the studio asks what can be had, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engines.errors import StudioError

if TYPE_CHECKING:
    import torch

OFF, AUTO, ON = "off", "auto", "on"
CHOICES = (OFF, AUTO, ON)
"""Never; where it pays for itself; always."""

# Measured on one H100 (docs/gpu.md): Wan 1.3B takes 0.82 of the time, and the first step of a shape 13 s; with a slower
# processor, longer. Published for networks ten times as large: 0.69 to 0.73.
_SAVED_SHARE = 0.18
_FIRST_STEP_S = 25.0
# Every size and length of a clip, and every number of passes in a batch, is a shape of its own.
_SHAPES = 64


class CannotCompile(StudioError):
    """Nothing can be compiled here."""


def unusable(kind: str) -> str:
    """Why nothing can be compiled on a device of this kind ("cuda", "cpu", "mps"), in a sentence; "" if it can be."""
    if kind == "mps":
        return "Nothing can be compiled for an Apple GPU: choose --compile off."
    if kind == "cuda" and find_spec("triton") is None:
        return "Compiling for a GPU needs the package triton: install it with `pip install triton`, or --compile off."
    if not any(map(shutil.which, ("g++", "c++", "clang++", "cl"))):
        return "Compiling needs a C++ compiler, and this machine has none: install one, or choose --compile off."
    return ""


@dataclass
class Compiling:
    """Whether the clips of one process are compiled.

    Attributes:
        setting: of CHOICES.
        kind: of its device.
        made: shapes that were compiled already.
    """

    setting: str
    kind: str
    made: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.setting == ON and (why := unusable(self.kind)):
            raise CannotCompile(why)

    def wanted(self, shape: str, *, steps: int, step_s: float | None) -> bool:
        """Whether the next clip is compiled.

        Args:
            shape: what it has in common with clips for which the same is compiled: see `shape_of`.
            steps: of it, and of those of its shape that wait behind it.
            step_s: what a step of its shape took that was not compiled; None where that is not known yet.
        """
        if self.setting != AUTO or self.kind != "cuda":
            return self.setting == ON
        pays = step_s is not None and steps * step_s * _SAVED_SHARE > _FIRST_STEP_S
        return (pays or shape in self.made) and not unusable(self.kind)


SHAPE = {"model", "width", "height", "frames"}


def shape_of(engine: str, request: Mapping[str, Any]) -> str:
    """What clips have in common for which the same is compiled, by the values of their requests."""
    return " ".join([engine, *(str(request.get(name)) for name in sorted(SHAPE))])


def steps_alike(first: tuple[str, Mapping[str, Any]], others: Iterable[tuple[str, Mapping[str, Any]]]) -> int:
    """Steps of those of the other clips (engine, request) that have the shape of the first."""
    shape = shape_of(*first)
    return sum(int(request.get("steps") or 0) for engine, request in others if shape_of(engine, request) == shape)


def hindrance(network: Any) -> str:
    """What on a network would keep its blocks from being compiled whole, for people; "" for nothing."""
    blocks = _blocks(network)
    if not blocks:
        return "its blocks are of several kinds"
    for block in blocks:
        for module in block.modules():
            registry = getattr(module, "_diffusers_hook", None)
            if registry is not None and registry.hooks:
                return "its blocks take turns, or a step cache is on them"
            hooked = module._forward_hooks or module._forward_pre_hooks or _is_wrapped(module)
            if hooked or "parametrizations" in module._modules:
                return "its blocks take turns, adapters are on them, or they lie on several devices"
    return ""


def _is_wrapped(module: Any) -> bool:
    """Whether a module computes more than its class says; a bound method is what diffusers' hooks leave behind."""
    own = vars(module).get("forward")
    return own is not None and getattr(own, "__func__", None) is not type(module).forward


@contextmanager
def compiled(network: Any) -> Iterator[None]:
    """Inside the block, the network's repeated blocks run compiled; after it they are as they were.

    Args:
        network: one of diffusers' kind, which says in `_repeated_blocks` what repeats.
    """
    blocks = _blocks(network)
    import torch

    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _SHAPES)
    try:
        for block in blocks:
            block.compile(fullgraph=True)
        yield
    finally:
        torch._dynamo.config.recompile_limit = limit
        for block in blocks:
            block._compiled_call_impl = None


def _blocks(network: Any) -> list[torch.nn.Module]:
    names = getattr(network, "_repeated_blocks", None) or ()
    return [module for module in network.modules() if type(module).__name__ in names]
