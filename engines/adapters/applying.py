"""Adapters put on a network for the length of a job, and taken off again: its weights are never written.

To a layer's output is added what the adapter makes of its input: strength * scale * up(down(x)). So it does not matter
how its own weights are held (quantised, taking turns, shared out), and nothing of the network is copied. A parameter
that is no layer's is read through a sum. Taken off, the network is what it was, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.utils import parametrize

from engines.adapters.matching import Change, FittedAdapter

_LAYERS = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)


class Strength:
    """How strongly one adapter counts now.

    Args:
        value: while it counts.
        begin, end: over which share of the steps it does.
    """

    def __init__(self, value: float, begin: float = 0.0, end: float = 1.0) -> None:
        self.value, self.begin, self.end = value, begin, end
        self.now = 0.0
        self.at(0.0)

    def at(self, share: float) -> None:
        """A step begins of which `share` (0 to below 1) of all steps are done."""
        self.now = self.value if self.begin <= share < self.end else 0.0


# The networks that adapters are on, and how strongly these count.
_ON: WeakKeyDictionary[torch.nn.Module, list[Strength]] = WeakKeyDictionary()


def at_step(network: torch.nn.Module, share: float) -> None:
    """Tell the adapters on a network, if there are any, that a step begins: `share` of all steps are done."""
    for strength in _ON.get(network, ()):
        strength.at(share)


@contextmanager
def applied(adapters: Sequence[FittedAdapter], network: torch.nn.Module) -> Iterator[None]:
    """The adapters on the network while the block lasts. One that is on it already stays as it is."""
    if not adapters or network in _ON:
        yield
        return
    with ExitStack() as undone:
        _ON[network] = strengths = []
        undone.callback(_ON.pop, network, None)
        for adapter in adapters:
            given = adapter.given
            strengths.append(strength := Strength(given.strength, given.begin, given.end))
            for change in adapter.changes:
                undone.callback(_put(network, change, strength))
        yield


def _put(network: torch.nn.Module, change: Change, strength: Strength) -> Callable[[], Any]:
    """Put one change on; returns what takes it off."""
    path, _, name = change.parameter.rpartition(".")
    owner = network.get_submodule(path)
    if is_layers(network, change.parameter):
        return _put_inside(owner, _Added(change, name, strength))
    parametrize.register_parametrization(owner, name, _Sum(change, strength))
    return lambda: _take_off(owner, name)


def _put_inside(layer: Any, added: _Added) -> Callable[[], Any]:
    """Make it part of what the layer computes, not something around it: a step cache keeps what the layer computes."""
    before, plain = vars(layer).get("forward"), layer.forward

    def forward(*args: Any) -> torch.Tensor:
        return added(layer, args, plain(*args))

    layer.forward = forward
    return (lambda: delattr(layer, "forward")) if before is None else (lambda: setattr(layer, "forward", before))


def is_layers(network: torch.nn.Module, parameter: str) -> bool:
    """Whether a parameter is a layer's weight or bias, which is changed by adding to the layer's output."""
    path, _, name = parameter.rpartition(".")
    return isinstance(network.get_submodule(path), _LAYERS) and name in ("weight", "bias")


def _take_off(owner: torch.nn.Module, name: str) -> None:
    """All sums of a parameter at once: several adapters may change one."""
    if parametrize.is_parametrized(owner, name):
        parametrize.remove_parametrizations(owner, name, leave_parametrized=False)


class _Added:
    """Adds to a layer's output what its changed weight or bias would."""

    def __init__(self, change: Change, name: str, strength: Strength) -> None:
        self._change, self._name, self._strength = change, name, strength
        self._held: tuple[torch.Tensor, ...] = ()

    def __call__(self, layer: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        strength = self._strength.now
        if not strength:
            return output
        (inputs, *_), scale = args, strength * self._change.scale
        first, *second = self._as_in(inputs)
        if self._name == "bias":
            return output + scale * first.view(-1, *([1] * (output.dim() - 2) if _is_convolution(layer) else []))
        if _is_convolution(layer):
            own = inputs[:, : first.shape[1] * layer.groups]  # behind them FlashI2V has the picture's features
            return output + scale * layer._conv_forward(own, first, None)
        made = torch.nn.functional.linear(inputs, first) * scale
        return output + (torch.nn.functional.linear(made, second[0]) if second else made)

    def _as_in(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The change's tensors where the layer computes and in its precision; brought there once."""
        if not self._held or self._held[0].device != inputs.device or self._held[0].dtype != inputs.dtype:
            change = self._change
            tensors = (change.whole,) if change.whole is not None else (change.down, change.up)
            self._held = tuple(tensor.to(inputs.device, inputs.dtype) for tensor in tensors if tensor is not None)
        return self._held


def _is_convolution(layer: Any) -> bool:
    return not isinstance(layer, torch.nn.Linear)


class _Sum(torch.nn.Module):
    """A parameter as it is with the change: summed in float32, in the parameter's own precision."""

    def __init__(self, change: Change, strength: Strength) -> None:
        super().__init__()
        self._change, self._strength = [change], strength

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        """The changed parameter; the very same while the adapter does not count."""
        strength, change = self._strength.now, self._change[0]
        if not strength:
            return original
        whole = change.whole
        if whole is None:
            assert change.up is not None and change.down is not None
            whole = (change.up.float() @ change.down.float()).view(original.shape)
        added = whole.to(original.device, torch.float32) * (strength * change.scale)
        return (original.float() + added).to(original.dtype)
