"""What the command lines of training and evaluation take: numbers, devices and folders, each refused in a sentence."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from engines.errors import StudioError
from engines.memory.devices import discover
from engines.wording import either, printable


class Refused(Exception):
    """The request cannot be met; its text says why, and was said on stderr."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Say on stderr, in one line, why what stands inside cannot be done, and raise Refused instead."""
    try:
        yield
    except (ValueError, StudioError, OSError) as error:
        sentence = sentence_of(error)
        sys.stderr.write(f"{sentence}\n")
        raise Refused(sentence) from error


def sentence_of(error: Exception) -> str:
    """One line for people."""
    if isinstance(error, OSError) and error.filename:
        reason = (error.strerror or type(error).__name__).lower()
        return f'"{printable(Path(str(error.filename)).name)}" cannot be used: {reason}.'
    return str(error)


def device(text: str) -> str:
    """A device of this machine."""
    names = [known.name for known in discover()]
    names[:0] = ["cuda"] if "cuda:0" in names else []
    if text.strip().lower() not in names:
        raise argparse.ArgumentTypeError(f'this machine has no device "{printable(text)}": choose {either(names)}')
    return text.strip().lower()


def minutes(text: str) -> float:
    """Minutes of wall time."""
    value = _read(float, text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'a number of minutes above 0 is meant, not "{printable(text)}"')
    return value


def count(text: str) -> int:
    """How many of something."""
    value = _read(int, text)
    if not 0 < value < 10**6:
        raise argparse.ArgumentTypeError(f'a whole number from 1 on is meant, not "{printable(text)}"')
    return int(value)


def out_file(text: str) -> Path:
    """A file that can be written, in a folder that is there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'"{printable(path.name)}" is a folder: name a file in it')
    if not present(str(path.parent)).is_dir():
        raise argparse.ArgumentTypeError(f'"{printable(path.parent.name)}" is no folder')
    return path


def picture_file(text: str) -> Path:
    """The same for a picture."""
    path = out_file(text)
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise argparse.ArgumentTypeError(f'end the name "{printable(path.name)}" with .jpg, .png or .webp')
    return path


def out_folder(text: str) -> Path:
    """A folder that is there or can be made; makes none."""
    path = Path(text)
    try:
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        usable = above.is_dir()
    except OSError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f'"{printable(path.name)}" cannot be a folder: a file stands in its way')
    return path


def present(text: str) -> Path:
    """A file or folder that is there."""
    path = Path(text)
    try:
        there = path.exists()
    except OSError:  # a name too long, a folder that may not be entered
        there = False
    if not there:
        raise argparse.ArgumentTypeError(f'there is no "{printable(path.name)}"')
    return path


def _read(kind: Callable[[str], float], text: str) -> float:
    try:
        return kind(text)
    except ValueError:
        return math.nan
