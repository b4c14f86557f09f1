"""Step caches: what a network computed at earlier steps stands in for what it would compute now. The clip changes.

diffusers' own hooks do it; what is here says which of them are offered, what they keep, and puts them on a network for
a job. They decide by the step alone, so several devices decide alike. Imports torch late: the page offers them, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engines.memory.activations import width


@dataclass(frozen=True)
class TaylorCache:
    """Outputs extrapolated from the last computed ones (TaylorSeer, arXiv 2503.06923).

    Attributes:
        title: for people and metadata.
        whole: whether the output of the whole network is extrapolated, or that of every attention and feed-forward.
        interval: of so many steps one is computed, after the first `full` ones.
        order: of the polynomial.
    """

    title: str
    whole: bool
    interval: int = 3
    full: int = 5
    order: int = 1

    def kept_bytes(self, config: Mapping[str, Any], *, tokens: int, itemsize: int) -> int:
        """What it keeps of one pass over so many tokens."""
        numbers = int(config["out_channels"]) * math.prod(config["patch_size"])
        if not self.whole:
            numbers = 3 * int(config["num_layers"]) * width(config)
        return (self.order + 1) * tokens * numbers * itemsize

    @contextmanager
    def on(self, network: Any) -> Iterator[None]:
        """The cache on a Wan transformer for the length of the block; it begins empty."""
        from diffusers.hooks import TaylorSeerCacheConfig

        which: dict[str, Any] = {"cache_identifiers": [r"blocks\.\d+\.(attn[12]|ffn)"]}
        if self.whole:
            which = {"cache_identifiers": ["proj_out"], "skip_predict_identifiers": [r"blocks\.\d+"]}
        network.enable_cache(
            TaylorSeerCacheConfig(
                cache_interval=self.interval,
                disable_cache_before_step=self.full,
                max_order=self.order,
                taylor_factors_dtype=network.patch_embedding.weight.dtype,
                **which,
            )
        )
        try:
            yield
        finally:
            network._reset_stateful_cache()
            network.disable_cache()


CACHES = {
    "layers": TaylorCache("TaylorSeer in every layer", whole=False),
    "output": TaylorCache("TaylorSeer of the output", whole=True),
}
