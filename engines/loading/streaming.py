"""A network whose blocks take turns from their memory-mapped file, where memory is short.

A block's weights are read and converted when it runs and let go when it has run; what stands outside the blocks stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from engines.loading.memory_map import release_pages
from engines.loading.packed import as_stored

Dtypes = Callable[[str], torch.dtype]


def block_of(name: str, blocks: Sequence[str]) -> str:
    """The block that a parameter is in, by its path: "blocks.3"; "" outside of all."""
    found = next(filter(None, (re.match(rf"{re.escape(path)}\.\d+(?=\.)", name) for path in blocks)), None)
    return found[0] if found else ""


def streamed_bytes(module: torch.nn.Module, blocks: Sequence[str], dtypes: Dtypes) -> int:
    """Bytes in memory while blocks take turns: all that stands outside of them, and two of the largest block.

    Args:
        dtypes: in which a parameter of this name computes.
    """
    sizes: Counter[str] = Counter()
    kept = as_stored(module)
    for name, parameter in module.named_parameters():
        dtype = parameter.dtype if name in kept else dtypes(name)
        sizes[block_of(name, blocks)] += parameter.numel() * dtype.itemsize
    outside = sizes.pop("", 0) + sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    return outside + 2 * max(sizes.values(), default=0)


def stream(module: torch.nn.Module, blocks: Sequence[str], dtypes: Dtypes) -> torch.nn.Module:
    """Has the blocks of a network take turns; their parameters are untouched views of a mapped file, in any dtype."""
    for path in blocks:
        for index, block in enumerate(module.get_submodule(path).children()):
            turn = _Turn(block, lambda name, place=f"{path}.{index}": dtypes(f"{place}.{name}"))
            block.forward = turn.around(block.forward)  # inside of a step cache: what is left out is not read
    return module


class _Turn:
    """What one block has in its file, and in which precision it computes."""

    def __init__(self, block: torch.nn.Module, dtypes: Dtypes) -> None:
        kept = as_stored(block)
        self._weights = [
            (parameter, parameter.data, parameter.dtype if name in kept else dtypes(name))
            for name, parameter in block.named_parameters()
        ]

    def around(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A block's forward in its turn."""

        @wraps(forward)
        def in_turn(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                return forward(*args, **kwargs)
            finally:
                self.end()

        return in_turn

    def begin(self) -> None:
        """Reads and converts; the pages that were read go back at once."""
        for parameter, stored, dtype in self._weights:
            if stored.dtype != dtype:
                parameter.data = stored.to(dtype)
                release_pages(stored)

    def end(self) -> None:
        """Lets go of everything: the parameters are views of the file again."""
        for parameter, stored, _dtype in self._weights:
            parameter.data = stored
            release_pages(stored)
