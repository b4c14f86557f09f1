"""The job store: states, their transitions, restarts, owners."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from engines.events import Clip, Failed
from studio.jobs.store import ACTIVE, TRANSITIONS, Job, JobStore, WrongState

RESULT = Clip(video="v.mp4", sidecar="v.json", poster="v.png", request={"seed": 3}, seconds={}, peak_bytes=1)


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore(tmp_path / "deep" / "studio.sqlite3")
    yield store
    store.close()


def _in_state(store: JobStore, state: str) -> Job:
    (job,) = store.add([Job(engine="e", request={"seed": 1})])
    if state != "queued":
        store.move(job.id, "running")
    if state not in ("queued", "running"):
        store.move(job.id, state)
    return store.get(job.id)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(TRANSITIONS, TRANSITIONS)))
def test_only_the_tables_transitions_happen(store: JobStore, before: str, after: str) -> None:
    job = _in_state(store, before)
    if after in TRANSITIONS[before]:
        assert store.move(job.id, after).state == after
    else:
        with pytest.raises(WrongState):
            store.move(job.id, after)
        assert store.get(job.id).state == before


def test_a_job_comes_back_as_it_was(store: JobStore) -> None:
    (job,) = store.add([Job(engine="e", request={"prompt": "a ☆", "nested": [{"path": "x"}]}, owner="o", batch="b")])
    store.move(job.id, "running")
    done = store.move(job.id, "done", result=RESULT)
    assert done == store.get(job.id)
    assert done.result == RESULT
    assert done.request == {"prompt": "a ☆", "nested": [{"path": "x"}]}
    assert (done.owner, done.batch, done.starts) == ("o", "b", 1)
    assert done.finished >= done.created
    assert store.files_in_use() == {}, "only files of the folder are the store's to keep"


def test_jobs_run_in_the_order_they_came(store: JobStore) -> None:
    first, second = store.add(Job(engine="e", request={}) for _ in range(2))
    assert [job.id for job in store.queued()] == [first.id, second.id]
    store.move(first.id, "running")
    assert [job.id for job in store.queued()] == [second.id]
    assert [job.id for job in store.active()] == [first.id, second.id]


def test_owners_do_not_see_each_other(store: JobStore) -> None:
    mine, yours = store.add(Job(engine="e", request={}, owner=owner) for owner in ("me", "you"))
    for job in (mine, yours):
        store.move(job.id, "running")
        store.move(job.id, "done", result=RESULT)
    assert [job.id for job in store.finished(owner="me")] == [mine.id]
    assert len(store.finished()) == 2


def test_after_a_restart_queued_jobs_wait_and_running_ones_get_one_more_chance(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "s.sqlite3")
    waiting, running = store.add(Job(engine="e", request={}) for _ in range(2))
    store.move(running.id, "running")
    for expected in ("queued", "failed"):
        store.close()
        store = JobStore(tmp_path / "s.sqlite3")
        store.recover()
        assert store.get(running.id).state == expected
        assert store.get(waiting.id).state == "queued"
        if expected == "queued":
            store.move(running.id, "running")
    assert "stopped twice" in store.get(running.id).failure.message
    store.close()


def test_what_waits_or_runs_cannot_be_deleted(store: JobStore) -> None:
    for state in TRANSITIONS:
        job = _in_state(store, state)
        if state in ACTIVE:
            with pytest.raises(WrongState):
                store.delete(job.id)
        else:
            store.delete(job.id)
            assert store.get(job.id) is None


def test_many_threads_write_at_once(store: JobStore) -> None:
    def work() -> None:
        for _ in range(20):
            (job,) = store.add([Job(engine="e", request={})])
            store.move(job.id, "running")
            store.move(job.id, "failed", failure=Failed(kind="StudioError", message="No."))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not store.active()
