"""python -m benchmarks.gpu: a GPU's work by this project and by diffusers' WanPipeline, in one run and one table.

Random weights of published size (Wan 2.1 1.3B and 14B), drawn on the GPU; nothing is downloaded. Beside torch it needs
diffusers, transformers, accelerate, safetensors, pydantic and psutil, and not the rest of requirements.txt. Ratios are
ours / theirs: below 1 is better. The table is printed and written after every row, so that a run that is ended early
loses none. `--tiny` does all of it in seconds on networks of no size, also without a GPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch

from benchmarks.gpu_models import FULL, SMALLEST
from benchmarks.gpu_rows import Row, Rows
from engines.memory import devices

QUICK_MINUTES, MINUTES = 2.5, 10.0
# What a row takes on an H100, in seconds: one is not begun that would not be finished in time.
TAKES = {"eager": 20, "decoding": 25, "offloaded": 50, "compiled": 30, "cached": 25, "switch": 15, "narrow": 25}
HEAD = (
    "| what | ours | diffusers | ratio | peak, ours | booked for it | peak, diffusers | remarks |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


class Table:
    """What was found so far, kept in a folder.

    Args:
        folder: where it is written to; None for nowhere.
        title: what it was found on.
    """

    def __init__(self, folder: Path | None, title: str, facts: dict[str, Any]) -> None:
        self.title, self.rows = title, dict[str, Row]()
        self._folder, self._facts = folder, facts

    def add(self, row: Row) -> None:
        """Print a row, and write the table with it."""
        self.rows[row.what] = row
        print(_line(row), flush=True)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "gpu.md").write_text(f"{self}\n", encoding="utf-8")
            found = [row._asdict() | {"ratio": row.ratio} for row in self.rows.values()]
            text = json.dumps(self._facts | {"rows": found}, indent=1)
            (self._folder / "gpu.json").write_text(f"{text}\n", encoding="utf-8")

    def __str__(self) -> str:
        return "\n".join([f"{self.title}\n", HEAD, *map(_line, self.rows.values())])


def main(arguments: Sequence[str] | None = None) -> Table:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the table to gpu.md and gpu.json in it")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no row that would end later")
    parser.add_argument("--quick", action="store_true", help=f"--minutes {QUICK_MINUTES} and fewer steps")
    parser.add_argument("--rows", metavar="NAMES", help=f"only these, with commas: {', '.join(TAKES)}")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory-gb", type=float, metavar="X", help="use at most X GB of the device")
    parser.add_argument("--tiny", action="store_true", help="networks of no size, in seconds, also on a CPU")
    given = parser.parse_args(arguments)
    names = given.rows.split(",") if given.rows else [*TAKES]
    if unknown := set(names) - set(TAKES):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    if not given.tiny and given.device.startswith("cpu"):
        parser.error("networks of full size want a GPU; --tiny shows that all of it runs")
    return measure(given, names)


def measure(given: argparse.Namespace, names: Sequence[str]) -> Table:
    """The rows of these names, as far as there is time; one that fails says why, and the next begins."""
    began = time.monotonic()
    minutes = min(given.minutes, QUICK_MINUTES) if given.quick else given.minutes
    scale = SMALLEST if given.tiny else FULL
    diffusers.logging.set_verbosity_error()
    torch.manual_seed(0)
    card = devices.title(torch.device(given.device))
    clip = f"{scale.width}x{scale.height}, {scale.frames} frames, two passes a step"
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    facts = {"card": card, "clip": clip, "versions": versions, "networks": list(scale.names)}
    table = Table(given.out, f"{card}; {clip}; Wan {scale.names[0]}; {versions}", facts)
    print(f"{table.title}\n\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kinora-gpu-") as folder:
        rows = Rows(
            given.device, scale, Path(folder), steps=4 if given.quick else 8, memory_gb=given.memory_gb
        )  # fmt: skip
        for name in names:
            left = 60 * minutes - (time.monotonic() - began)
            if not given.tiny and left < TAKES[name]:
                table.add(Row(name, note=f"left out: it takes about {TAKES[name]} s, and {max(left, 0):.0f} were left"))
                continue
            try:
                for row in rows.all[name]():
                    table.add(row)
            except Exception as error:  # whatever a card, a driver or a missing package says
                where = traceback.extract_tb(error.__traceback__)[-1]
                words = f"{type(error).__name__} in {Path(where.filename).name}: {' '.join(str(error).split())[:200]}"
                table.add(Row(name, note=f"failed: {words}"))
                del error
                rows.session.free()
    print(f"\n# {time.monotonic() - began:.0f} s", flush=True)
    return table


def _line(row: Row) -> str:
    seconds = [f"{value:.3f} s" if value else "–" for value in (row.ours, row.theirs)]
    peaks = [f"{value / 1e9:.2f} GB" if value else "–" for value in (row.our_peak, row.planned, row.their_peak)]
    ratio = f"{row.ratio:.2f}" if row.ratio else "–"
    return f"| {' | '.join([row.what, *seconds, ratio, *peaks, row.note.replace('|', '/')])} |"


if __name__ == "__main__":
    main()
