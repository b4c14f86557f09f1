"""python -m benchmarks.studio: how long a starter's clip takes in the studio: cold, warm, and beside a busy process.

Real worker processes and the shipped starter models. The clip beside a busy neighbour is measured twice, as the studio
starts its workers and with OpenMP's own way of waiting, alternating; its target is a ratio to the same clip alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engines.registry import SPECS
from studio import examples
from studio.jobs.local import LocalExecutor
from studio.service import Studio, open_studio
from studio.settings import Settings

BESIDE, COLD_S, WARM_S = 2.0, 25.0, 10.0
POLICY = "OMP_WAIT_POLICY"


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each engine and way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studio", description=__doc__.splitlines()[0])
    parser.add_argument("engine", nargs="*", help="by default every engine with a starter model")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(arguments)
    for name in options.engine or [name for name, spec in SPECS.items() if "starter" in [m.name for m in spec.models]]:
        rows: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for policy in ("PASSIVE", "ACTIVE"):
                for what, seconds in measured(name, policy).items():
                    rows.setdefault(f"{policy.lower()} {what}", []).append(seconds)
        took = {what: statistics.median(all_) for what, all_ in rows.items()}
        for policy in ("passive", "active"):
            cold, warm, beside = (took[f"{policy} {what}"] for what in ("cold", "warm", "beside"))
            marks = [f"cold {cold:.1f} s", f"warm {warm:.1f} s", f"beside a busy process {beside:.1f} s"]
            missed = [cold > COLD_S, warm > WARM_S, beside > BESIDE * warm] if policy == "passive" else [False] * 3
            shown = [f"{mark}{' MISSED' if miss else ''}" for mark, miss in zip(marks, missed, strict=True)]
            print(f"{name:14} {policy:8} {', '.join(shown)}: {beside / warm:.2f} times as long", flush=True)


def measured(engine: str, policy: str) -> dict[str, float]:
    """Seconds from submitting to done: of a first clip, of a second one, and of one beside a busy process."""
    kept = os.environ.get(POLICY)
    os.environ[POLICY] = policy
    with tempfile.TemporaryDirectory() as folder:
        studio = open_studio(Settings(outputs=Path(folder), devices=("cpu",)), LocalExecutor)
        studio.executor.start()
        try:
            took = {what: clip(studio, engine, seed) for seed, what in enumerate(("cold", "warm"))}
            with busy():
                return took | {"beside": clip(studio, engine, 2)}
        finally:
            studio.executor.close()
            studio.store.close()
            os.environ.pop(POLICY)
            os.environ.update({POLICY: kept} if kept else {})


def clip(studio: Studio, engine: str, seed: int) -> float:
    """Make the engine's first example, or a plain prompt, with its starter model; returns seconds."""
    shown = examples.of(SPECS[engine])
    values: dict[str, Any] = (
        shown[0].values(SPECS[engine].model("starter")) if shown else {"prompt": "A red circle grows, sky background."}
    )
    began = time.monotonic()
    (job,) = studio.submit(engine, values | {"model": "starter", "seed": seed})
    while (now := studio.store.get(job.id)) is not None and now.active:
        time.sleep(0.05)
    if now is None or now.state != "done":
        raise RuntimeError(now.failure.text if now and now.failure else "the clip was not made")
    return time.monotonic() - began


@contextmanager
def busy() -> Iterator[None]:
    """Another process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


if __name__ == "__main__":
    main()
