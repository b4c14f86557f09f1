"""Looking at a file that somebody gave before it is opened: is it there, and what is it? Imports no torch."""

from __future__ import annotations

import stat
from pathlib import Path

from engines.errors import MediaError
from engines.media.formats import HEAD_BYTES, Format, recognised


def usable_file(path: Path, noun: str, *, most_bytes: int | None = None) -> Format | None:
    """What the file at `path` is by its first bytes, None if that is not known.

    Args:
        noun: what it should be, for sentences: "picture".

    Raises:
        MediaError: it is not there, no file, empty, larger than `most_bytes`, or cannot be read.
    """
    name = shown_name(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MediaError(f"There is no {noun} {name}: check the file name.") from None
    except (OSError, ValueError):
        raise MediaError(f"{name} cannot be opened: check the file name and its permissions.") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{name} is not a file: choose a {noun} file.")
    if status.st_size == 0:
        raise MediaError(f"{name} is empty: choose another file.")
    if most_bytes is not None and status.st_size > most_bytes:
        raise MediaError(
            f"{name} is {status.st_size / 1e6:,.0f} MB large: save it with at most {most_bytes / 1e6:.0f} MB."
        )
    try:
        with path.open("rb") as file:
            return recognised(file.read(HEAD_BYTES))
    except OSError:
        raise MediaError(f"{name} cannot be opened: check its permissions.") from None


def file_problem(path: Path, noun: str) -> str | None:
    """Why there is no file to open at `path`, in one sentence; None if there is one."""
    try:
        usable_file(path, noun)
    except MediaError as error:
        return error.message
    return None


def shown_name(path: Path) -> str:
    """The file's own name in quotes, fit for a sentence: no folder, no control characters, not endless."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f'"{name}"' if len(name) <= 80 else f'"{name[:40]}...{name[-37:]}"'
