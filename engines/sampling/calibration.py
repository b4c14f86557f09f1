"""What a checkpoint says of itself for the step cache "calibrated": measured on a clip, kept beside its file.

How large what the network's blocks add is, against the step before, is much the same for every clip of a checkpoint and
differs between checkpoints; it is never taken from another one. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from engines.errors import IncompatibleCheckpoint, StudioError
from engines.media.output import media_error, whole_file

_SAMPLED = 2**20  # bytes at the beginning, in the middle and at the end of a file, which tell it from others


class NotCalibrated(StudioError):
    """The checkpoint was not calibrated."""


class Recorder:
    """Takes what one clip shows.

    Attributes:
        ratios: by step, the mean over its passes; empty until the clip's last step.
    """

    def __init__(self) -> None:
        self.ratios: tuple[float, ...] = ()

    def take(self, passes: Sequence[Sequence[float]]) -> None:
        """What was found in each pass, step by step."""
        self.ratios = tuple(math.fsum(step) / len(step) for step in zip(*passes, strict=True))


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Inside the block, clips are made in full, and what their steps show is recorded."""
    found = Recorder()
    before = _recorder.get()
    _recorder.set(found)
    try:
        yield found
    finally:
        _recorder.set(before)


def recorder() -> Recorder | None:
    """Who records now; None if nobody does."""
    return _recorder.get()


def place(files: Sequence[Path]) -> Path:
    """Where the calibration of a checkpoint lies."""
    return files[0].with_name(f"{files[0].stem}.calibration.json")


def read(files: Sequence[Path]) -> tuple[float, ...]:
    """The ratios of a checkpoint, by step.

    Raises:
        NotCalibrated: there are none for what the files hold now.
        IncompatibleCheckpoint: what is there cannot be read.
    """
    path = place(files)
    hint = "Run `python -m studio calibrate` with the engine and model, or choose another step cache."
    if not path.is_file():
        raise NotCalibrated(f"{files[0].name} has no calibration for the step cache.", hint=hint)
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        ratios = tuple(float(ratio) for ratio in told["ratios"])
        if not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
            raise ValueError("these are no ratios")
        known = told["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IncompatibleCheckpoint(f"{path.name} is no calibration of a step cache.", hint=hint) from error
    if known != fingerprint(files):
        raise NotCalibrated(f"{files[0].name} is not the checkpoint that {path.name} was made for.", hint=hint)
    return ratios


def write(files: Sequence[Path], ratios: Sequence[float]) -> Path:
    """Keep the ratios of a checkpoint beside it; raises MediaError where they cannot be written."""
    path = place(files)
    text = json.dumps({"checkpoint": fingerprint(files), "ratios": [round(ratio, 5) for ratio in ratios]}, indent=1)
    try:
        with whole_file(path) as part:
            part.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise media_error(error) from error
    return path


def fingerprint(files: Sequence[Path]) -> str:
    """What tells a checkpoint's content from another's, wherever its files lie."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(0, size // 2), max(0, size - _SAMPLED)}):
                file.seek(start)
                digest.update(file.read(_SAMPLED))
    return digest.hexdigest()
