"""Which videos are worth training on: JSON lists, the published filter, and the samples that pass, kept in LMDB.

A list is JSON: objects with `path`, `cap` (text or several), `resolution` {height, width}, `fps`, `num_frames`, and
optionally `cut` [start, end] and `motion`. A text file names "folder,list.json" a line. Records are stored as JSON:
a pickle from elsewhere could run code. Source of the rules: FlashI2V's dataset filter (configs of the 1.3B model).

python -m engines.training.video_list LISTS.txt --out filtered.lmdb [--recipe phantom-physics] [--set NAME=VALUE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import arguments as given

log = logging.getLogger(__name__)

KEY_DIGITS = 12
UNTOLD_FPS = 24.0
SAME_FPS = 0.1  # two frame rates this near are one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """One size, length and frame rate that batches are made of; a batch never mixes two.

    The defaults are those of the published 1.3B run, which has this one bucket.
    """

    width: int = 832
    height: int = 480
    frames: int = 49
    fps: float = 16.0
    min_area: int = 921_600
    min_ratio: float = 0.4  # height / width
    max_ratio: float = 1.2
    max_lengths: float = 5.0  # videos longer than this many clips are left out

    def interval(self, fps: float) -> float:
        """Source frames from one frame of the clip to the next."""
        return 1.0 if abs(fps - self.fps) < SAME_FPS else fps / self.fps

    def indices(self, sample: Mapping[str, Any]) -> np.ndarray:
        """Source frames that the clip's frames may be, int64 [n]."""
        start = int((sample.get("cut") or [0])[0])
        interval = self.interval(float(sample.get("fps") or UNTOLD_FPS))
        return np.floor(np.arange(start, start + sample["num_frames"], interval)).astype(np.int64)

    def refusal(self, sample: Mapping[str, Any]) -> str | None:
        """Why a sample does not fit here, None if it does; the published rules in their order."""
        captions = sample.get("cap")
        if not captions or not any(text.strip() for text in ([captions] if isinstance(captions, str) else captions)):
            return "no caption"
        resolution = sample.get("resolution") or {}
        height, width = resolution.get("height") or 0, resolution.get("width") or 0
        if height <= 0 or width <= 0:
            return "no resolution"
        ratio, own = height / width, self.height / self.width
        if not self.min_ratio <= ratio <= self.max_ratio:
            return "aspect ratio"
        if height * width < math.ceil(self.min_area * max(ratio / own, own / ratio)):
            return "too few pixels"
        if not sample.get("num_frames"):
            return "no frame count"  # the reference fails here
        fps = float(sample.get("fps") or UNTOLD_FPS)
        if sample["num_frames"] > self.max_lengths * self.frames * fps / self.fps:
            return "too long"
        if self.interval(fps) < 1:
            return "frame rate too low"
        if not 0 <= (sample.get("motion") or 0) <= 1:
            return "motion score"
        if len(self.indices(sample)) < self.frames:
            return "too short"
        return None


def read_lists(path: Path) -> Iterator[dict[str, Any]]:
    """Samples of every list that the text file names, `path` made absolute from its folder.

    Raises:
        ValueError: a line or a list is not what it should be.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        folder, comma, name = line.partition(",")
        if not comma:
            raise ValueError(f'{path.name}, line {number}: write "folder,list.json".')
        try:
            samples = json.loads((path.parent / name.strip()).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{name.strip()} is no JSON (line {error.lineno}).") from None
        if not isinstance(samples, list) or any(
            not isinstance(sample, dict) or "path" not in sample for sample in samples
        ):
            raise ValueError(f"{name.strip()} is no list of objects with a path.")
        for sample in samples:
            yield {**sample, "path": str(path.parent / folder.strip() / sample["path"])}


def filtered(samples: Iterable[Mapping[str, Any]], buckets: tuple[Bucket, ...]) -> tuple[list[dict], Counter[str]]:
    """Samples that fit, each with the number of its first fitting `bucket`; and how many were left out for what."""
    kept, left_out = [], Counter()
    for sample in samples:
        refusals = [bucket.refusal(sample) for bucket in buckets]
        if None in refusals:
            kept.append({**sample, "bucket": refusals.index(None)})
        else:
            left_out[refusals[0]] += 1
    return kept, left_out


def write_samples(path: Path, samples: Iterable[Mapping[str, Any]]) -> int:
    """Write samples as JSON under 12-digit keys, in place of those that a store has; returns how many."""
    lmdb, count = _lmdb(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), map_size=2**36) as store, store.begin(write=True) as transaction:
        transaction.drop(store.open_db(txn=transaction), delete=False)
        for count, sample in enumerate(samples, start=1):
            record = json.dumps(sample, ensure_ascii=False).encode()
            transaction.put(f"{count - 1:0{KEY_DIGITS}d}".encode(), record)
    return count


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ValueError("Lists of videos are kept in LMDB: run `pip install lmdb`.") from error
    return lmdb


class Samples:
    """Samples of one .lmdb, or of all in a folder, by number; read from disk one at a time."""

    def __init__(self, path: Path) -> None:
        lmdb = _lmdb()
        paths = [path] if (path / "data.mdb").exists() else sorted(path.glob("*.lmdb"))
        if not paths:
            raise ValueError(f"{path.name} is no .lmdb and holds none: write one with engines.training.video_list.")
        self._stores = [lmdb.open(str(part), readonly=True, lock=False) for part in paths]
        self._starts = np.cumsum([0, *(store.stat()["entries"] for store in self._stores)])

    def close(self) -> None:
        """Let go of the stores: LMDB opens each only once in a process."""
        for store in self._stores:
            store.close()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._stores[part].begin() as transaction:
            return json.loads(transaction.get(f"{index - self._starts[part]:0{KEY_DIGITS}d}".encode()))


def main(arguments: list[str] | None = None) -> int:
    """Filter lists into a store for the sizes of a recipe and say what was left out; 2 for a bad request."""
    parser = argparse.ArgumentParser(prog="python -m engines.training.video_list", description=__doc__)
    parser.add_argument("lists", type=given.present)
    parser.add_argument("--out", type=given.out_folder, required=True)
    parser.add_argument("--recipe", default="flashi2v-1.3b", help="whose sizes, lengths and frame rates (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a recipe setting")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with given.refusing():
            kept, left_out = filtered(read_lists(options.lists), _buckets(options.recipe, options.set))
            write_samples(options.out, kept)
    except given.Refused:
        return 2
    log.info("Kept %d samples.", len(kept))
    for reason, count in left_out.most_common():
        log.info("Left out %d: %s.", count, reason)
    return 0


def _buckets(name: str, settings: list[str]) -> tuple[Bucket, ...]:
    from .recipe import with_settings
    from .recipes import recipe_module

    recipe = with_settings(recipe_module(name).RECIPE, settings)
    if not hasattr(recipe, "buckets"):
        raise ValueError(f"{name} is not trained on lists of videos.")
    return recipe.buckets


if __name__ == "__main__":
    sys.exit(main())
