"""Examples shipped with the project: what an engine is for, or what its starter model knows what to do with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.types import EngineSpec

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "examples"


@dataclass(frozen=True)
class Example:
    """One example: a short title, and request values whose pictures are named relative to the folder."""

    title: str
    given: dict[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """Its request values, pictures as paths of this machine."""
        return {name: _with_paths(value) for name, value in self.given.items()}


def of(spec: EngineSpec) -> list[Example]:
    """The examples of an engine; all of them fill the same fields."""
    listing = FOLDER / f"{spec.name}.json"
    if not listing.is_file():
        return []
    return [Example(entry.pop("title"), entry) for entry in json.loads(listing.read_text(encoding="utf-8"))]


def _with_paths(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_paths(item) for item in value]
    if isinstance(value, dict):
        return {key: str(FOLDER / item) if key == "path" else item for key, item in value.items()}
    return value
