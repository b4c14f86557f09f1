"""How much of each device may be used, as it was said on the page: kept in the outputs folder for later starts."""

from __future__ import annotations

import json
from pathlib import Path

from engines.media.output import media_error
from engines.memory.budget import Limits, read_limits

NAME = "memory.json"


def keep(outputs: Path, limits: Limits) -> None:
    """Keep limits; raises MediaError where the folder cannot be written to."""
    unfinished = outputs / f".{NAME}.part"
    try:
        unfinished.write_text(json.dumps(dict(limits)), encoding="utf-8")
        unfinished.replace(outputs / NAME)
    except OSError as error:
        raise media_error(error) from error


def kept(outputs: Path) -> Limits:
    """The limits that were kept; none where there are none that can be used."""
    try:
        known = json.loads((outputs / NAME).read_text(encoding="utf-8"))
        return read_limits(text(known)) if isinstance(known, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def text(limits: Limits) -> str:
    """Limits as people write them."""
    return ",".join(f"{device}={number:g}" if device else f"{number:g}" for device, number in limits.items())
