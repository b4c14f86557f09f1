"""One file from a Hugging Face hub: resumed where it broke off, watched, and read once more against the hub's own hash.

Imports no torch. Nothing here runs unless somebody asked for a download.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from engines.errors import MissingWeights, StudioError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

Watch = Callable[[int], None]
"""Called with the bytes that have just come; raises Stopped to end the download, which can be resumed."""

_BLOCK = 2**22


class Stopped(Exception):
    """Somebody ended a download."""


def fetch(repo: str, file: str, *, folder: Path | None, watch: Watch | None = None) -> Path:
    """The file, in `folder` under its name in the repository, or in the hub's cache.

    What had come before a break lies beside it as NAME.HASH.part, and the next call goes on from there:
    huggingface_hub's own downloads begin anew. Only files too large for plain HTTP are left to it.

    Raises:
        MissingWeights: offline, or the repository or file is not to be had.
        StudioError: it could not be saved, or what came is not what the hub announced.
        Stopped: by `watch`.
    """
    import httpx2
    from filelock import FileLock, Timeout
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        told = get_hf_file_metadata(hf_hub_url(repo, file))
        if (told.size or 0) > constants.MAX_HTTP_DOWNLOAD_SIZE:
            path = Path(hf_hub_download(repo, file, local_dir=folder, tqdm_class=_bar(watch) if watch else None))
            _check(path, told.etag or "", watch, name=f"{file} of {repo}")
            return path
        cached = _Cached(repo, file, told)
        target = cached.blob if folder is None else folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{(told.etag or 'unnamed')[:16]}.part")
        lock = part.with_name(f"{part.name}.lock")
        with FileLock(lock, timeout=0):
            _come(part, told, watch)
            _check(part, told.etag or "", watch, name=f"{file} of {repo}")
            part.replace(target)
            with suppress(OSError):  # Windows keeps what is open
                lock.unlink()
        return cached.link() if folder is None else target
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.TransportError) as error:
        raise MissingWeights(
            f"{file} of {repo} cannot be downloaded: the hub cannot be reached.",
            hint="Check the connection, or copy the file into the models folder. What has come is kept.",
        ) from error
    except HfHubHTTPError as error:
        raise MissingWeights(
            f"{file} of {repo} cannot be downloaded: the hub refused it.",
            hint="The repository may have moved or ask for its licence to be accepted on its page.",
        ) from error
    except Timeout as error:
        raise StudioError(f"{file} is being downloaded already:", hint="wait for that download to end.") from error
    except OSError as error:
        if "onsistency" in str(error):  # how huggingface_hub says that another number of bytes came
            raise _damaged(f"{file} of {repo}") from error
        raise StudioError(f"{file} could not be saved.", hint="Check the models folder and its disk.") from error


def _come(part: Path, told: HfFileMetadata, watch: Watch | None) -> None:
    """Fill `part` up to the size that the hub announces."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    have = part.stat().st_size if part.is_file() else 0
    if told.size is not None and have > told.size:
        part.unlink()
        have = 0
    with part.open("ab") as opened:
        if have and watch is not None:
            watch(have)
        try:
            http_get(
                told.location,
                opened,
                resume_size=have,
                headers=build_hf_headers(),
                expected_size=told.size,
                tqdm_class=_bar(watch) if watch else None,
            )
        except OSError as error:
            if error.errno is None:  # more or other bytes than announced: nothing to go on from
                opened.truncate(0)
            raise


@dataclass(frozen=True)
class _Cached:
    """A file's places in the hub's cache, as huggingface_hub looks for them."""

    repo: str
    file: str
    told: HfFileMetadata

    @property
    def _home(self) -> Path:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repo, repo_type="model")

    @property
    def blob(self) -> Path:
        """The content, under its hash."""
        return self._home / "blobs" / (self.told.etag or "unnamed")

    def link(self) -> Path:
        """Give the content its name in the newest revision; returns that."""
        commit = self.told.commit_hash or "unnamed"
        name = self._home / "snapshots" / commit / self.file
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        try:
            name.symlink_to(os.path.relpath(self.blob, name.parent))
        except OSError:  # Windows may not allow it
            self.blob.replace(name)
        (self._home / "refs").mkdir(exist_ok=True)
        (self._home / "refs" / "main").write_text(commit, encoding="utf-8")
        return name


def _check(path: Path, wanted: str, watch: Watch | None, *, name: str) -> None:
    """Compare a file with the hash that the hub gives it; a file that differs is removed."""
    if len(wanted) == 64:
        found = hashlib.sha256()
    elif len(wanted) == 40:  # a small file, named as git names it
        found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    else:
        return
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK):
            found.update(block)
            if watch is not None:
                watch(0)
    if found.hexdigest() != wanted:
        remove(path)
        raise _damaged(name)


def remove(path: Path) -> int:
    """Delete a file, in the hub's cache with what its name there points to; returns the bytes given back."""
    there = path.resolve()
    size = there.stat().st_size if there.is_file() else 0
    path.unlink(missing_ok=True)
    if there != path and there.parent.name == "blobs":
        there.unlink(missing_ok=True)
    return size


def _damaged(name: str) -> StudioError:
    return StudioError(f"{name} came damaged: it is not what the hub announces.", hint="Download it once more.")


def _bar(watch: Watch) -> type[Any]:
    """A bar as huggingface_hub wants one, which draws nothing and tells `watch`."""

    class Bar(tqdm):  # type: ignore[type-arg,misc,unused-ignore]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            watch(int(n or 0))
            return None

    return Bar
