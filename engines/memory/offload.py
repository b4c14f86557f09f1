"""A placement plan as diffusers calls.

The one order that works: load (+ quantisation) -> casting -> cache hooks -> parallelism -> offload -> compile. Builders
load; what is here is the offload. Caches of step results are reset at the start and at the end of every use.
"""

from __future__ import annotations

from typing import Any

_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")


def grouped_bytes(module: Any) -> int:
    """Device bytes of a module whose blocks take turns: all outside the blocks, and two of the largest block."""
    blocks = [block for child in _block_lists(module) for block in child]
    if not blocks:
        largest = max((_bytes(leaf) for leaf in module.modules() if not list(leaf.children())), default=0)
        return 2 * largest
    return _bytes(module) - sum(map(_bytes, blocks)) + 2 * max(map(_bytes, blocks))


def group(module: Any, *, device: Any) -> None:
    """Let the blocks of a module that lies in RAM take turns on `device`; with prefetching where it has streams."""
    from diffusers.hooks import apply_group_offloading

    streams = device.type == "cuda"
    levels: dict[str, Any] = (
        {"offload_type": "block_level", "num_blocks_per_group": 1}
        if _block_lists(module)
        else {"offload_type": "leaf_level"}
    )
    apply_group_offloading(
        module, onload_device=device, offload_device="cpu", use_stream=streams, non_blocking=streams, **levels
    )


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


def _block_lists(module: Any) -> list[Any]:
    from torch import nn

    return [child for child in module.children() if isinstance(child, nn.ModuleList) and len(child)]


def _bytes(module: Any) -> int:
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
