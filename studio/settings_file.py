"""The settings file: a TOML file that page and command line share, its values as the text that a flag would have."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from engines.media.output import whole_file
from engines.wording import either, given, number, printable
from studio.paths import absolute, reason

NAME = "kinora.toml"
_MOST_BYTES = 1_000_000
_HEAD = "Settings of Kinora, shared by page and command line. A variable goes before them, and a flag before that."
_KINDS = {
    str: "a text in quotes", bool: "true or false", int: "a whole number", float: "a number", list: "a list of texts",
    dict: "a table of numbers",
}  # fmt: skip


def found(named: str) -> Path | None:
    """The file that was named, else the one in the working folder; None where there is none."""
    path = absolute(named or NAME)
    return path if named or os.path.lexists(path) else None


def read(path: Path) -> dict[str, Any]:
    """What stands in a settings file, by name; raises ValueError with the sentence for one that cannot be used."""
    name = printable(path.name)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f'The settings file "{name}" cannot be read: {reason(error)}. Name another.') from None
    if len(content) > _MOST_BYTES:
        raise ValueError(f'The settings file "{name}" is too long: at most {number(_MOST_BYTES)} bytes are read.')
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f'The settings file "{name}" is no text: write it in UTF-8.') from None
    except RecursionError:
        raise ValueError(f'The settings file "{name}" is no TOML: it is nested too deep.') from None
    except ValueError as error:
        raise ValueError(f'The settings file "{name}" is no TOML: {printable(str(error), longest=200)}.') from None


def change(path: Path, values: Mapping[str, Any]) -> None:
    """Write settings into the file, made if it is not there; None takes one out. What else stands in it stays as it is.

    Raises:
        ValueError: with the sentence for a file that cannot be read, that is no TOML, or that cannot be written.
    """
    name = printable(path.name)
    if os.path.lexists(path):
        read(path)
        written = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    else:
        written = tomlkit.document()
        written.add(tomlkit.comment(_HEAD))
    for key, value in values.items():
        if value is None:
            written.pop(key, None)
        elif isinstance(value, Mapping):
            written.pop(key, None)  # a table of its own would take what comes after it
            written[key] = tomlkit.inline_table()
            written[key].update(value)
        else:
            written[key] = value
    try:
        with whole_file(path.resolve()) as part:
            part.write_text(tomlkit.dumps(written), encoding="utf-8")
    except OSError as error:
        raise ValueError(f'The settings file "{name}" cannot be written: {reason(error)}.') from None


def as_written(value: Any) -> Any:
    """A setting's value as it stands in the file."""
    match value:
        case Mapping():
            numbers = {name: int(one) if float(one).is_integer() else one for name, one in value.items()}
            return numbers[""] if [*numbers] == [""] else numbers
        case tuple():
            return list(value)
        case Path():
            return str(value)
    return value


def as_text(value: Any, takes: Sequence[type]) -> str:
    """A value of the file as one would write it behind a flag; ValueError says of which kind it must be."""
    fits = type(value) in takes
    match value:
        case bool() if fits:
            return "1" if value else "0"
        case int() if fits:
            return str(value) if value.bit_length() < 64 else number(value)
        case float() | str() if fits:
            return str(value)
        case list() if fits and all(isinstance(one, str) for one in value):
            return ",".join(value)
        case dict() if fits and all(type(one) in (int, float) for one in value.values()):
            return ",".join(f"{name}={as_text(one, (int, float))}" for name, one in value.items())
    raise ValueError(either([_KINDS[kind] for kind in takes if kind is not int or float not in takes]))


def shown(value: Any) -> str:
    """A value of the file for a sentence: a text in quotes, also one that looks like a number."""
    if isinstance(value, str):
        return f'"{printable(value)}"'
    named = {list: "a list", dict: "a table"}
    return named.get(type(value)) or given(value)
