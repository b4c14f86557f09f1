"""Files of the outputs folder that belong to no clip: what a killed process left behind, and pictures nobody needs."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from engines.editing.spec import SUFFIXES
from engines.errors import MediaError
from engines.events import Clip
from engines.media import metadata
from engines.media.output import remove_leftovers
from engines.media.video import frame_count
from studio.jobs.store import Job, JobStore
from studio.settings import FOR_BROWSERS, PICTURES, PRESETS

log = logging.getLogger(__name__)

_FILE_OF_JOB = re.compile(r"(\d{8}-\d{6}-[0-9a-f]{16})\.\w")


def clean(folder: Path, store: JobStore) -> None:
    """Remove what nothing will ever use; called before any job runs.

    That is: unfinished files, the mark of a job that was to keep what it had, a poster or sidecar whose clip never got
    its name, files of jobs that failed or were cancelled, pictures that no job was given, and uploads. Clips
    that the job list does not know stay, for somebody may have put them here.
    """
    remove_leftovers(folder)
    states, needed, waited_for = store.ids(), store.files_in_use(), store.files_in_use(active=True)
    for path in folder.glob("*"):
        known = _FILE_OF_JOB.match(path.name)
        if known is None or path in waited_for or not path.is_file():
            continue
        state = states.get(known[1])
        whole = any((folder / f"{known[1]}{suffix}").exists() for suffix in SUFFIXES)
        if state in ("failed", "cancelled") or (state != "done" and not whole):
            _remove(path)
    for left in (folder / FOR_BROWSERS).glob("*"):  # the folder itself is linked to while the page is served
        shutil.rmtree(left, ignore_errors=True)
    unfinished = (part for name in (PICTURES, PRESETS) for part in (folder / name).glob(".*.part"))
    for path in [*folder.glob(".*.keep"), *unfinished]:
        _remove(path)
    for path in (folder / PICTURES).glob("[!.]*"):
        if path not in needed:
            _remove(path)


def whole_clip(folder: Path, job: Job) -> Clip | None:
    """The clip of a job whose files all have their names, though nobody heard that it was done; None without one."""
    video, sidecar, poster = (folder / f"{job.id}{suffix}" for suffix in (".mp4", ".json", ".png"))
    if not (video.is_file() and poster.is_file()):  # the video gets its name last
        return None
    try:
        told = metadata.Metadata.model_validate_json(sidecar.read_text(encoding="utf-8"))
        frames = frame_count(video)
    except (OSError, ValueError, MediaError):
        return None
    return Clip(
        video=str(video),
        sidecar=str(sidecar),
        poster=str(poster),
        request=dict(job.request),
        seconds=told.seconds,
        peak_bytes=told.peak_bytes,
        frames=frames,
        notes=tuple(told.notes),
        figures=told.figures,
        device=told.device,
        beside=tuple(str(path) for path in sorted(folder.glob(f"{job.id}.*")) if path not in (video, sidecar, poster)),
    )


def withdraw(folder: Path, job_id: str) -> None:
    """Remove the files of a job that did not end as it should, though its process had already named some of them."""
    for path in folder.glob(f"{job_id}.*"):
        _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s could not be removed: %s", path.name, error.strerror)
