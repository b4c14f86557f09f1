"""Processes that make one clip together: met for a job, parted after it.

Small values and the question whether everybody is still there go over gloo, on the CPU, where a member that left is
noticed at once; tensors on GPUs go over NCCL, where it is not. So no exchange of tensors begins before all said that
they are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from engines.errors import StudioError
from engines.messages import Membership

T = TypeVar("T")

# The studio ends a member whose others died; nothing else may end a wait, for reading a prompt can take minutes.
_PATIENCE = timedelta(hours=6)


class Parted(StudioError):
    """Another member of the group is gone."""

    def __init__(self) -> None:
        super().__init__("Another device that worked on this clip stopped.", hint="Try once more.")


class Group:
    """The processes of one job, as one of them sees it.

    Attributes:
        rank: 0 for the one that speaks, decodes and writes.
        size: how many there are.
        device: this member's own.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    def same(self, value: T | None, *, by: int = 0) -> T:
        """What one member has for `value`, by default the first one, for all of them."""
        box = [value]
        with noticed():
            dist.broadcast_object_list(box, src=by, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]

    def together(self) -> None:
        """Wait until all are here; raises Parted if one is gone."""
        self.least(0)

    def least(self, value: int) -> int:
        """The smallest of the members' values."""
        box = torch.tensor(value)
        with noticed():
            dist.all_reduce(box, op=dist.ReduceOp.MIN)
        return int(box)

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of the members' tensors of one shape, the same to the bit for all."""
        box = part.contiguous().clone()
        with noticed():
            dist.all_reduce(box)
        return box

    def own(self, weights: Mapping[str, float]) -> dict[str, float]:
        """The passes that this member makes, dealt in turn. One without any makes the first, which does not count."""
        mine = dict(list(weights.items())[self.rank :: self.size])
        return mine or {next(iter(weights)): 0.0}

    @cached_property
    def row(self) -> DeviceMesh:
        """The members in a row, as torch's shares of weights want them."""
        return init_device_mesh(self.device.type, (self.size,))

    @cached_property
    def mesh(self) -> DeviceMesh:
        """The members in a row, as diffusers' split of a sequence wants them: ring x ulysses."""
        return init_device_mesh(self.device.type, (1, self.size), mesh_dim_names=("ring", "ulysses"))


@contextmanager
def joined(member: Membership, device: torch.device, *, sharing: bool = True) -> Iterator[Group]:
    """The group of a job, for the length of the block: all members meet here first.

    Args:
        sharing: whether all compute at the same time, and so share the processor.

    Raises:
        Parted: the others did not come.
    """
    threads = torch.get_num_threads()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif sharing:
        torch.set_num_threads(max(1, threads // member.size))
    try:
        with noticed():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                init_method=member.meeting,
                rank=member.rank,
                world_size=member.size,
                timeout=_PATIENCE,
                device_id=device if device.type == "cuda" else None,
            )
        group = Group(member.rank, member.size, device)
        group.together()
        yield group
    finally:
        if dist.is_initialized():
            with suppress(Exception):  # whatever it says, the group is over
                dist.destroy_process_group()
        torch.set_num_threads(threads)


@contextmanager
def noticed() -> Iterator[None]:
    """A connection to another member that is lost inside the block is Parted."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise Parted from error
        raise
