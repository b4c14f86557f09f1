"""Blocks compiled for training in as many forms as batches have: past eight, torch would run them as they are."""

from collections.abc import Iterable

import torch
from torch import nn

# Sizes, lengths and numbers of pictures of a recipe's batches: each may be a form of a block.
FORMS = 32


def compile_blocks(blocks: Iterable[nn.Module], *, dynamic: bool) -> None:
    """Compile the blocks, each when it is first called.

    Args:
        dynamic: once for rows and tokens of any number, instead of once for each.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, FORMS)
    for block in blocks:
        block.compile(dynamic=dynamic)
