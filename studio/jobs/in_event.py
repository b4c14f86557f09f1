"""The executor for ZeroGPU, where a GPU exists only inside a visitor's event: jobs run where they were submitted.

The event's generator is the job's only life: when the visitor leaves, it is closed and the job is cancelled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import events
from engines.editing import spec as editing
from engines.errors import StudioError
from engines.events import TERMINAL, Answer, Cancelled, Failed, Words
from engines.memory.budget import Limits
from engines.messages import Ask, Generate, parse_command
from engines.prompting.tasks import TASKS
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings
from studio.jobs import outputs
from studio.jobs.progress import ActiveJobs, Progress
from studio.jobs.store import Job, JobStore, WrongState
from studio.jobs.worker_process import DeviceState
from studio.settings import Settings

try:
    import spaces  # type: ignore[import-not-found,import-untyped,unused-ignore]
except ImportError:
    spaces = None

log = logging.getLogger(__name__)

GPU_SECONDS = 60


def run(settings: str, order: str) -> Generator[str, None, None]:
    """One job or one question as lines of JSON: what a worker process does with the same two lines.

    On ZeroGPU this runs in a process of its own: only plain values cross.
    """
    service = DeviceService(RuntimeSettings.from_json(settings))
    command = parse_command(order)
    if isinstance(command, Generate):
        mark = _keep_mark(service.settings.outputs, command.job)
        said = service.make(command, keep=mark.exists)
    else:
        said = service.answer(command)
    with closing(said):
        for event in said:
            yield events.to_json(event)


def _keep_mark(folder: Path, job_id: str) -> Path:
    """The empty file that asks a job, perhaps in another process, to end with what it has."""
    return folder / f".{job_id}.keep"


on_gpu: Any = spaces.GPU(duration=GPU_SECONDS)(run) if spaces is not None else run


class InEventExecutor:
    """Runs jobs inside the event that submitted them."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self._settings, self._store, self._active = settings, store, ActiveJobs(store)
        self._attended: set[str] = set()
        self._attending = threading.Lock()
        self._device = settings.devices[0] if settings.devices else "cuda" if spaces is not None else "cpu"

    def start(self) -> None:
        """Nobody waits any more for what was active before a restart."""
        for job in self._store.active():
            self._store.move(job.id, "cancelled")
        outputs.clean(self._settings.outputs, self._store)

    def attend(self, jobs: Sequence[Job]) -> _Attendance:
        """Makes those of the jobs that no other event makes already."""
        with self._attending:
            waiting = {job.id: job for job in jobs if job.id not in self._attended}
            self._attended.update(waiting)
        return _Attendance(self._run_all(waiting), waiting, self._attended, self._store)

    def ask(self, question: Ask) -> Iterator[Words | Answer]:
        known = TASKS.get(question.task)
        make: Any = on_gpu if known is not None and known.needs_device else run
        with closing(make(self._runtime().to_json(), question.model_dump_json())) as lines:
            for line in lines:
                match events.from_json(line):
                    case Words() | Answer() as event:
                        yield event
                    case Failed() as failed:
                        raise StudioError(failed.message, hint=failed.hint)
                    case _:
                        raise StudioError("The question was cancelled.")

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        if self._active.progress(job_id) is not None and keep:
            self._active.keeping(job_id)
            _keep_mark(self._settings.outputs, job_id).touch()
        elif self._active.progress(job_id) is not None:
            self._active.cancelling(job_id)
        else:
            with suppress(WrongState):
                self._store.move(job_id, "cancelled")

    def hold(self, *, now: bool) -> None:
        """Nothing waits here: a job runs in the event that asked for it."""

    def expected(self, job: Job) -> float | None:
        return self._active.plan(job).seconds

    def progress(self, job_id: str) -> Progress | None:
        return self._active.progress(job_id)

    def devices(self) -> list[DeviceState]:
        return [DeviceState(self._device, "ZeroGPU" if spaces is not None else self._device.upper())]

    def limits(self) -> Limits:
        return self._settings.memory_gb

    def allow(self, limits: Limits) -> None:
        self._settings = replace(self._settings, memory_gb=limits)

    def describe(self, inside: bool) -> None:
        self._settings = replace(self._settings, metadata=inside)

    def look_in(self, folders: tuple[Path, ...]) -> None:
        self._settings = replace(self._settings, more_models=folders)

    def wake(self) -> None:
        return

    def hindrance(self) -> str:
        return ""

    def free(self) -> None:
        return

    def close(self) -> None:
        return

    def _runtime(self) -> RuntimeSettings:
        return self._settings.runtime(self._device, outputs=self._settings.outputs)

    def _run_all(self, waiting: dict[str, Job]) -> Iterator[None]:
        while waiting:
            job = waiting.pop(next(iter(waiting)))
            self._attended.discard(job.id)  # it runs now: tried again, it is another event's
            try:
                self._active.begin(job, device=self.devices()[0].title)
            except WrongState:
                continue
            yield from self._run(job)

    def _run(self, job: Job) -> Iterator[None]:
        inside = self._settings.metadata
        order = Generate(job=job.id, engine=job.engine, request=dict(job.request), metadata=inside)
        last: Any = Cancelled()
        try:
            edit = editing.of_job(job.engine)
            make: Any = run if edit is not None and not edit.needs_device else on_gpu
            with closing(make(self._runtime().to_json(), order.model_dump_json())) as lines:
                for line in lines:
                    event = events.from_json(line)
                    if isinstance(event, TERMINAL):
                        last = event
                        break
                    self._active.take(job.id, event)
                    yield
                    if (known := self._active.progress(job.id)) is not None and known.cancelling:
                        break
        except Exception:  # the GPU was refused, or its process died; ZeroGPU tells the visitor why
            last = Failed(kind="DeviceError", message="There was no GPU for this clip.", hint="Try again in a while.")
            raise
        finally:
            _keep_mark(self._settings.outputs, job.id).unlink(missing_ok=True)
            self._active.end(job.id, last)
        yield


class _Attendance:
    """The work on some jobs inside an event. Closed, also before it began, it leaves none of them waiting."""

    def __init__(self, work: Iterator[None], waiting: dict[str, Job], attended: set[str], store: JobStore) -> None:
        self._work, self._waiting, self._attended, self._store = work, waiting, attended, store

    def __iter__(self) -> _Attendance:
        return self

    def __next__(self) -> None:
        return next(self._work)

    def close(self) -> None:
        """Stop the running job and cancel those that wait."""
        self._work.close()  # type: ignore[attr-defined]
        while self._waiting:
            job_id, _ = self._waiting.popitem()
            self._attended.discard(job_id)
            known = self._store.get(job_id)
            if known is not None and known.state == "queued":
                with suppress(WrongState):
                    self._store.move(job_id, "cancelled")
