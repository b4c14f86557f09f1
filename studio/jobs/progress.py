"""What running jobs last said, and how what they say reaches the store. Knows no process and no page."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from engines.events import TERMINAL, Done, Failed, Note, Playback, Preview, Stage, Step
from studio.jobs.store import Job, JobStore, WrongState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a running job last said. Kept in memory only: previews of private pictures never touch the disk."""

    device: str = ""
    started: float = 0.0
    stage: str = "Starting"
    index: int = 0
    total: int = 0
    ends: float | None = None
    preview: bytes = b""
    playback: bytes = b""
    notes: tuple[str, ...] = ()
    cancelling: bool = False
    keeping: bool = False

    def after(self, event: Any) -> Progress:
        """The progress once `event` has happened."""
        match event:
            case Stage():
                return replace(self, stage=event.name, index=0, total=0, ends=None)
            case Step():
                ends = None if event.eta_s is None else time.time() + event.eta_s
                return replace(self, index=event.index, total=event.total, ends=ends)
            case Preview():
                return replace(self, preview=event.image)
            case Playback():
                return replace(self, playback=event.image)
            case Note():
                return replace(self, notes=(*self.notes, event.message))
        return self


class ActiveJobs:
    """The progress of running jobs in memory, their beginning and end in the store."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._running: dict[str, Progress] = {}

    def begin(self, job: Job, *, device: str) -> Job:
        """The job runs from now on; raises WrongState if it may not."""
        begun = self._store.move(job.id, "running")
        self._running[job.id] = Progress(device=device, started=time.time())
        return begun

    def take(self, job_id: str, event: Any) -> None:
        """Something happened in a running job."""
        if isinstance(event, TERMINAL):
            self.end(job_id, event)
        elif job_id in self._running:
            self._running[job_id] = self._running[job_id].after(event)

    def put_back(self, job_id: str, *, untried: bool) -> None:
        """The job waits again; `untried` if no worker has said a word about it."""
        try:
            self._store.move(job_id, "queued", untried=untried)
        except WrongState:
            log.info("job %s was over before it could be queued again", job_id)
        self._running.pop(job_id, None)

    def cancelling(self, job_id: str) -> bool:
        """Note that a running job is to end; True if that had been asked before."""
        known = self._running.get(job_id, Progress())
        self._running[job_id] = replace(known, cancelling=True)
        return known.cancelling

    def keeping(self, job_id: str) -> None:
        """Note that a running job is to end with what it has."""
        self._running[job_id] = replace(self._running.get(job_id, Progress()), keeping=True)

    def end(self, job_id: str, event: Any) -> None:
        """A running job is over: Done, Failed, or anything else for cancelled."""
        try:
            match event:
                case Done():
                    self._store.move(job_id, "done", result=event.result)
                case Failed():
                    self._store.move(job_id, "failed", failure=event)
                case _:
                    self._store.move(job_id, "cancelled")
        except WrongState:
            log.warning("job %s ended twice", job_id)
        finally:
            self._running.pop(job_id, None)

    def progress(self, job_id: str) -> Progress | None:
        """What a running job last said."""
        return self._running.get(job_id)
