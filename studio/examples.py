"""Examples shipped with the project: what an engine is for, or what its starter model knows what to do with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.types import EngineSpec, ModelSpec

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "examples"


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        title: a word or two.
        given: request values whose pictures are named relative to the folder.
        in_few_words: the prompt for a model that understands only few words, where it is another.
    """

    title: str
    given: dict[str, Any]
    in_few_words: str = ""

    def values(self, model: ModelSpec) -> dict[str, Any]:
        """Its request values for a model, pictures as paths of this machine."""
        values = {name: _with_paths(value) for name, value in self.given.items()}
        return values | {"prompt": self.in_few_words} if self.in_few_words and model.words else values


def of(spec: EngineSpec) -> list[Example]:
    """The examples of an engine; all of them fill the same fields."""
    listing = FOLDER / f"{spec.name}.json"
    if not listing.is_file():
        return []
    entries = json.loads(listing.read_text(encoding="utf-8"))
    return [Example(entry.pop("title"), entry, entry.pop("in_few_words", "")) for entry in entries]


def _with_paths(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_paths(item) for item in value]
    if isinstance(value, dict):
        return {key: str(FOLDER / item) if key == "path" else item for key, item in value.items()}
    return value
