"""The executor for ZeroGPU, where a GPU exists only inside a visitor's event: jobs run where they were submitted.

The event's generator is the job's only life: when the visitor leaves, it is closed and the job is cancelled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from engines import events, registry
from engines.errors import StudioError
from engines.validation import build_request
from studio.jobs.progress import ActiveJobs, Progress
from studio.jobs.store import Job, JobStore, WrongState
from studio.jobs.worker_process import DeviceState
from studio.settings import Settings

try:
    import spaces
except ImportError:
    spaces = None

GPU_SECONDS = 60


def run(job_id: str, engine: str, request: str, output: str, device: str) -> Iterator[str]:
    """One job as lines of JSON. On ZeroGPU this runs in a process of its own: only plain values cross."""
    from engines.loading.store import Store
    from engines.runtime.runner import run as make
    from engines.runtime.session import Session

    try:
        spec = registry.SPECS[engine]
        checked = build_request(spec, json.loads(request))
        context = Session(device, store=Store()).context(engine, spec.model(checked.model))
        keep = _keep_mark(output, job_id).exists
        for event in make(spec, checked, context, output_dir=Path(output), job_id=job_id, keep=keep):
            yield events.to_json(event)
    except StudioError as error:
        yield events.to_json(events.Failed(kind=type(error).__name__, message=error.message, hint=error.hint))


def _keep_mark(output: str, job_id: str) -> Path:
    """The empty file that asks a job, perhaps in another process, to end with what it has."""
    return Path(output) / f".{job_id}.keep"


on_gpu: Any = spaces.GPU(duration=GPU_SECONDS)(run) if spaces is not None else run


class InEventExecutor:
    """Runs jobs inside the event that submitted them."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self._settings, self._store, self._active = settings, store, ActiveJobs(store)
        self._device = settings.devices[0] if settings.devices else "cuda" if spaces is not None else "cpu"

    def start(self) -> None:
        """Nobody waits any more for what was active before a restart."""
        for job in self._store.active():
            self._store.move(job.id, "cancelled")

    def attend(self, jobs: Sequence[Job]) -> Iterator[None]:
        for job in jobs:
            with suppress(WrongState):
                self._active.begin(job, device=self.devices()[0].title)
                yield from self._run(job)

    def _run(self, job: Job) -> Iterator[None]:
        output = str(self._settings.outputs)
        try:
            with closing(on_gpu(job.id, job.engine, json.dumps(dict(job.request)), output, self._device)) as lines:
                for line in lines:
                    self._active.take(job.id, events.from_json(line))
                    yield
                    if (known := self._active.progress(job.id)) is not None and known.cancelling:
                        break
        finally:
            _keep_mark(output, job.id).unlink(missing_ok=True)
            if self._active.progress(job.id) is not None:
                self._active.end(job.id, None)

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        if self._active.progress(job_id) is not None and keep:
            self._active.keeping(job_id)
            _keep_mark(str(self._settings.outputs), job_id).touch()
        elif self._active.progress(job_id) is not None:
            self._active.cancelling(job_id)
        else:
            with suppress(WrongState):
                self._store.move(job_id, "cancelled")

    def progress(self, job_id: str) -> Progress | None:
        return self._active.progress(job_id)

    def devices(self) -> list[DeviceState]:
        return [DeviceState(self._device, "ZeroGPU" if spaces is not None else self._device.upper())]

    def wake(self) -> None:
        return

    def free(self) -> None:
        return

    def close(self) -> None:
        return
