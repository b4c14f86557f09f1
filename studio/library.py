"""The clips that are kept: found again, starred, tagged, thrown away and taken back, and what they take of the disk.

Everything is asked for an owner: a visitor sees and changes nobody else's.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.request import control
from studio import kept_files
from studio.jobs.shelf import Query, Shelf
from studio.jobs.store import Job

if TYPE_CHECKING:
    from studio.service import Studio

TRASH_DAYS = 30
"""How long the trash is kept."""


@dataclass(frozen=True)
class Usage:
    """What clips take of the disk, in bytes; a picture that several were made from counts once.

    Attributes:
        clips, trash: their files, and the pictures that nobody else needs.
        free: what is left on the disk of the outputs folder.
    """

    clips: int
    trash: int
    free: int
    count: int
    trashed: int


def search(studio: Studio, query: Query, *, owner: str, first: int = 0, most: int = 60) -> tuple[list[list[Job]], int]:
    """Jobs that fit, grouped as they were submitted, newest first: those from number `first` on, and how many groups
    there are."""
    found = Shelf(studio.store).search(query, owner=owner)
    shown = found[first : first + most]
    jobs = {job.id: job for job in studio.store.several([job_id for group in shown for job_id in group])}
    return [[jobs[job_id] for job_id in group if job_id in jobs] for group in shown], len(found)


def texts(studio: Studio) -> tuple[str, ...]:
    """The request fields that hold what a person wrote of a clip, in any engine; and the model's name."""
    fields = (item for spec in studio.specs.values() for item in spec.request_type.model_fields.items())
    said = (
        name
        for name, info in fields
        if control(info).get("group") == "prompt" and not control(info).get("advanced") and not control(info)["hidden"]
    )
    return tuple(dict.fromkeys(["prompt", *said, "model"]))


def star(studio: Studio, job_id: str, on: bool, *, owner: str) -> None:
    """Put a star on a clip, or take it off."""
    if studio.job(job_id, owner=owner) is not None:
        Shelf(studio.store).star(job_id, on)


def tag(studio: Studio, job_id: str, tags: Iterable[str], *, owner: str) -> tuple[str, ...]:
    """Give a clip these tags in place of its own; returns them as they are kept."""
    return Shelf(studio.store).tag(job_id, tags) if studio.job(job_id, owner=owner) is not None else ()


def trash(studio: Studio, job_ids: Sequence[str], *, owner: str) -> list[str]:
    """Put jobs that are over into the trash; returns the ids of those that went there."""
    known = [studio.job(job_id, owner=owner) for job_id in job_ids]
    over = [job.id for job in known if job is not None and not job.active]
    Shelf(studio.store).trash(over)
    return over


def restore(studio: Studio, job_ids: Sequence[str], *, owner: str) -> None:
    """Take jobs out of the trash."""
    Shelf(studio.store).restore([job_id for job_id in job_ids if studio.job(job_id, owner=owner) is not None])


def empty_trash(studio: Studio, *, owner: str | None, days: float | None = None) -> int:
    """Delete what is in the trash (for longer than some days) with its files, for good; returns how many jobs.

    Raises:
        StudioError: why a job is still there; those that could go are gone.
    """
    before = None if days is None else time.time() - days * 86_400
    gone = Shelf(studio.store).trashed(owner=owner, before=before)
    studio.delete_all(gone)
    return len(gone)


def family(studio: Studio, job: Job) -> tuple[list[Job], list[Job]]:
    """The clips that a clip was made from, and those that were made from it, as far as they are still known."""
    shelf = Shelf(studio.store)

    def there(ids: Sequence[str]) -> list[Job]:
        known = (other for other in studio.store.several(ids) if other.owner == job.owner)
        return [other for other in known if shelf.mark(other.id).trashed is None]

    return there(shelf.mark(job.id).parents), there(shelf.children(job.id))


def trashed(studio: Studio, *, owner: str) -> int:
    """How many of this owner's jobs lie in the trash."""
    return sum(map(len, Shelf(studio.store).search(Query(show="trash"), owner=owner)))


def usage(studio: Studio, *, owner: str) -> Usage:
    """What this owner's clips take. Every one of their files is looked at."""
    shelf = Shelf(studio.store)
    in_trash = {job.id for job in shelf.trashed(owner=owner)}
    groups = [*shelf.search(Query(), owner=owner), *shelf.search(Query(show="unsuccessful"), owner=owner)]
    kept = studio.store.several([job_id for group in groups for job_id in group])
    files = {path for job in kept for path in files_of(job)}
    thrown = {path for job in studio.store.several([*in_trash]) for path in files_of(job)} - files
    try:
        free = shutil.disk_usage(studio.settings.outputs).free
    except OSError:
        free = 0
    return Usage(_bytes(files), _bytes(thrown), free, sum(job.state == "done" for job in kept), len(in_trash))


def files_of(job: Job) -> list[Path]:
    """Every file of a job: its clip with what stands beside it, and the pictures and clips it was made from."""
    return [*job.files, *kept_files.paths(dict(job.request))]


def _bytes(files: Iterable[Path]) -> int:
    total = 0
    for path in files:
        try:
            total += path.stat().st_size
        except OSError:  # somebody removed it
            continue
    return total
