"""One outputs folder belongs to one studio at a time, until its process ends, however it ends."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from studio.settings import BadSetting

NAME = ".studio.lock"


class FolderInUse(BadSetting):
    """Another studio works in this outputs folder."""


class FolderLock:
    """The right to work in a folder, from construction to `release`.

    Raises:
        FolderInUse: somebody else has it.
        OSError: it is no folder, or cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / NAME, timeout=0, thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise FolderInUse(
                "This outputs folder is in use by another studio.", hint="Stop that one, or choose another --outputs."
            ) from None

    def release(self) -> None:
        """Let others work in the folder."""
        self._lock.release()
