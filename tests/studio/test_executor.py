"""Executors: real worker processes, and what happens when one of them dies, does not listen or is to end."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest

from studio.jobs.in_event import InEventExecutor
from studio.jobs.local import LocalExecutor, worker_command
from studio.jobs.store import Job
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import values, wait_for

SLOW = "it goes on steps=600 sleep=0.05"


def test_a_job_becomes_a_clip(studio: Studio, picture: Path) -> None:
    (job,) = studio.submit("phantom-wan", values(picture, "it goes slowly", steps=6))
    seen = []
    while studio.store.get(job.id).active:
        if (progress := studio.executor.progress(job.id)) is not None:
            seen.append(progress)
        time.sleep(0.02)
    done = studio.store.get(job.id)
    assert done.failure is None
    with av.open(done.result.video) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
    assert {"Denoising", "Decoding"} & {progress.stage for progress in seen}
    assert any(progress.total == 6 and progress.ends for progress in seen)
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
    os.kill(_worker(plain, doomed)._process.pid, signal.SIGKILL)
    failed = wait_for(plain, doomed, "failed")
    assert failed.failure.kind == "DeviceError"
    assert "ended unexpectedly" in failed.failure.message
    assert wait_for(plain, after, "done", "failed").state == "done"


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
    os.kill(_worker(plain, job)._process.pid, signal.SIGSTOP)
    plain.cancel(job.id)
    assert plain.executor.progress(job.id).cancelling
    plain.cancel(job.id)
    wait_for(plain, job, "cancelled", timeout_s=10)


def test_asking_to_keep_ends_no_worker_and_can_still_be_cancelled(plain: Studio, picture: Path) -> None:
    job = _submit(plain, picture, SLOW)
    worker = _worker(plain, job)
    os.kill(worker._process.pid, signal.SIGSTOP)
    for _ in range(2):
        plain.executor.cancel(job.id, keep=True)
    assert worker.alive and plain.executor.progress(job.id).keeping
    plain.cancel(job.id)
    assert plain.executor.progress(job.id).cancelling and worker.alive
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
    while sum(state.total_bytes for state in studio.executor.devices()) < 8:
        time.sleep(0.02)
    jobs = [_submit(studio, picture, SLOW) for _ in range(3)]
    assert _worker(studio, jobs[0]).state.name == "large"
    assert _worker(studio, jobs[1]).state.name == "small"
    assert studio.store.get(jobs[2].id).state == "queued"
    studio.executor.close()
    studio.store.close()


def test_a_worker_that_cannot_start_fails_its_job(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(settings, module="tests.studio.no_such_module")
    job = _submit(studio, picture, "short")
    assert wait_for(studio, job, "failed").failure.kind == "DeviceError"
    studio.executor.close()
    studio.store.close()


def test_inside_an_event_the_same_job_runs_as_a_generator(settings: Settings, specs: dict, picture: Path) -> None:
    studio = open_studio(settings, InEventExecutor)
    studio.executor.start()
    jobs = studio.submit("phantom-wan", values(picture))
    assert len(list(studio.executor.attend(jobs))) > 4
    assert studio.store.get(jobs[0].id).state == "done"

    jobs = studio.submit("phantom-wan", values(picture))
    event = studio.executor.attend(jobs)
    next(event)
    event.close()  # the visitor left
    assert studio.store.get(jobs[0].id).state == "cancelled"
    studio.store.close()


def test_inside_an_event_a_job_can_be_kept_too(
    settings: Settings, specs: dict, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(specs, "phantom-wan", replace(specs["phantom-wan"], keeps_parts=True))
    studio = open_studio(settings, InEventExecutor)
    (job,) = studio.submit("phantom-wan", values(picture, frames=33))
    for _ in studio.executor.attend([job]):
        progress = studio.executor.progress(job.id)
        if progress is not None and progress.playback:
            studio.cancel(job.id, keep=True)
    done = studio.store.get(job.id)
    assert (done.state, done.frames) == ("done", 8)
    with av.open(done.result.video) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
    assert not list(settings.outputs.glob(".*.keep"))
    studio.store.close()


@pytest.fixture
def plain(settings: Settings, specs: dict):
    """A studio whose worker makes nothing but speaks the protocol."""
    studio = _open(settings)
    yield studio
    studio.executor.close()
    studio.store.close()


def _open(settings: Settings, *, module: str = "tests.studio.plain_worker") -> Studio:
    def command(device: str) -> list[str]:
        return [module if word == "engines.runtime.worker" else word for word in worker_command(settings, device)]

    studio = open_studio(settings, LocalExecutor, command=command)
    studio.executor.start()
    return studio


def _submit(studio: Studio, picture: Path, prompt: str) -> Job:
    (job,) = studio.submit("phantom-wan", values(picture, prompt))
    return job


def _worker(studio: Studio, job: Job):
    """The worker process that runs the job, once it has made a step."""
    wait_for(studio, job, "running")
    while not (studio.executor.progress(job.id) and studio.executor.progress(job.id).index):
        time.sleep(0.01)
    return studio.executor._running(job.id)
