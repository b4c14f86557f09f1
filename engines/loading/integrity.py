"""What a file is, by its first bytes and never by its suffix, what its header says, and whether it is whole.

Imports no torch. Every answer needs little work, whatever is in the file.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any, Literal

from engines.errors import IncompatibleCheckpoint
from engines.loading import gguf_files

Kind = Literal["safetensors", "archive", "pickle", "gguf"]

# Under which key of a safetensors header this project writes what it knows of a file, as JSON.
FACTS_KEY = "kinora"
# A published network has up to some thousand tensors, a header of some hundred kilobytes.
MOST_TENSORS = 2**16
MAX_HEADER_BYTES = 16 * 2**20
_AGAIN = "Download the file again."
# No published file has zeros in a quarter of its length: so many samples in a row are a hole.
_SAMPLES, _SAMPLE_BYTES, _EMPTY_SAMPLES = 64, 256, 16
_OTHERS = (
    (b"\x89HDF", "an HDF5 file", "Use the model as safetensors or as a PyTorch file."),
    (b"\x93NUMPY", "an array of numpy", "Use the model as safetensors or as a PyTorch file."),
    (b"\x1f\x8b", "packed", "Unpack it first."),
    (b"7z\xbc\xaf", "packed", "Unpack it first."),
    (b"Rar!", "packed", "Unpack it first."),
)


def kind_of(path: Path) -> Kind:
    """How the tensors of a file are stored: safetensors, a zip archive of PyTorch, its older bare pickle, or GGUF.

    Raises:
        IncompatibleCheckpoint: it is empty, a stand-in for the real file, or nothing that can be opened.
    """
    start = _start(path)
    if start[8:9] == b"{" and start[4:8] == b"\0\0\0\0":
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "archive"
    if start.startswith(gguf_files.MAGIC):
        return "gguf"
    if start[:1] == b"\x80" and b"\x02" <= start[1:2] <= b"\x05":
        return "pickle"
    _check_stand_in(path, start)
    for magic, what, hint in _OTHERS:
        if start.startswith(magic):
            raise IncompatibleCheckpoint(f"{path.name} is {what}.", hint=hint)
    raise damaged(path)


def damaged(path: Path) -> IncompatibleCheckpoint:
    """What to say of a file that cannot be opened."""
    return IncompatibleCheckpoint(
        f"{path.name} cannot be read: it is truncated, damaged or no checkpoint.", hint=_AGAIN
    )


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and the offset of its data.

    Raises:
        IncompatibleCheckpoint: it is no such file, cut short, or has more in its header than a network needs.
    """
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if length > path.stat().st_size:
            raise damaged(path)
        if length > MAX_HEADER_BYTES:
            raise too_many(path.name)
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path) from None
    if not isinstance(header, dict):
        raise damaged(path)
    if len(header) > MOST_TENSORS:
        raise too_many(path.name)
    return header, 8 + length


def too_many(name: str) -> IncompatibleCheckpoint:
    """What to say of a file with more parts than any network has."""
    return IncompatibleCheckpoint(
        f"{name} lists more tensors than a network has: it cannot be a checkpoint of one.",
        hint="Choose the model's weights.",
    )


def facts_of(header: dict[str, Any], path: Path) -> dict[str, Any]:
    """What this project wrote into a header, empty for files of others; raises IncompatibleCheckpoint."""
    notes = header.get("__metadata__")
    text = notes.get(FACTS_KEY, "{}") if isinstance(notes, dict) else "{}"
    try:
        facts = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise odd(path.name, FACTS_KEY)
    return facts


def odd(name: str, what: str) -> IncompatibleCheckpoint:
    """What to say of a file whose notes about itself make no sense."""
    return IncompatibleCheckpoint(
        f'{name} says something of itself that cannot be used: its "{what}".', hint="Choose the published file."
    )


def check_file(path: Path, *, document: bool = False) -> None:
    """Raises IncompatibleCheckpoint if a file is no checkpoint, cut short, or empty in large part.

    Its header or directory and a few samples of its data are read.

    Args:
        document: it is no checkpoint but a text beside one: only stand-ins for the real file are found.
    """
    if document:
        _check_stand_in(path, _start(path))
        return
    kind = kind_of(path)
    if kind == "archive" and not zipfile.is_zipfile(path):
        raise IncompatibleCheckpoint(f"{path.name} is cut short.", hint=_AGAIN)
    if kind == "safetensors":
        _check_length(path)
    if kind == "gguf":
        gguf_files.check_length(path)
    _check_filled(path)


def _check_length(path: Path) -> None:
    """Whether a safetensors file is as long as its header says."""
    header, start = safetensors_header(path)
    size = path.stat().st_size
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = start + max(ends, default=0)
    except (KeyError, TypeError, IndexError):
        raise damaged(path) from None
    if size < expected:
        raise IncompatibleCheckpoint(f"{path.name} is cut short: it has {size:,} of {expected:,} bytes.", hint=_AGAIN)


def _check_filled(path: Path) -> None:
    """Whether a long stretch of the file is zeros, as a download leaves it that reserved its space and broke off."""
    size, run = path.stat().st_size, 0
    if size < _SAMPLES * _SAMPLE_BYTES:
        return
    with path.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            run = 0 if any(file.read(_SAMPLE_BYTES)) else run + 1
            if run >= _EMPTY_SAMPLES:
                raise IncompatibleCheckpoint(f"{path.name} is empty in large part: zeros fill it.", hint=_AGAIN)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256)


def _check_stand_in(path: Path, start: bytes) -> None:
    if not start:
        raise IncompatibleCheckpoint(f"{path.name} is empty.", hint=_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        raise IncompatibleCheckpoint(
            f"{path.name} is only a pointer to the real file (Git LFS).", hint='Fetch it with "git lfs pull".'
        )
    if start.lstrip()[:1] == b"<":
        raise IncompatibleCheckpoint(f"{path.name} is a web page, not the file.", hint=_AGAIN)
