"""One network whose tokens lie on several devices: each has a share of them, and all of them for a share of the heads.

diffusers' own split (Ulysses), which its `enable_parallelism` does only once, only on GPUs, and never undoes. Where
tokens or heads do not divide, its uneven form, with a gathering of our own: gloo gathers equal sizes only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig

from engines.parallel.group import Group

_LAST = "proj_out"  # its output is gathered


@dataclass(frozen=True)
class Tokens:
    """How the tokens [B,L,D] of a network are shared by a group: in order, the first members have one more."""

    group: Group

    def mine(self, whole: torch.Tensor, dim: int) -> torch.Tensor:
        """This member's share of all tokens."""
        return whole.tensor_split(self.group.size, dim=dim)[self.group.rank]

    def by_heads(self, share: torch.Tensor, *, tokens: int) -> torch.Tensor:
        """This member's tokens of every head [B,n,heads,D] -> all `tokens` of its share of the heads."""
        return self._exchanged(share, self._sizes(share.shape[2]), self._sizes(tokens), dims=(2, 1))

    def by_tokens(self, share: torch.Tensor, *, heads: int) -> torch.Tensor:
        """All tokens of this member's share of the heads [B,L,h,D] -> its tokens of all `heads`."""
        return self._exchanged(share, self._sizes(share.shape[1]), self._sizes(heads), dims=(1, 2))

    def _sizes(self, count: int) -> list[int]:
        """Everybody's share of so many."""
        whole, more = divmod(count, self.group.size)
        return [whole + (rank < more) for rank in range(self.group.size)]

    def _exchanged(
        self, tensor: torch.Tensor, given: list[int], taken: list[int], *, dims: tuple[int, int]
    ) -> torch.Tensor:
        """Everybody gets a share of the first of `dims` and the whole of the second, of which they had a share."""
        out, into = dims
        sent = [part.reshape(-1) for part in tensor.split(given, dim=out)]
        shapes = []
        for count in taken:
            shape = list(tensor.shape)
            shape[out], shape[into] = given[self.group.rank], count
            shapes.append(shape)
        sizes = [math.prod(shape) for shape in shapes]
        received = tensor.new_empty(sum(sizes))
        dist.all_to_all_single(received, torch.cat(sent), sizes, [len(part) for part in sent])
        parts = [part.view(shape) for part, shape in zip(received.split(sizes), shapes, strict=True)]
        return torch.cat(parts, dim=into)

    def all(self, share: torch.Tensor, dim: int = 1) -> torch.Tensor:
        """All tokens, from everybody's share."""
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.group.size)]
        dist.all_gather(counts, torch.tensor([share.shape[dim]]))
        sizes = [int(count) for count in counts]
        missing = list(share.shape)
        missing[dim] = max(sizes) - share.shape[dim]
        padded = torch.cat([share, share.new_zeros(missing)], dim=dim) if missing[dim] else share
        parts = [torch.empty_like(padded, memory_format=torch.contiguous_format) for _ in sizes]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part.narrow(dim, 0, size) for part, size in zip(parts, sizes, strict=True)], dim=dim)


@contextmanager
def shared(network: Any, group: Group) -> Iterator[Tokens]:
    """For the length of the block, every call of a Wan transformer is made by all members together."""
    config = ContextParallelConfig(ulysses_degree=group.size)
    parallel = ParallelConfig(context_parallel_config=config)
    parallel.setup(group.rank, group.size, group.device, mesh=group.mesh)
    plan = {name: part for name, part in network._cp_plan.items() if name != _LAST}
    tokens, heads = Tokens(group), network.config.num_attention_heads

    def even_or_not(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        """Before a call: whether everybody gets as many tokens and heads."""
        count = math.prod(args[0].shape[2:]) // math.prod(network.config.patch_size)
        config.ulysses_anything = bool(count % group.size or heads % group.size)

    with ExitStack() as undo:
        undo.callback(_alone, network, plan)
        _set_parallel(network, parallel)
        apply_context_parallel(network, config, plan)
        undo.callback(network.rope.register_forward_pre_hook(even_or_not).remove)
        last = network.get_submodule(_LAST).register_forward_hook(lambda _, __, output: tokens.all(output))
        undo.callback(last.remove)
        yield tokens


def _alone(network: Any, plan: Any) -> None:
    """Everything as it was."""
    remove_context_parallel(network, plan)
    _set_parallel(network, None)


def _set_parallel(network: Any, parallel: ParallelConfig | None) -> None:
    network._parallel_config = parallel
    for module in network.modules():
        processor = getattr(module, "processor", None)
        if hasattr(processor, "_parallel_config"):
            processor._parallel_config = parallel
