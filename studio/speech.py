"""What the command line says: to a terminal that may not know every letter, to a pipe that may be closed."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from engines.errors import StudioError
from studio.paths import reason


def prepare() -> None:
    """Let every text be said, in any encoding of the terminal: letters that it lacks come as their numbers.

    Streams that were closed by whoever started this process lead nowhere, and no file that is opened takes their place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, stream: TextIO | None = None) -> None:
    """Say a line on stdout, or on `stream`; nobody has to listen. Raises StudioError where stdout is a full disk."""
    stream = sys.stdout if stream is None else stream
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        _hang_up(stream)
    except OSError as error:
        _hang_up(stream)
        if stream is sys.stdout:
            raise StudioError(f"The answer could not be written: {reason(error)}.") from None


def finish() -> None:
    """Say what is still unsaid, so that the end of the process finds nothing to fail with."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _hang_up(stream)


def _hang_up(stream: TextIO) -> None:
    """Nobody reads any more: what is left, and all that follows, goes nowhere."""
    if isinstance(stream, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
