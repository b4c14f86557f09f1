"""The most bytes that a network's run would allocate at once, counted at full size under fake tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


class Live(TorchDispatchMode):
    """Counts the bytes of the storages that are alive at once and were made since it began."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Counter[int] = Counter()
        self.bytes = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata in self.known:
                    continue
                self.bytes += storage.nbytes() * (self.held[storage._cdata] == 0)
                self.held[storage._cdata] += 1
                weakref.finalize(tensor, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.bytes)
        return made

    known: frozenset[int] = frozenset()

    def _gone(self, place: int, size: int) -> None:
        self.held[place] -= 1
        self.bytes -= size * (self.held[place] == 0)


def fake() -> AbstractContextManager[Any]:
    """Where networks and their inputs are made without memory."""
    return FakeTensorMode(allow_non_fake_inputs=True)


@torch.no_grad()
def peak_bytes(run: Callable[[], Any], *modules: torch.nn.Module) -> int:
    """The most that `run` allocates beside the weights of its `modules`; both made under `fake`."""
    live = Live()
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    live.known = frozenset(tensor.untyped_storage()._cdata for tensor in tensors)
    with live:
        run()
    return live.most
