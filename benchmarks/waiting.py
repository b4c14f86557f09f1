"""python -m benchmarks.waiting: what is made once instead of at every call, as ratios, at sizes that a CPU can do.

Random weights, one thread, both ways in turn in one process; the processor's seconds, the median of ROUNDS. Ratios are
once / every time: below 1 is better. What a GPU waits less for is not seen here; copies and launches are.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import WanTransformer3DModel

from benchmarks.pyramid import Starter
from engines.pyramid_flow.packing import Text, join
from engines.training import networks
from engines.wan import text_memory

ROUNDS, CALLS = 3, 4
WIDE = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "text_dim": 4096, "num_layers": 3}
TEXT_TOKENS = 512
CLIPS = {"64x64, 5 frames": (2, 8, 8)}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| what | size | once | every time | ratio |\n| --- | --- | --- | --- | --- |")
    for what, size, once, every in chain(masks(), texts()):
        print(f"| {what} | {size} | {once:.3f} s | {every:.3f} s | {once / every:.2f} |", flush=True)


def compared(once: Callable[[], object], every: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor that each takes, in turn, after a round that is not counted."""
    seconds: dict[str, list[float]] = {"once": [], "every": []}
    for number in range(ROUNDS + 1):
        for name, work in (("once", once), ("every", every)):
            began = sum(os.times()[:2])
            work()
            if number:
                seconds[name].append(sum(os.times()[:2]) - began)
    return statistics.median(seconds["once"]), statistics.median(seconds["every"])


@torch.no_grad()
def texts() -> Iterator[tuple[str, str, float, float]]:
    """Keys and values of a text in a tenth of Wan 1.3B's blocks: the steps of a pass."""
    torch.manual_seed(0)
    network = WanTransformer3DModel(**WIDE).eval()
    text = torch.randn(1, TEXT_TOKENS, WIDE["text_dim"])
    for size, shape in CLIPS.items():
        latents = torch.randn(1, 16, *shape)

        def steps(*, kept: bool, latents: torch.Tensor = latents) -> None:
            with ExitStack() as block:
                if kept:
                    block.enter_context(text_memory.kept_on(network, {}))
                    block.enter_context(text_memory.reading(["cond"]))
                for step in range(CALLS):
                    network(latents, torch.tensor([1000 - step]), text, return_dict=False)

        yield "texts of a Wan pass", size, *compared(lambda: steps(kept=True), lambda: steps(kept=False))


@torch.no_grad()
def masks() -> Iterator[tuple[str, str, float, float]]:
    """Masks and angles of a stage of Pyramid Flow, at starter size, with a history of seven units."""
    made = Starter(8)
    batch = join([*made.texts.values()])
    size = (2, networks.PYRAMID_CHANNELS, 1, made.height, made.width)
    clips = [torch.randn(*size[:2], frames, *size[3:]) for frames in (6, 1)]

    def fresh() -> Text:
        return Text(batch.states, batch.mask, batch.pooled)

    def steps(*, once: bool) -> None:
        text = fresh()
        for step in range(CALLS):
            made.network([*clips, torch.randn(size)], text if once else fresh(), torch.tensor([900.0 - step] * 2))

    seconds = compared(lambda: steps(once=True), lambda: steps(once=False))
    yield "masks and angles of a stage", "64x32, 57 frames", *seconds


if __name__ == "__main__":
    main()
