"""Pictures and clips people give: kept in the outputs folder by content, so that jobs outlive the browser."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, Problem
from engines.inputs import PICTURES, entries, media_fields
from engines.media.output import whole_file
from engines.request import Declared, Request
from engines.types import EngineSpec

_LONGEST_SUFFIX = 10  # names that are sentences end with more after their last dot
SHOWN = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif")
"""Suffixes of pictures that every browser shows."""


def as_values(spec: EngineSpec, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Request values that hold the given pictures, in the engine's own fields; raises InvalidRequest."""
    fields = media_fields(spec.request_type, *PICTURES)
    for name, declared in fields.items():
        if declared.most > 1:
            return {name: list(given)}
    if len(given) > len(fields):
        many = (
            f"at most {len(fields)} reference picture{'s' * (len(fields) > 1)}" if fields else "no reference pictures"
        )
        raise InvalidRequest([Problem("references", f"{spec.title} takes {many}; you gave {len(given)}.")])
    return dict(zip(fields, given, strict=False))


def keep(request: Request, folder: Path) -> Request:
    """The request with each picture and clip copied into `folder` under the hash of its content."""
    changes: dict[str, Any] = {}
    for name in media_fields(type(request), *PICTURES, "clip"):
        value = getattr(request, name)
        copies = tuple(kept(item, folder) for item in entries(value))
        if copies:
            changes[name] = copies if isinstance(value, tuple) else copies[0]
    return request.model_copy(update=changes)


def kept(item: Any, folder: Path) -> Any:
    """One given file, copied into `folder` under the hash of its content."""
    return item.model_copy(update={"path": _kept(item.path, folder)})


def paths(values: Any) -> Iterator[Path]:
    """Paths of every kept file in a request's JSON values."""
    if isinstance(values, dict):
        if "path" in values:
            yield Path(values["path"])
        for value in values.values():
            yield from paths(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from paths(value)


def given(request: Declared) -> Iterator[Path]:
    """Paths of every file that a checked request or edit was given."""
    return paths(request.model_dump(mode="json"))


def pictures(values: Mapping[str, Any]) -> Iterator[Path]:
    """Paths of the kept files that are pictures which a browser shows."""
    return (path for path in paths(dict(values)) if path.suffix.lower() in SHOWN)


def _kept(source: Path, folder: Path) -> Path:
    if source.parent == folder:
        return source
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    suffix = source.suffix.lower() if len(source.suffix) <= _LONGEST_SUFFIX else ""
    target = folder / f"{digest}{suffix}"
    if not target.is_file() or target.stat().st_size != source.stat().st_size:  # one that a power cut left empty
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            shutil.copyfile(source, part)
    return target
