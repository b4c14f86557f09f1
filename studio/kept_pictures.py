"""Pictures people give: kept under the outputs folder by content, so that jobs and history outlive the browser."""

from __future__ import annotations

import hashlib
import shutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, Problem
from engines.request import Reference, Request
from engines.types import EngineSpec


def references(request: Request) -> Iterator[tuple[str, Reference]]:
    """Every picture of a request with the field it stands in, in order."""
    for name in type(request).model_fields:
        value = getattr(request, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Reference):
                yield name, item


def as_values(spec: EngineSpec, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Request values that hold the given pictures, in the engine's own fields; raises InvalidRequest."""
    for name, info in spec.request_type.model_fields.items():
        if holds(info.annotation) and typing.get_origin(info.annotation) is tuple:
            return {name: list(given)}
    fields = spec.request_type.model_fields
    single = [name for name, info in fields.items() if holds(info.annotation)]
    if len(given) > len(single):
        many = (
            f"at most {len(single)} reference picture{'s' * (len(single) > 1)}" if single else "no reference pictures"
        )
        raise InvalidRequest([Problem("references", f"{spec.title} takes {many}; you gave {len(given)}.")])
    return dict(zip(single, given, strict=False))


def first_frame(spec: EngineSpec, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The picture that a clip begins with, from a request's JSON values: that of a field of a single picture."""
    for name, info in spec.request_type.model_fields.items():
        if holds(info.annotation) and typing.get_origin(info.annotation) is not tuple:
            return values.get(name)
    return None


def keep(request: Request, folder: Path) -> Request:
    """The request with each picture copied into `folder` under the hash of its content."""
    changes: dict[str, Any] = {}
    for name in {name for name, _ in references(request)}:
        value = getattr(request, name)
        kept = tuple(_kept(item, folder) for item in (value if isinstance(value, tuple) else (value,)))
        changes[name] = kept if isinstance(value, tuple) else kept[0]
    return request.model_copy(update=changes)


def paths(values: Any) -> Iterator[Path]:
    """Paths of every picture in a request's JSON values."""
    if isinstance(values, dict):
        if "path" in values:
            yield Path(values["path"])
        for value in values.values():
            yield from paths(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from paths(value)


def holds(kind: Any) -> bool:
    """Whether a field of this type holds a picture, or several."""
    return kind is Reference or any(holds(part) for part in typing.get_args(kind))


def _kept(reference: Reference, folder: Path) -> Reference:
    source = reference.path
    if source.parent == folder:
        return reference
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:32]
    target = folder / f"{digest}{source.suffix.lower()}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)
    return reference.model_copy(update={"path": target})
