"""A batch for the command line: a file of JSON lines, one clip in each, all checked before the first is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, MediaError, Problem
from engines.inputs import with_files
from engines.registry import SPECS
from engines.request import Request
from engines.types import EngineSpec
from engines.validation import build_request
from engines.wording import either, given, number, printable
from studio.adapters import file_of
from studio.paths import absolute, reason
from studio.presets import Presets

MOST_BYTES = 10_000_000
MOST_LINES = 10_000
MOST_NAME_BYTES = 230
_NAME = re.compile(r"[^/\\\0\ud800-\udfff]+\.mp4", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """One clip of a batch: its request, checked, the file it will be, and what of its preset cannot be taken."""

    number: int
    spec: EngineSpec
    request: Request
    out: Path
    note: str = ""

    @property
    def summary(self) -> str:
        """What it will be, in a few words."""
        asked = self.request
        return f"{self.spec.name}/{asked.model}, {asked.width}x{asked.height}, {asked.frames} frames"


def read(path: Path, folder: Path, presets: Presets | None = None) -> list[Line]:
    """The clips that a file asks for, to be made in `folder`.

    Each line is an object of request values with "engine", and with "out" where the clip is to have a name of its own;
    pictures and clips are named from the folder of the file. Values go before those of its "preset", one of `presets`.
    Empty lines are none.

    Raises:
        MediaError: the file cannot be read.
        InvalidRequest: with one problem for everything that is wrong in any line.
    """
    lines, problems, names = list[Line](), list[Problem](), dict[str, int]()
    for index, text in _numbered(path):
        try:
            line = _line(index, text, home=path.parent, folder=folder, presets=presets)
            first = names.setdefault(line.out.name.lower(), index)
            if first != index:
                raise InvalidRequest([Problem("out", f"Line {first} has the same name: give this clip another.")])
            lines.append(line)
        except InvalidRequest as error:
            problems += [Problem(found.field, f"Line {index}: {found.message}") for found in error.problems]
    if problems:
        raise InvalidRequest(problems)
    if not lines:
        raise InvalidRequest([Problem("", f'There is no clip in "{printable(path.name)}": write one in each line.')])
    return lines


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    name = printable(path.name)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise MediaError(f'"{name}" is too long for a batch.', hint=f"At most {number(MOST_BYTES)} bytes are read.")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MediaError(f'"{name}" is no text:', hint="write one JSON object in each line, in UTF-8.") from None
    except OSError as error:
        raise MediaError(f'"{name}" cannot be read: {reason(error)}.', hint="Choose another file.") from None
    written = [(index, line) for index, line in enumerate(text.split("\n"), 1) if line.strip()]  # JSON's own rule
    if len(written) > MOST_LINES:
        raise MediaError(f'"{name}" has too many lines.', hint=f"A batch has at most {number(MOST_LINES)}.")
    return iter(written)


def _line(index: int, text: str, *, home: Path, folder: Path, presets: Presets | None) -> Line:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidRequest([Problem("", 'write a JSON object such as {"engine": "phantom-wan", "prompt": "..."}.')])
    engine, out = values.pop("engine", None), values.pop("out", f"{index:04}.mp4")
    if not isinstance(engine, str) or engine not in SPECS:
        said = f"you gave {given(engine)}" if engine is not None else "there is none"
        raise InvalidRequest([Problem("engine", f'"engine" must be {either([*SPECS])}; {said}.')])
    if not isinstance(out, str) or not _NAME.fullmatch(out) or len(out.encode()) > MOST_NAME_BYTES:
        words = f'"out" must be a file name that ends with .mp4, of at most {MOST_NAME_BYTES} bytes'
        raise InvalidRequest([Problem("out", f"{words}; you gave {given(out)}.")])
    spec = SPECS[engine]
    named, kept = values.pop("preset", None), None
    if named is not None:
        if not isinstance(named, str) or presets is None:
            raise InvalidRequest([Problem("preset", f'"preset" must be the name of one; you gave {given(named)}.')])
        kept = presets.for_request(spec, named)
    adapters = presets.adapters if presets is not None else None
    whole = with_files(
        spec.request_type,
        values,
        lambda _name, declared, entry: _file(entry, declared.kind, home=home, adapters=adapters),
        leave=(),
    )
    request = build_request(spec, (kept.values if kept else {}) | whole)
    return Line(index, spec, request, folder / out, kept.sentence if kept else "")


def _file(entry: Any, kind: str, *, home: Path, adapters: Path | None) -> Any:
    """An entry whose file was named from `home`, or as one of the adapters in their folder, named wholly."""
    written = entry.get("path") if isinstance(entry, Mapping) else entry
    if not isinstance(written, str):
        return entry
    path = home / absolute(written) if written.startswith("~") else home / written
    if kind == "adapter":
        path = file_of(path, written, adapters)
    if kind == "earlier job":
        return str(path)
    return (dict(entry) if isinstance(entry, Mapping) else {}) | {"path": str(path)}
