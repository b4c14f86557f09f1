"""Checkpoints whose files are named by an index beside them, however many they are. Imports no torch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path, PurePosixPath

from engines.errors import IncompatibleCheckpoint

INDEX_SUFFIX = ".index.json"
MAX_INDEX_BYTES = 16 * 2**20
MOST_SHARDS = 1000


def is_index(name: str) -> bool:
    """Whether a file of this name lists the shards of a checkpoint."""
    return name.endswith(INDEX_SUFFIX)


def shard_names(index: Path) -> tuple[str, ...]:
    """Names of the files that an index lists, in order; they lie beside it. Read once while the file stays the same.

    Raises:
        IncompatibleCheckpoint: it is no index, or names files elsewhere.
    """
    status = index.stat()
    return _names(index, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _names(index: Path, modified: int, size: int) -> tuple[str, ...]:
    try:
        if size > MAX_INDEX_BYTES:
            raise ValueError("larger than any index")
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        if not 0 < len(names) <= MOST_SHARDS or any(PurePosixPath(name).name != name for name in names):
            raise ValueError("no plain file names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IncompatibleCheckpoint(
            f"{index.name} does not list a checkpoint's files.", hint="Download it again."
        ) from error
    return tuple(sorted(names))
