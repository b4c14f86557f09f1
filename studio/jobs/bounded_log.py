"""A log file that does not grow: what is older than two files' worth is forgotten."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 1_000_000


class BoundedLog:
    """Text appended to a file; when it is full it becomes "<name>.1" and a new one begins. Never raises."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max_bytes, self._lock = path, max_bytes, threading.Lock()

    def write(self, text: bytes) -> None:
        """Append some text, cut to what the file may hold."""
        with self._lock, suppress(OSError):  # a log is no reason to end anything
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size + len(text) > self._max_bytes:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
            with self.path.open("ab") as file:
                file.write(text[: self._max_bytes])
