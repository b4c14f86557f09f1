"""A network's repeated blocks compiled for the length of a job: the same numbers up to rounding, sooner.

Only the block is compiled, once for all of them, so the first step of a shape takes tens of seconds and not minutes.
What was compiled is kept by torch for this process: a second clip of the same shape begins at once. torch is imported
late: the studio asks what can be had, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Every size and length of a clip, and every number of passes in a batch, is a shape of its own.
_SHAPES = 64


def unusable(kind: str) -> str:
    """Why nothing can be compiled on a device of this kind ("cuda", "cpu", "mps"), in a sentence; "" if it can be."""
    if kind == "mps":
        return "Compiling is for CUDA GPUs and processors: it is not done on Apple GPUs."
    if kind == "cuda" and find_spec("triton") is None:
        return "Compiling for a GPU needs the package triton, which is not installed: `pip install triton`."
    if not any(map(shutil.which, ("g++", "c++", "clang++", "cl"))):
        return "Compiling needs a C++ compiler, and this machine has none: install one, such as g++."
    return ""


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
