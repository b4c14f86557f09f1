"""One network whose blocks lie on several devices: each holds a share of every block, and gathers it for its turn.

torch's FSDP2, block by block. What stands outside of the blocks is whole on each device: it is little, and some
networks use it outside of their forward pass. The gathered numbers are those of the file, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from engines.loading.streaming import block_of
from engines.parallel.group import Group
from engines.types import Put


def spread(group: Group) -> Callable[[torch.nn.Module, tuple[str, ...]], Put]:
    """What prepares an empty network for being shared by a group, and says what this member holds of a parameter."""

    def prepare(module: torch.nn.Module, blocks: tuple[str, ...]) -> Put:
        for path in blocks:
            for block in module.get_submodule(path).children():
                fully_shard(block, mesh=group.row, reshard_after_forward=True)
        # The network itself shares nothing more, but lets its blocks gather the next one's weights in advance.
        outside = {one for name, one in module.named_parameters() if not block_of(name, blocks)}
        fully_shard(module, mesh=group.row, reshard_after_forward=True, ignored_params=outside)
        empty = dict(module.named_parameters())

        def held(name: str, numbers: torch.Tensor) -> torch.Tensor:
            place = empty.get(name)
            if place is None or not block_of(name, blocks):
                return numbers.to(group.device)
            return distribute_tensor(numbers, place.device_mesh, place.placements, src_data_rank=None)

        return held

    return prepare
