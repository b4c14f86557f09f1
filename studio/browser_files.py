"""Files that pass between the studio and browsers: uploads, and second names of clips, in one folder of bounded size.

A clip is handed out under a second name of the same file, so it takes no room twice and no other folder is published.
Knows no gradio, which writes the uploads and reads the whole folder (GRADIO_TEMP_DIR).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engines.media.output import whole_file

VARIABLE = "GRADIO_TEMP_DIR"
YOUNG_S = 600.0
"""Uploads younger than this may still be on a form, so they are not the ones that make room."""


@contextmanager
def gradios_folder(folder: Path) -> Iterator[None]:
    """Have gradio use `folder`, unless somebody has named another one, under a path that tells nothing of this machine.

    Browsers are told the path of every file, so `folder` is known to gradio as a link in the system's temporary folder.
    """
    if os.environ.get(VARIABLE):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kinora-") as name:
        link = Path(name) / "files"
        try:
            link.symlink_to(folder)
        except OSError:  # Windows may not allow it
            link.mkdir()
        os.environ[VARIABLE] = str(link)
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def second_name(path: Path, folder: Path) -> Path:
    """The name in `folder` under which browsers get the file at `path`; raises OSError where there is no such file.

    It cannot be guessed without the file's own name, which holds a job's id or a hash.
    """
    status = path.stat()
    identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
    plain = re.sub(r"[^\w.-]", "_", path.name)[-100:]
    return folder / hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest() / plain


def give(path: Path, folder: Path) -> Path:
    """Put the file at `path` into `folder` under its second name, without a copy where the system can do so."""
    target = second_name(path, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as part:
        try:
            os.link(path, part)  # its time of change is now: gradio deletes by that
        except OSError:  # another file system, or one without links
            shutil.copy2(path, part)
    return target


def take_back(path: Path, folder: Path) -> None:
    """Remove the second name of a file that is about to be deleted."""
    with suppress(OSError):
        target = second_name(path, folder)
        for name in target.parent.iterdir():  # with it the copy that tells no settings
            name.unlink()
        target.parent.rmdir()


def make_room(folder: Path, *, incoming: int, most_bytes: int) -> bool:
    """Whether `incoming` bytes fit below `most_bytes`, once old uploads are gone that take too much.

    Second names take no room.
    """
    held: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # it went meanwhile
            status = path.lstat()
            if path.is_file() and status.st_nlink == 1:
                held.append((status.st_ctime, status.st_size, path))
    total = incoming + sum(size for _, size, _ in held)
    for changed, size, path in sorted(held):
        if total <= most_bytes or time.time() - changed < YOUNG_S:
            break
        with suppress(OSError):
            path.unlink()
            total -= size
    return total <= most_bytes
