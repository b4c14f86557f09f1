"""Adapters by their names in the studio's folder of them: what the page and programs call them by.

Only here a name becomes a file, so that nobody reaches other files of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.adapters.files import listed
from engines.errors import InvalidRequest, Problem
from engines.inputs import entries, media_fields
from engines.types import EngineSpec
from engines.wording import given

FOLDER = "adapters"
"""Where they are looked for in the models folder, unless another folder is named."""


def name_of(path: Any, folder: Path | None) -> str:
    """What a file is called in the folder, as a request or JSON has its path; elsewhere, its own name."""
    path = Path(str(path))
    if folder is not None and path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return path.as_posix() if not path.is_absolute() else path.name


def file_of(path: Path, written: str, folder: Path | None) -> Path:
    """The file that somebody at this machine named: `path`, or else what is called so, as `written`, in the folder."""
    if folder is None or path.is_file() or not (folder / written).is_file():
        return path
    return folder / written


def resolved(folder: Path | None, spec: EngineSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Request values with files in place of names of adapters; raises InvalidRequest for what is not in the folder.

    An adapter is its name, or an object with it as "path" and the parts that are obeyed.
    """
    found = dict(values)
    for field in media_fields(spec.request_type, "adapter"):
        if isinstance(found.get(field), Mapping | str):
            found[field] = [found[field]]
        if isinstance(found.get(field), list | tuple):
            known = listed(folder)
            found[field] = [_with_file(field, entry, folder, known) for entry in entries(found[field])]
    return found


def _with_file(field: str, entry: Any, folder: Path | None, known: list[str]) -> Any:
    """An entry with the path of its file; what is no entry stays, for validation to refuse."""
    parts = dict(entry) if isinstance(entry, Mapping) else {"path": entry} if isinstance(entry, str) else None
    if parts is None or not isinstance(parts.get("path"), str | Path):
        return entry
    name = name_of(parts["path"], folder)
    if folder is None:
        raise InvalidRequest(
            [Problem(field, "This studio has no folder of adapters: start it with --adapters, or --models.")]
        )
    if name not in known:
        near = f" It has {len(known)} files." if known else " It has none yet."
        raise InvalidRequest([Problem(field, f"There is no {given(name)} in the folder of adapters.{near}")])
    return parts | {"path": folder / name}
