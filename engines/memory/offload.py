"""A network whose blocks take turns on a device, as diffusers calls.

The one order that works: load (+ quantisation) -> casting -> cache hooks -> parallelism -> offload -> compile. Builders
load; what is here is the offload. Caches of step results are reset at the start and at the end of every use.

A network declares its blocks as paths of module lists ("blocks", "encoder.block"). Without any, its single layers take
turns, which needs less memory than the network but more transfers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading", "rest")


def grouped_bytes(module: Any, blocks: Sequence[str] = ()) -> int:
    """Device bytes of a module whose blocks take turns: all outside the blocks, and two of the largest block."""
    turns = [block for path in blocks for block in module.get_submodule(path)]
    if not turns:
        return 2 * max((_bytes(leaf) for leaf in module.modules() if not list(leaf.children())), default=0)
    return _size(_outside(module, turns)) + 2 * max(map(_bytes, turns))


def group(module: Any, blocks: Sequence[str] = (), *, device: Any) -> None:
    """Let the blocks of a module that lies in RAM take turns on `device`; with prefetching where it has streams."""
    from diffusers.hooks import HookRegistry, apply_group_offloading

    streams = device.type == "cuda"
    where: dict[str, Any] = {
        "onload_device": device,
        "offload_device": "cpu",
        "use_stream": streams,
        "non_blocking": streams,
    }
    if not blocks:
        apply_group_offloading(module, offload_type="leaf_level", **where)
        return
    # diffusers looks for blocks among a module's children: the module lists' owners are what it is given.
    owners = dict.fromkeys(module.get_submodule(path.rpartition(".")[0]) for path in blocks)
    for owner in owners:
        apply_group_offloading(owner, offload_type="block_level", num_blocks_per_group=1, **where)
    if module not in owners:
        registry = HookRegistry.check_if_exists_or_initialize(module)
        registry.register_hook(_rest_hook(_outside(module, owners), device), "rest")


def ungroup(module: Any) -> None:
    """Undo `group`: the module lies in RAM as before."""
    from diffusers.hooks import HookRegistry

    registry = HookRegistry.check_if_exists_or_initialize(module)
    for name in _HOOKS:
        registry.remove_hook(name, recurse=True)
    module.to("cpu")


def reset(module: Any) -> None:
    """Forget what step caches of an earlier run left behind: they would change the result of the next."""
    registry = getattr(module, "_diffusers_hook", None)
    if registry is not None:
        registry.reset_stateful_hooks(recurse=True)


def size_bytes(module: Any) -> int:
    """Bytes of all parameters and buffers; one shared by two names counts once."""
    return _bytes(module)


def _rest_hook(tensors: list[torch.Tensor], device: torch.device) -> Any:
    """A hook that brings what stands outside of all owners of blocks onto the device while the network runs."""
    from diffusers.hooks import ModelHook

    class Rest(ModelHook):
        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            self._move(device)
            return args, kwargs

        def post_forward(self, module: Any, output: Any) -> Any:
            self._move("cpu")
            return output

        def _move(self, where: Any) -> None:
            for tensor in tensors:
                tensor.data = tensor.data.to(where)

    return Rest()


def _outside(module: Any, parts: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors of a module that are in none of its `parts`."""
    inside = {id(tensor) for part in parts for tensor in _tensors(part)}
    return [tensor for tensor in _tensors(module) if id(tensor) not in inside]


def _tensors(module: Any) -> list[torch.Tensor]:
    return list({id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values())


def _bytes(module: Any) -> int:
    return _size(_tensors(module))


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
