"""What a physics checkpoint says of itself, and which drawn forces it takes: read before anything is loaded.

From phantom_physics.json among or beside its files, or from the metadata of a file that holds all networks.
Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.errors import IncompatibleCheckpoint
from engines.loading import integrity

SETTINGS = "phantom_physics.json"
FACT = "physics"  # of a file's metadata: its settings


def told(paths: Sequence[Path]) -> tuple[Any, str]:
    """The description that stands in or beside a checkpoint's files, not yet checked, and the name of its file.

    Raises:
        IncompatibleCheckpoint: there is none, or it cannot be read.
    """
    weights = next(path for path in paths if path.name != SETTINGS)
    for path in paths:
        if path.name == SETTINGS:
            return read(path), path.name
    fact = integrity.facts_of(integrity.safetensors_header(weights)[0], weights).get(FACT)
    return (read(weights.with_name(SETTINGS)), SETTINGS) if fact is None else (fact, weights.name)


def read(path: Path) -> Any:
    """What a description holds; raises IncompatibleCheckpoint where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise IncompatibleCheckpoint(
            f"{path.name} is missing beside the physics weights, or cannot be read.",
            hint="A physics checkpoint is a folder with both files, as the trainer writes it.",
        ) from None


def forces(paths: Sequence[Path]) -> tuple[str, ...]:
    """The kinds of drawn force that a checkpoint was trained with; none where its files do not say."""
    try:
        content, _ = told(paths)
    except (IncompatibleCheckpoint, OSError, StopIteration):
        return ()
    force = content.get("force") if isinstance(content, dict) else None
    kinds = force.get("kinds") if isinstance(force, dict) else None
    return tuple(kind for kind in kinds if isinstance(kind, str)) if isinstance(kinds, list) else ()
