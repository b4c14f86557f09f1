"""Paths as people write them, made whole at the door: what runs elsewhere is given nothing that depends on where."""

from __future__ import annotations

import os
from pathlib import Path


def absolute(written: str | Path) -> Path:
    """The file or folder that `written` means here, as an absolute path with its links unresolved.

    `~` is a home only where there is such a user and no file of that name.
    """
    path = Path(written)
    if str(path).startswith("~") and not os.path.lexists(path):
        try:
            path = path.expanduser()
        except RuntimeError:  # no such user: then it is a name like any other
            path = Path(written)
    return Path.cwd() / path


def reason(error: OSError) -> str:
    """Why the system refused, fit for a sentence: without the path it names."""
    return (error.strerror or type(error).__name__).lower()
