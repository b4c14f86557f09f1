"""What running jobs last said, and how what they say reaches the store. Knows no process and no page."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engines.events import TERMINAL, Done, Failed, Note, Playback, Preview, Stage, Step
from studio.jobs import pace
from studio.jobs.pace import Plan, Run, Span
from studio.jobs.paces import Paces
from studio.jobs.store import Job, JobStore, StoreError, WrongState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What a running job last said. Kept in memory only: previews of private pictures never touch the disk.

    Attributes:
        started: when it began, seconds of the epoch; `now` is when this was true.
        stage: the stage it is in, since `stage_began`; `spans` are those that are over.
        index: steps of the stage that are done, of `total`.
        share: how much of the whole clip is done, 0..1; it never goes back.
        left_s: seconds left of the whole clip; None where nobody knows, and of one that is being ended or held.
        held: whether it waits between two steps; `held_s` is for how long it has done so, all together.
        cold: whether its model was not loaded when it began.
    """

    device: str = ""
    started: float = 0.0
    now: float = 0.0
    stage: str = "Starting"
    stage_began: float = 0.0
    index: int = 0
    total: int = 0
    first_step: float = 0.0
    last_step: float = 0.0
    spans: tuple[Span, ...] = ()
    share: float = 0.0
    left_s: float | None = None
    preview: bytes = b""
    playback: bytes = b""
    notes: tuple[str, ...] = ()
    cancelling: bool = False
    keeping: bool = False
    held_since: float | None = None
    held_s: float = 0.0
    cold: bool = True

    @property
    def held(self) -> bool:
        """Whether it waits between two steps until it may go on."""
        return self.held_since is not None

    @property
    def elapsed_s(self) -> float:
        """How long it has been made, without the time in which it was held."""
        return max(0.0, self._worked(self.now) - self.started)

    def after(self, event: Any, now: float) -> Progress:
        """The progress once `event` has happened at `now`."""
        at = self._worked(now)
        match event:
            case Stage(name=name) if name == self.stage and not self.total:
                return replace(self, now=now)  # the first one, which the studio has begun itself
            case Stage():
                return replace(
                    self, now=now, stage=event.name, stage_began=at, index=0, total=0, spans=self._closed(at)
                )
            case Step():
                first = self.first_step if self.index else at - self.stage_began
                return replace(
                    self,
                    now=now,
                    index=event.index,
                    total=event.total,
                    first_step=first,
                    last_step=at - self.stage_began,
                )
            case Preview():
                return replace(self, preview=event.image)
            case Playback():
                return replace(self, playback=event.image)
            case Note():
                return replace(self, notes=(*self.notes, event.message))
        return self

    def on_hold(self, held: bool, now: float) -> Progress:
        """The progress once it waits, or goes on, from `now`."""
        if held == self.held:
            return self
        if held:
            return replace(self, held_since=now)
        return replace(self, held_since=None, held_s=self.held_s + now - (self.held_since or now))

    def at(self, now: float, plan: Plan) -> Progress:
        """The same at `now`, with what is done and left by `plan`."""
        at = self._worked(now)
        run = Run(
            self.spans, self.stage, max(0.0, at - self.stage_began), self.index, self.total, self.first_step,
            self.last_step,
        )  # fmt: skip
        share, left = pace.outlook(plan, run)
        ending = self.cancelling or self.keeping or self.held
        return replace(self, now=now, share=max(self.share, share), left_s=None if ending else left)

    def measured(self, now: float) -> tuple[Span, ...]:
        """Every stage and how long it lasted, once the clip is done."""
        return self._closed(self._worked(now))

    def _closed(self, at: float) -> tuple[Span, ...]:
        return (*self.spans, Span(self.stage, max(0.0, at - self.stage_began), self.total))

    def _worked(self, now: float) -> float:
        """`now` on a clock that stands while the job is held."""
        return (self.held_since if self.held_since is not None else now) - self.held_s


class ActiveJobs:
    """The progress of running jobs in memory, their beginning and end in the store.

    Args:
        clock: seconds of the epoch; a test gives its own.
    """

    def __init__(self, store: JobStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._paces = Paces(store)
        self._running: dict[str, Progress] = {}
        self._jobs: dict[str, tuple[Job, Plan]] = {}
        self._lock = threading.RLock()

    def begin(self, job: Job, *, device: str, cold: bool = True) -> Job:
        """The job runs from now on; raises WrongState if it may not."""
        begun = self._store.move(job.id, "running")
        now = self._clock()
        self._jobs[job.id] = job, self.plan(job, device=device, cold=cold)
        self._running[job.id] = Progress(device=device, started=now, now=now, stage_began=now, cold=cold)
        return begun

    def plan(self, job: Job, *, device: str = "", cold: bool = False) -> Plan:
        """What the job will take by what was measured so far, on this device or on any."""
        return self._paces.plan(job, device=device, cold=cold)

    def take(self, job_id: str, event: Any) -> None:
        """Something happened in a running job."""
        if isinstance(event, TERMINAL):
            self.end(job_id, event)
        else:
            self._change(job_id, lambda known: known.after(event, self._clock()))

    def put_back(self, job_id: str, *, untried: bool) -> None:
        """The job waits again; `untried` if no worker has said a word about it."""
        try:
            self._store.move(job_id, "queued", untried=untried)
        except WrongState:
            log.info("job %s was over before it could be queued again", job_id)
        self._forget(job_id)

    def cancelling(self, job_id: str) -> bool:
        """Note that a running job is to end; True if that had been asked before."""
        known = self._running.get(job_id, Progress())
        self._running[job_id] = replace(known, cancelling=True)
        return known.cancelling

    def keeping(self, job_id: str) -> None:
        """Note that a running job is to end with what it has."""
        self._running[job_id] = replace(self._running.get(job_id, Progress()), keeping=True)

    def hold(self, held: bool) -> None:
        """Note that all running jobs wait between two steps, or go on."""
        for job_id in list(self._running):
            self._change(job_id, lambda known: known.on_hold(held, self._clock()))

    def end(self, job_id: str, event: Any) -> None:
        """A running job is over: Done, Failed, or anything else for cancelled."""
        try:
            match event:
                case Done():
                    self._store.move(job_id, "done", result=event.result)
                    self._learn(job_id)
                case Failed():
                    self._store.move(job_id, "failed", failure=event)
                case _:
                    self._store.move(job_id, "cancelled")
        except WrongState:
            log.warning("job %s ended twice", job_id)
        finally:
            self._forget(job_id)

    def progress(self, job_id: str) -> Progress | None:
        """What a running job last said, how much of it is done and how long it still takes."""
        with self._lock:
            known, about = self._running.get(job_id), self._jobs.get(job_id)
            if known is not None and about is not None:
                known = self._running[job_id] = known.at(self._clock(), about[1])
        return known

    def _change(self, job_id: str, change: Callable[[Progress], Progress]) -> None:
        with self._lock:
            if job_id in self._running:
                self._running[job_id] = change(self._running[job_id])

    def _learn(self, job_id: str) -> None:
        """What the job took is what the next one of its kind will take."""
        known, about = self._running.get(job_id), self._jobs.get(job_id)
        if known is None or about is None or known.keeping:
            return
        try:
            self._paces.note(about[0], known.measured(self._clock()), device=known.device, cold=known.cold)
        except StoreError:
            log.info("what job %s took could not be noted", job_id)

    def _forget(self, job_id: str) -> None:
        with self._lock:
            self._running.pop(job_id, None)
            self._jobs.pop(job_id, None)
