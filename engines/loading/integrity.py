"""Cheap checks that a checkpoint file is whole, before anything of it is loaded. Imports no torch."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from engines.errors import IncompatibleCheckpoint

_MAX_HEADER_BYTES = 100 * 2**20
_AGAIN = "Download it again."


def check_file(path: Path) -> None:
    """Raise IncompatibleCheckpoint if the file is empty, cut short, or a stand-in for the real one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
    if size == 0:
        raise IncompatibleCheckpoint(f"{path.name} is empty.", hint=_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise IncompatibleCheckpoint(
            f"{path.name} is only a pointer to the real file (Git LFS).", hint='Fetch it with "git lfs pull".'
        )
    if path.suffix == ".safetensors":
        _check_safetensors(path, size)
    elif start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise IncompatibleCheckpoint(f"{path.name} is cut short.", hint=_AGAIN)


def safetensors_header(path: Path) -> tuple[dict[str, object], int]:
    """The header of a safetensors file and the offset of its data; raises IncompatibleCheckpoint."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise IncompatibleCheckpoint(f"{path.name} is no safetensors file.", hint="Choose another file.")
        text = file.read(length)
    if len(text) < length:
        raise IncompatibleCheckpoint(f"{path.name} is cut short.", hint=_AGAIN)
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise IncompatibleCheckpoint(f"{path.name} is no safetensors file.", hint="Choose another file.")
    return header, 8 + length


def _check_safetensors(path: Path, size: int) -> None:
    header, start = safetensors_header(path)
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]  # type: ignore[index]
        expected = start + max(ends, default=0)
    except (KeyError, TypeError, IndexError):
        raise IncompatibleCheckpoint(f"{path.name} is no safetensors file.", hint="Choose another file.") from None
    if size < expected:
        raise IncompatibleCheckpoint(f"{path.name} is cut short: it has {size:,} of {expected:,} bytes.", hint=_AGAIN)
