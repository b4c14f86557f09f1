"""Files of one job: written under hidden temporary names beside their targets, published together or not at all."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from engines.errors import MediaError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_ROOM_BYTES = 2**16
_GONE = {errno.ENOENT, errno.ENOTDIR}


def media_error(error: Exception) -> MediaError:
    """The sentence for a failed write; works for OSError and for PyAV's errors, which carry `errno` too."""
    number = getattr(error, "errno", None)
    if number in _FULL:
        return MediaError(
            "The disk is full, so the clip could not be written.", hint="Free some space or choose another folder."
        )
    if number in _FORBIDDEN:
        return MediaError(
            "The output folder cannot be written to.", hint="Choose another folder or change its permissions."
        )
    if number in _GONE:
        return MediaError("The output folder is not there any more.", hint="Choose another folder.")
    if number in (errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
        return MediaError("The clip cannot be written under this name.", hint="Choose another name.")
    return MediaError("The clip could not be written.", unforeseen=True)


def check_room(folder: Path, stem: str = "room") -> None:
    """Raise MediaError where no file of such a name can be written into `folder`, for example on a full disk."""
    probe = folder / f".{stem}.{os.getpid()}.part.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"\0" * _ROOM_BYTES)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise media_error(error) from error


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A hidden path beside `target` to write to: it becomes `target` at the end, after an error nothing is left."""
    part = target.with_name(f".{target.name}.{time.monotonic_ns()}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)  # a second name of the same file does not replace the first


class Output:
    """The output files of one job. A context manager: whatever was not published is removed on exit.

    Args:
        folder: where the files will stand; made if missing.
        stem: their common name without suffix.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        if not stem or Path(stem).name != stem or stem.startswith("."):
            raise MediaError("The clip cannot be written under this name.", hint="Choose another name.")
        self.folder, self.stem = folder, stem
        self._parts: dict[str, Path] = {}
        check_room(folder, stem)

    def part(self, suffix: str) -> Path:
        """The temporary path of the file with `suffix` (".mp4"); `publish` moves it to its final name."""
        return self._parts.setdefault(suffix, self._temporary(suffix))

    def final(self, suffix: str) -> Path:
        """The path that the file with `suffix` will have."""
        return self.folder / f"{self.stem}{suffix}"

    def write_text(self, suffix: str, text: str) -> None:
        """Write a whole part at once."""
        self.write_bytes(suffix, text.encode())

    def write_bytes(self, suffix: str, content: bytes) -> None:
        """Write a whole part at once."""
        try:
            self.part(suffix).write_bytes(content)
        except OSError as error:
            raise media_error(error) from error

    def publish(self) -> None:
        """Give all parts their final names, the first requested one last, so its presence means all are there."""
        moved: list[Path] = []
        try:
            for suffix, part in reversed(self._parts.items()):
                part.replace(self.final(suffix))
                moved.append(self.final(suffix))
        except OSError as error:
            for path in moved:
                path.unlink(missing_ok=True)
            raise media_error(error) from error
        self._parts.clear()

    def discard(self) -> None:
        """Remove every part that was not published."""
        for part in self._parts.values():
            part.unlink(missing_ok=True)
        self._parts.clear()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.discard()

    def _temporary(self, suffix: str) -> Path:
        return self.folder / f".{self.stem}.{os.getpid()}.part{suffix}"


def remove_leftovers(folder: Path, *, including_own: bool = False) -> None:
    """Remove parts of processes that do not live any more (a killed worker cannot clean up after itself)."""
    import psutil

    for path in folder.glob(".*.part*"):
        owner = path.name.rpartition(".part")[0].rpartition(".")[2]
        if owner.isdigit() and (not psutil.pid_exists(int(owner)) or (including_own and int(owner) == os.getpid())):
            path.unlink(missing_ok=True)
