"""Clips made by worker processes of this machine, one per device."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engines.events import TERMINAL, Done, Failed
from studio.jobs.progress import ActiveJobs, Progress
from studio.jobs.store import Job, JobStore, WrongState
from studio.jobs.worker_process import DeviceState, WorkerProcess, find_devices
from studio.settings import Settings

log = logging.getLogger(__name__)


class LocalExecutor:
    """One worker process per device. A worker that dies costs the job it ran and is started again when needed.

    Args:
        command: the words that start the worker of a device; tests give their own.
    """

    def __init__(
        self, settings: Settings, store: JobStore, *, command: Callable[[str], Sequence[str]] | None = None
    ) -> None:
        self._settings, self._store = settings, store
        self._command = command or (lambda device: worker_command(settings, device))
        self._workers: dict[str, WorkerProcess] = {}
        self._active = ActiveJobs(store)
        self._condition = threading.Condition()
        self._pending = True
        self._closing = False
        self._thread = threading.Thread(target=self._dispatch, name="executor", daemon=True)

    def start(self) -> None:
        self._store.recover()
        self._thread.start()

    def wake(self) -> None:
        with self._condition:
            self._pending = True
            self._condition.notify_all()

    def attend(self, jobs: Sequence[Job]) -> Iterator[None]:
        return iter(())

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        with self._condition:
            worker = self._running(job_id)
            if worker is None:
                try:
                    self._store.move(job_id, "cancelled")
                except WrongState:
                    log.info("job %s was over before it could be cancelled", job_id)
                return
            if keep:
                self._active.keeping(job_id)
            asked_before = not keep and self._active.cancelling(job_id)
        if asked_before:
            worker.kill()
        else:
            with suppress(OSError):  # it just died, and its end is about to be noticed
                worker.send(command="cancel", job=job_id, keep=keep)

    def progress(self, job_id: str) -> Progress | None:
        return self._active.progress(job_id)

    def devices(self) -> list[DeviceState]:
        return [worker.state for worker in list(self._workers.values())]

    def free(self) -> None:
        for worker in list(self._workers.values()):
            if worker.alive and worker.job is None:
                with suppress(OSError):
                    worker.send(command="free")

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for worker in self._workers.values():
            job, worker.job = worker.job, None
            worker.close()
            if job is not None:
                with suppress(WrongState):  # it was done a moment before
                    self._store.move(job.id, "queued")

    def _running(self, job_id: str) -> WorkerProcess | None:
        return next((worker for worker in self._workers.values() if worker.job and worker.job.id == job_id), None)

    def _dispatch(self) -> None:
        """Hand queued jobs to idle workers until closed. The only thread that begins jobs."""
        states = find_devices(self._settings.devices)
        self._workers = {
            state.name: WorkerProcess(
                state,
                self._command(state.name),
                log_path=self._settings.outputs / "logs" / f"worker-{state.name.replace(':', '-')}.log",
                on_event=self._on_event,
                on_exit=self._on_exit,
            )
            for state in states
        }
        for worker in self._workers.values():
            worker.ensure_started()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._pending or self._closing)
                self._pending = False
                if self._closing:
                    return
            while self._begin_one():
                continue

    def _begin_one(self) -> bool:
        """Begin the next job on the idle device with the most free memory; False if there is nothing to do."""
        with self._condition:
            idle = [worker for worker in self._workers.values() if worker.job is None]
            job = self._store.next_queued() if idle and not self._closing else None
            if job is None:
                return False
            worker = max(idle, key=lambda one: one.state.free_bytes)
            try:
                worker.job = job = self._active.begin(job, device=worker.state.title)
            except WrongState:
                return True
        try:
            worker.ensure_started()
            worker.send(command="generate", job=job.id, engine=job.engine, request=dict(job.request))
        except OSError:
            self._on_exit(worker)
        return True

    def _on_event(self, worker: WorkerProcess, job_id: str, event: Any) -> None:
        if not isinstance(event, TERMINAL):
            self._active.take(job_id, event)
            return
        if self._closing and not isinstance(event, Done):
            return  # the job did not end, the studio does
        self._active.end(job_id, event)
        with self._condition:
            if worker.job is not None and worker.job.id == job_id:
                worker.job = None
        self.wake()

    def _on_exit(self, worker: WorkerProcess) -> None:
        """A worker process ended by itself: its job, if it had one, is over; the next job starts a new process."""
        with self._condition:
            job, worker.job = worker.job, None
        if job is None or self._closing:
            return
        progress = self._active.progress(job.id)
        if progress is not None and progress.cancelling:
            self._active.end(job.id, None)
        else:
            message = f"The process that made this clip on the {worker.state.title} ended unexpectedly."
            hint = "Memory may have run out: try a smaller size or fewer frames."
            self._active.end(job.id, Failed(kind="DeviceError", message=message, hint=hint))
        self.wake()


def worker_command(settings: Settings, device: str, *, output: Path | None = None) -> list[str]:
    """The words that start the worker of a device; `output` is another folder than the studio's own."""
    words = [
        sys.executable,
        "-m",
        "engines.runtime.worker",
        "--device",
        device,
        "--output",
        str(output or settings.outputs),
    ]
    if settings.models is not None:
        words += ["--models", str(settings.models)]
    if settings.memory_gb is not None:
        words += ["--memory-gb", str(settings.memory_gb)]
    for override in settings.overrides:
        words += ["--override", override]
    return words
