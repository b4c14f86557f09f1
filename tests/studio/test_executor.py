"""Executors: real worker processes, and what happens when one of them dies, does not listen or is to end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest

from engines import messages
from engines.events import Failed
from engines.runtime.settings import RuntimeSettings
from studio.jobs.local import LocalExecutor
from studio.jobs.store import Job
from studio.jobs.worker_process import environment
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import values, wait_for

SLOW = "it goes on steps=600 sleep=0.05"


class Stranger:
    """A process that nobody gave a job."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.job, self.heard, self.settings = None, False, settings


def test_a_job_becomes_a_clip(studio: Studio, picture: Path) -> None:
    (job,) = studio.submit("phantom-wan", values(picture, "it goes slowly", steps=6))
    seen = []

    def watched() -> bool:
        if (progress := studio.executor.progress(job.id)) is not None:
            seen.append(progress)
        return not studio.store.get(job.id).active

    until(watched, timeout_s=60)
    done = studio.store.get(job.id)
    assert done.failure is None
    with av.open(done.result.video) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
    assert {"Denoising", "Decoding"} & {progress.stage for progress in seen}
    assert any(progress.total == 6 and progress.left_s for progress in seen)
    assert any(progress.preview.startswith(b"RIFF") for progress in seen)
    assert studio.executor.progress(job.id) is None


def test_what_breaks_inside_an_engine_is_told_without_paths(studio: Studio, picture: Path) -> None:
    (job,) = studio.submit("phantom-wan", values(picture, "it breaks"))
    failure = wait_for(studio, job, "failed").failure
    assert failure.message
    assert "/" not in failure.message + failure.hint
    assert "Traceback" not in failure.message


def test_a_killed_worker_costs_one_job_and_comes_back(plain: Studio, picture: Path) -> None:
    doomed, after = _submit(plain, picture, SLOW), _submit(plain, picture, "short")
    os.kill(_worker(plain, doomed).pid, signal.SIGKILL)
    failed = wait_for(plain, doomed, "failed")
    assert failed.failure.kind == "DeviceError"
    assert "ended unexpectedly" in failed.failure.message
    assert "ended by itself with code -9" in (plain.settings.outputs / failed.failure.log).read_text()
    assert failed.failure.text.endswith("The details are in logs/worker-cpu.log.")
    assert wait_for(plain, after, "done", "failed").state == "done"


def test_a_worker_that_ends_after_its_last_word_takes_no_job_with_it(plain: Studio, picture: Path) -> None:
    jobs = [_submit(plain, picture, "it leaves") for _ in range(12)]
    ended = [wait_for(plain, job, "done", "failed") for job in jobs]
    assert [(job.state, job.starts) for job in ended] == [("done", 1)] * 12


def test_cancelling_twice_harms_no_other_job(plain: Studio, picture: Path) -> None:
    """Cancels cross the end of their job: whatever the worker has got meanwhile goes on."""
    jobs = [_submit(plain, picture, "short steps=2 sleep=0.02") for _ in range(24)]
    for doomed in jobs[::2]:
        wait_for(plain, doomed, "running", "done")
        time.sleep(0.03)
        for _ in range(2):
            plain.cancel(doomed.id)
    ended = [wait_for(plain, job, "done", "failed", "cancelled") for job in jobs]
    assert {job.state for job in ended[1::2]} == {"done"}
    assert {job.state for job in ended[::2]} <= {"done", "cancelled"}
    clips = {job.id for job in ended if job.state == "done"}
    assert {path.stem for path in plain.settings.outputs.glob("*.mp4")} == clips


def test_events_of_another_process_end_no_job(plain: Studio, picture: Path) -> None:
    job = _submit(plain, picture, SLOW)
    process = _worker(plain, job)
    stranger = Stranger(process.settings)
    failed = messages.JobEvent(job=job.id, event=Failed(kind="DeviceError", message="Not of mine."))
    plain.executor._take(stranger, failed)
    plain.executor._on_exit(stranger)
    assert plain.job(job.id).state == "running" and process.job.id == job.id
    plain.cancel(job.id)
    wait_for(plain, job, "cancelled")


