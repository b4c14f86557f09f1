"""python -m benchmarks.caches: what the step caches save on the built-in models, beside what they change of the clip.

The same clips with and without, in one process, in turn. Time is the processor's over all steps, as a share of the time
without; PSNR compares all frames, the higher the closer (two clips of different seeds have about 15 dB). The calibrated
cache is calibrated first, with another seed, on a copy of the model's file.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from engines.loading.store import Store
from engines.registry import SPECS, implementation
from engines.request import Request
from engines.runtime.calibrating import calibrate
from engines.runtime.session import Session
from engines.sampling.caches import FIELD, NONE, calibrates
from engines.types import EngineSpec, Frames, LatentStep
from engines.validation import build_request
from studio import examples

SEEDS, CALIBRATED_WITH = (1, 2), 3
STEPS = 30


class Made(NamedTuple):
    """A clip: its frames, and seconds of the processor in its steps."""

    frames: np.ndarray
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caches", description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="by default all with a built-in model")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--size", default="", metavar="WxHxFRAMES", help="of the clips, by default the model's own")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    size = dict(zip(("width", "height", "frames"), map(int, given.size.split("x")), strict=True)) if given.size else {}
    print("| built-in model | steps | step cache | time | PSNR |\n| --- | --- | --- | --- | --- |")
    for name in given.engines or SPECS:
        spec = SPECS[name]
        bundled = [model for model in spec.models if Store().state(name, model).state == "bundled"]
        if FIELD in spec.request_type.model_fields and bundled:
            with tempfile.TemporaryDirectory() as folder:
                for cache, time, psnr in compared(spec, Path(folder), {"steps": given.steps} | size):
                    shares, decibels = (", ".join(map(format_, values)) for values in (time, psnr))
                    print(f"| {spec.title} | {given.steps} | {cache} | {shares} | {decibels} dB |", flush=True)


def compared(spec: EngineSpec, folder: Path, values: dict[str, Any]) -> Iterator[tuple[str, list[float], list[float]]]:
    """(name of the cache, shares of the time, PSNR) of the clips of all seeds.

    Args:
        folder: where a copy of the model's transformer, and its calibration, are put.
    """
    model = spec.models[0]
    names = [one for one in get_args(spec.request_type.model_fields[FIELD].annotation) if one != NONE]
    (file,) = Store().require(spec.name, model)["transformer"]
    copy = Path(shutil.copy(file, folder))
    session = Session("cpu", store=Store(overrides={(spec.name, model.name, "transformer"): copy}))

    def request(seed: int, cache: str) -> Request:
        example = examples.of(spec)[0].values(model)
        return build_request(spec, spec.default_values(model.name) | example | values | {"seed": seed, FIELD: cache})

    if calibrates(spec.request_type):
        list(calibrate(spec, request(CALIBRATED_WITH, NONE), session))
    else:  # everything is loaded before a clip is timed
        made(spec, request(CALIBRATED_WITH, NONE), session)
    whole = {seed: made(spec, request(seed, NONE), session) for seed in SEEDS}
    for cache in names:
        clips = {seed: made(spec, request(seed, cache), session) for seed in SEEDS}
        shares = [clips[seed].seconds / whole[seed].seconds for seed in SEEDS]
        yield cache, shares, [psnr(clips[seed].frames, whole[seed].frames) for seed in SEEDS]


def made(spec: EngineSpec, request: Request, session: Session) -> Made:
    """One clip."""
    frames, seconds, last = [], 0.0, sum(os.times()[:2])
    context = session.context(spec.name, spec.model(request.model))
    with closing(implementation(spec).generate(request, context)) as items:
        for item in items:
            now = sum(os.times()[:2])
            if isinstance(item, LatentStep):  # decoding, which may come between two of them, is no part of it
                seconds += now - last
            elif isinstance(item, Frames):
                frames.append(item.pixels)
            last = now
    return Made(np.concatenate(frames), seconds)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Decibels between two clips uint8 [T,H,W,3]; infinite for the same."""
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def format_(value: float) -> str:
    """As the table has it: shares with two digits, decibels with one."""
    return f"{value:.2f}" if value < 2 else f"{value:.1f}"


if __name__ == "__main__":
    main()
