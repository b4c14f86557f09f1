"""python -m benchmarks.pyramid: what the pyramids save, at starter size measured, at the published sizes counted.

Three ways to make the same video with the same weights: the pyramid; unit by unit with every step and all history at
full size; all frames as one full-size sequence. Random weights: they cost what trained ones do. Nothing needs a GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from engines.pyramid_flow.generation import Unit, make_unit, past_of
from engines.pyramid_flow.history import history
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.packing import PATCH, Text
from engines.pyramid_flow.scheduler import STAGES, PyramidScheduler
from engines.training import networks
from engines.training.recipes.pyramid_flow import STARTERS

FIRST, LATER = (20,) * STAGES, (10,) * STAGES  # steps of the first frame and of later units, as published
ONE_SEQUENCE = (30, 50)  # steps of ordinary diffusion over all frames
FULL = PyramidScheduler(stage_range=(0, 1))  # one stage: no spatial pyramid
TEXT_TOKENS = 128


@dataclass(frozen=True)
class Size:
    """A video: latent frames, and tokens of one frame at full size."""

    name: str
    units: int
    frame_tokens: int


@dataclass(frozen=True)
class Family:
    """What a network costs: width, and how many blocks each token and its text go through."""

    name: str
    width: int
    blocks: int


SIZES = (Size("384p 5 s", 16, 960), Size("768p 5 s", 16, 3840), Size("768p 10 s", 31, 3840))
FAMILIES = (Family("sd3", 1536, 24), Family("miniflux", 1920, 24))

Call = tuple[int, int, list[int]]
"""(how many network calls, text tokens, video tokens of every frame time in order)."""


def pyramid_calls(size: Size, *, first: tuple[int, ...] = FIRST, later: tuple[int, ...] = LATER) -> Iterator[Call]:
    """Every call of the pyramid, from the product's own history on latents of one channel."""
    side = 8 * PATCH  # any side that halves twice; tokens are scaled to the size's
    for unit in range(size.units):
        levels = [torch.zeros(1, 1, unit, side >> level, side >> level) for level in reversed(range(STAGES))]
        for stage, steps in enumerate(later if unit else first):
            clips = history(levels, stage) if unit else []
            tokens = [size.frame_tokens * clip.shape[3] ** 2 // side**2 for clip in clips for _ in range(clip.shape[2])]
            yield steps, TEXT_TOKENS, [*tokens, size.frame_tokens >> 2 * (STAGES - 1 - stage)]


def autoregressive_calls(size: Size) -> Iterator[Call]:
    """Unit by unit, as many steps, each at full size behind a history at full size."""
    for unit in range(size.units):
        yield sum(LATER if unit else FIRST), TEXT_TOKENS, [size.frame_tokens] * (unit + 1)


def sequence_calls(size: Size, steps: int) -> Iterator[Call]:
    """All frames at once."""
    yield steps, TEXT_TOKENS, [size.frame_tokens * size.units]


def flops(calls: Iterator[Call], family: Family, *, prefixes: bool = False) -> float:
    """Multiply-adds counted twice; 12 width^2 weights a token and block, two guidance rows.

    `prefixes`: attention as this project computes it (a frame's queries meet their key prefix), not length x length.
    """
    total = 0.0
    for count, text, frames in calls:
        length = text + sum(frames)
        pairs = length**2
        if prefixes:
            ends = [text + sum(frames[: index + 1]) for index in range(len(frames))]
            pairs = sum((end - begin) * end for begin, end in zip([0, *ends[:-1]], ends, strict=True))
        total += 2 * count * family.blocks * (24 * family.width**2 * length + 4 * family.width * pairs)
    return total


def published_table() -> list[str]:
    """PFLOP of the published sizes, and how many times the pyramid's each way costs."""
    lines = [
        f"{'PFLOP of one video':22}{'pyramid':>10}{'by prefix':>11}{'autoregressive':>20}"
        + "".join(f"{f'sequence, {steps} steps':>22}" for steps in ONE_SEQUENCE)
    ]
    for size in SIZES:
        for family in FAMILIES:
            ours = flops(pyramid_calls(size), family)
            others = [flops(autoregressive_calls(size), family)]
            others += [flops(sequence_calls(size, steps), family) for steps in ONE_SEQUENCE]
            cells = [f"{cost / 1e15:.1f} ({cost / ours:.1f}x)" for cost in others]
            prefix = flops(pyramid_calls(size), family, prefixes=True)
            lines.append(
                f"{f'{size.name} {family.name}':22}{ours / 1e15:10.1f}{prefix / 1e15:11.1f}{cells[0]:>20}"
                + "".join(f"{cell:>22}" for cell in cells[1:])
            )
    return lines


def video_tokens(calls: Iterator[Call]) -> int:
    """Tokens of video that go through the network, one guidance row."""
    return sum(count * sum(frames) for count, _, frames in calls)


class Starter:
    """The starter's network with random weights, its text, and a clip of 64x32 pixels."""

    height, width = 8, 16

    def __init__(self, units: int) -> None:
        torch.manual_seed(0)
        self.network = PyramidFlux(**STARTERS["miniflux"].config).eval().requires_grad_(False)
        dim = networks.TEXT_WIDTH
        self.texts = {
            name: Text(torch.randn(1, 12, dim), torch.ones(1, 12, dtype=torch.bool), torch.randn(1, dim))
            for name in ("cond", "uncond")
        }
        self.size = Size("64x32", units, self.height * self.width // PATCH**2)

    def unit(self, frames: int, steps: tuple[int, ...]) -> Unit:
        """A unit of `frames` latent frames from fixed noise."""
        shape = (1, networks.PYRAMID_CHANNELS, frames, self.height, self.width)
        return Unit(torch.randn(shape), torch.randn, self.texts, 5.0, steps)

    def pyramid(self) -> None:
        """As the product makes it."""
        self._units(PyramidScheduler(), FIRST, LATER)

    def autoregressive(self) -> None:
        """The same loop with one stage: no history is reduced, no step is small."""
        self._units(FULL, (sum(FIRST),), (sum(LATER),))

    def sequence(self) -> None:
        """One unit of all frames. Attention is causal over frames here too, which costs a little less than full."""
        unit = self.unit(self.size.units, ONE_SEQUENCE[:1])
        for _ in make_unit(self.network, unit, past=past_of(None, FULL), scheduler=FULL):
            pass

    @torch.no_grad()
    def seconds(self, make: Callable[[], None]) -> float:
        """Processor seconds of one video."""
        began = time.process_time()
        make()
        return time.process_time() - began

    def _units(self, scheduler: PyramidScheduler, first: tuple[int, ...], later: tuple[int, ...]) -> None:
        finished = None
        for number in range(self.size.units):
            unit = self.unit(1, later if number else first)
            for step in make_unit(self.network, unit, past=past_of(finished, scheduler), scheduler=scheduler):
                last = step.latents
            finished = last if finished is None else torch.cat([finished, last], dim=2)


def starter_table(units: int = 7) -> list[str]:
    """Tokens and seconds of a starter video of `units` latent frames, each way once, on the same weights."""
    starter = Starter(units)
    ways = (
        ("pyramid", starter.pyramid, list(pyramid_calls(starter.size))),
        ("autoregressive, full size", starter.autoregressive, list(autoregressive_calls(starter.size))),
        (f"one sequence, {ONE_SEQUENCE[0]} steps", starter.sequence, list(sequence_calls(starter.size, 30))),
    )
    with torch.no_grad():
        next(iter(make_unit(starter.network, starter.unit(1, (1,)), past=[[]], scheduler=FULL)))  # warms up
    lines = [f"{f'64x32, {8 * units - 7} frames':28}{'calls':>8}{'video tokens':>15}{'seconds':>10}{'ratio':>8}"]
    base = None
    for name, make, calls in ways:
        seconds = starter.seconds(make)
        base = base or seconds
        count = sum(call[0] for call in calls)
        lines.append(f"{name:28}{count:8}{video_tokens(iter(calls)):15,}{seconds:10.2f}{seconds / base:8.2f}")
    return lines


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    print("\n".join([*published_table(), "", *starter_table()]))


if __name__ == "__main__":
    main()