def test_waiting_and_running_jobs_can_be_cancelled(plain: Studio, picture: Path) -> None:
    running, waiting = _submit(plain, picture, SLOW), _submit(plain, picture, SLOW)
    _worker(plain, running)
    plain.cancel(waiting.id)
    assert plain.job(waiting.id).state == "cancelled"
    plain.cancel(running.id)
    assert wait_for(plain, running, "cancelled").result is None
    plain.cancel(running.id)
    assert plain.job(running.id).state == "cancelled"


def test_cancelling_twice_ends_a_worker_that_does_not_listen(plain: Studio, picture: Path) -> None:
    job = _submit(plain, picture, SLOW)
    os.kill(_worker(plain, job).pid, signal.SIGSTOP)
    plain.cancel(job.id)
    assert plain.executor.progress(job.id).cancelling
    plain.cancel(job.id)
    wait_for(plain, job, "cancelled", timeout_s=10)


def test_asking_to_keep_ends_no_worker_and_can_still_be_cancelled(plain: Studio, picture: Path) -> None:
    job = _submit(plain, picture, SLOW)
    worker = _worker(plain, job)
    os.kill(worker.pid, signal.SIGSTOP)
    for _ in range(2):
        plain.executor.cancel(job.id, keep=True)
    assert worker.usable and plain.executor.progress(job.id).keeping
    plain.cancel(job.id)
    assert plain.executor.progress(job.id).cancelling and worker.usable
    plain.cancel(job.id)
    wait_for(plain, job, "cancelled", timeout_s=10)


def test_closing_the_studio_queues_the_running_job_again(settings: Settings, specs: dict, picture: Path) -> None:
    first = _open(settings)
    job = _submit(first, picture, SLOW)
    _worker(first, job)
    first.executor.close()
    assert first.store.get(job.id).state == "queued"
    first.store.close()

    second = _open(settings)
    assert wait_for(second, job, "running").starts == 2
    second.executor.close()
    second.store.close()


def test_several_devices_work_at_once_and_the_freest_is_first(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(replace(settings, devices=("small", "large")))
    until(lambda: sum(state.total_bytes for state in studio.executor.devices()) == 8)
    jobs = [_submit(studio, picture, SLOW) for _ in range(3)]
    assert _worker(studio, jobs[0]).settings.device == "large"
    assert _worker(studio, jobs[1]).settings.device == "small"
    assert studio.store.get(jobs[2].id).state == "queued"
    studio.executor.close()
    studio.store.close()


def test_a_question_goes_to_a_process_that_makes_nothing(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(replace(settings, devices=("small", "large")))
    until(lambda: sum(state.total_bytes for state in studio.executor.devices()) == 8)
    busy = _worker(studio, _submit(studio, picture, SLOW))
    asked = studio.executor._put(messages.Ask(id="q", task="refine by rules", text="a fox"))
    assert asked.process is not busy
    studio.executor.close()
    studio.store.close()


def test_the_threads_of_a_worker_sleep_while_they_wait_unless_somebody_wants_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert environment()["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_worker_that_cannot_start_fails_its_job(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(settings, module="tests.studio.no_such_module")
    job = _submit(studio, picture, "short")
    assert wait_for(studio, job, "failed").failure.kind == "DeviceError"
    studio.executor.close()
    studio.store.close()


@pytest.fixture
def plain(settings: Settings, specs: dict):
    """A studio whose worker makes nothing but speaks the protocol."""
    studio = _open(settings)
    yield studio
    studio.executor.close()
    studio.store.close()


def _open(settings: Settings, *, module: str = "tests.studio.plain_worker") -> Studio:
    studio = open_studio(settings, LocalExecutor, command=(sys.executable, "-m", module))
    studio.executor.start()
    return studio


def _submit(studio: Studio, picture: Path, prompt: str) -> Job:
    (job,) = studio.submit("phantom-wan", values(picture, prompt))
    return job


def _worker(studio: Studio, job: Job):
    """The worker process that runs the job, once it has made a step."""
    wait_for(studio, job, "running")
    until(lambda: (now := studio.executor.progress(job.id)) is not None and now.index)
    return studio.executor._running(job.id)


def until(there: Callable[[], object], *, timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)
