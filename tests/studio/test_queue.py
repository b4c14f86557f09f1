"""What can be done with waiting, running and unsuccessful clips, whoever asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import InvalidRequest, StudioError
from engines.events import Failed
from engines.registry import SPECS
from studio import library, queue
from studio.jobs.local import LocalExecutor
from studio.jobs.shelf import Shelf
from studio.jobs.store import Job
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import values
from tests.studio.test_executor import SLOW, _open, _submit, _worker, until


def ids(studio: Studio) -> list[str]:
    return [job.id for job in studio.store.queued()]


def fail(studio: Studio, job: Job) -> Job:
    studio.store.move(job.id, "running")
    return studio.store.move(job.id, "failed", failure=Failed(kind="OutOfMemory", message="No room."))


def test_what_waits_is_changed_in_its_place(idle: Studio, picture: Path) -> None:
    jobs = [idle.submit("phantom-wan", values(picture, prompt))[0] for prompt in ("one", "two", "three")]
    changed = queue.edit(idle, jobs[1].id, "phantom-wan", values(picture, "another", seed=-1, steps=7))
    assert ids(idle) == [job.id for job in jobs]
    assert (changed.request["prompt"], changed.request["steps"]) == ("another", 7)
    assert changed.request["seed"] >= 0, "a drawn seed is drawn now"
    other = queue.edit(idle, jobs[1].id, "pyramid-flow", {"prompt": "a circle grows", "model": "starter"})
    assert (other.engine, other.id) == ("pyramid-flow", jobs[1].id)


def test_a_changed_clip_has_the_parents_of_what_it_is_now(idle: Studio, picture: Path) -> None:
    shelf = Shelf(idle.store)
    (job,) = idle.submit("phantom-wan", values(picture))
    shelf.born([job.id], ["another"])
    queue.edit(idle, job.id, "phantom-wan", values(picture, "of its own"))
    assert shelf.mark(job.id).parents == () and shelf.children("another") == []


def test_what_is_wrong_with_a_change_leaves_the_clip_as_it_was(idle: Studio, picture: Path) -> None:
    (job,) = idle.submit("phantom-wan", values(picture))
    with pytest.raises(InvalidRequest):
        queue.edit(idle, job.id, "phantom-wan", values(picture, "", steps=0))
    assert idle.store.get(job.id).request == job.request
    idle.store.move(job.id, "running")
    with pytest.raises(StudioError, match="begun"):
        queue.edit(idle, job.id, "phantom-wan", values(picture, "too late"))
    assert idle.store.get(job.id).request == job.request


def test_a_copy_has_a_seed_of_its_own_and_waits_behind(idle: Studio, picture: Path) -> None:
    first, second = (idle.submit("phantom-wan", values(picture))[0] for _ in range(2))
    copy = queue.duplicate(idle, first.id)
    assert ids(idle) == [first.id, second.id, copy.id]
    assert copy.batch != first.batch and copy.request["seed"] != first.request["seed"]
    assert {**copy.request, "seed": 0} == {**first.request, "seed": 0}
    idle.cancel(first.id)
    idle.delete(first.id)
    assert Path(copy.request["references"][0]["path"]).is_file(), "its pictures stay"


def test_what_failed_is_tried_again_as_it_was_or_smaller(idle: Studio, picture: Path) -> None:
    job, other = (idle.submit("phantom-wan", values(picture))[0] for _ in range(2))
    failed = fail(idle, job)
    again = queue.retry(idle, job.id)
    assert (again.state, again.starts, again.failure, again.finished) == ("queued", 0, None, None)
    assert again.request == failed.request and ids(idle) == [other.id, job.id]
    with pytest.raises(StudioError, match="Only a clip that failed"):
        queue.retry(idle, job.id)
    fail(idle, job)
    changes = queue.smaller(idle.spec("phantom-wan"), job)
    smaller = queue.retry(idle, job.id, changes=changes).request
    assert smaller["seed"] == job.request["seed"]
    assert [smaller[name] for name in ("width", "height")] != [job.request[name] for name in ("width", "height")]
    idle.cancel(other.id)
    assert queue.retry(idle, other.id).state == "queued", "a cancelled one too"


def test_what_is_tried_again_comes_out_of_the_trash(idle: Studio, picture: Path) -> None:
    (job,) = idle.submit("phantom-wan", values(picture))
    fail(idle, job)
    library.trash(idle, [job.id], owner="")
    queue.retry(idle, job.id)
    assert Shelf(idle.store).mark(job.id).trashed is None


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_smaller_and_smaller_ends_at_the_smallest_clip_of_each_model(spec) -> None:
    for model in spec.models:
        request = spec.default_values(model.name) | {"frames": model.geometry.max_frames}
        volumes = []
        while True:
            volumes.append(request["width"] * request["height"] * request["frames"])
            changes = queue.smaller(spec, Job(engine=spec.name, request=request))
            if not changes:
                break
            request |= changes
            assert not model.geometry.problems(**{name: request[name] for name in ("width", "height", "frames")})
        assert volumes == sorted(set(volumes), reverse=True)
        assert request["frames"] * 0.6 < model.geometry.lengths[0]


def test_a_clip_of_an_engine_that_is_gone_is_not_tried_again(idle: Studio, picture: Path) -> None:
    (job,) = idle.submit("phantom-wan", values(picture))
    fail(idle, job)
    with pytest.raises(InvalidRequest, match="not part of this studio any more"):
        queue.retry(replace(idle, specs={}), job.id)
    assert queue.smaller(None, job) == {}


def test_a_full_queue_takes_no_copies_and_no_second_tries(idle: Studio, picture: Path) -> None:
    full = replace(idle, settings=replace(idle.settings, queue_limit=2))
    job, failed = (idle.submit("phantom-wan", values(picture))[0] for _ in range(2))
    fail(idle, failed)
    idle.submit("phantom-wan", values(picture))
    for ask in (queue.duplicate, queue.retry):
        with pytest.raises(StudioError, match="queue is full"):
            ask(full, failed.id if ask is queue.retry else job.id)
    assert idle.store.get(failed.id).state == "failed"


def test_strangers_reach_each_others_clips_in_no_way(idle: Studio, picture: Path) -> None:
    public = replace(idle, settings=replace(idle.settings, public=True))
    (job,) = public.submit("phantom-wan", values(picture), owner="a" * 32)
    stranger = "b" * 32
    with pytest.raises(StudioError):
        queue.edit(public, job.id, "phantom-wan", values(picture), owner=stranger)
    for ask in (queue.duplicate, queue.retry):
        with pytest.raises(StudioError):
            ask(public, job.id, owner=stranger)
    for ask in (queue.pause, queue.resume):
        with pytest.raises(StudioError, match="shared"):
            ask(public)
    assert not public.store.paused and not queue.can_pause(public)
    assert queue.outlook(public, owner=stranger).left_s is None


def test_a_paused_queue_begins_nothing_also_after_a_restart(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(settings)
    queue.pause(studio)
    job = _submit(studio, picture, "short")
    assert queue.outlook(studio).left_s is None
    studio.executor.close()
    studio.store.close()
    studio = open_studio(settings, LocalExecutor)
    assert studio.store.paused and studio.store.get(job.id).state == "queued"
    assert studio.store.get(job.id).starts == 0
    studio.store.close()
    studio = _open(settings)
    queue.resume(studio)
    until(lambda: studio.store.get(job.id).state == "done")
    studio.executor.close()
    studio.store.close()


def test_pausing_after_this_clip_lets_it_end(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(settings)
    first, second = _submit(studio, picture, "it goes steps=30 sleep=0.02"), _submit(studio, picture, "short")
    _worker(studio, first)
    queue.pause(studio)
    assert not studio.executor.progress(first.id).held
    until(lambda: studio.store.get(first.id).state == "done")
    assert studio.store.get(second.id).state == "queued"
    queue.resume(studio)
    until(lambda: studio.store.get(second.id).state == "done")
    studio.executor.close()
    studio.store.close()


def test_pausing_now_holds_what_runs(settings: Settings, specs: dict, picture: Path) -> None:
    studio = _open(settings)
    job = _submit(studio, picture, SLOW)
    _worker(studio, job)
    queue.pause(studio, now=True)
    assert studio.executor.progress(job.id).held and queue.outlook(studio).left_s is None
    queue.resume(studio)
    assert not studio.executor.progress(job.id).held
    studio.cancel(job.id)
    until(lambda: studio.store.get(job.id).state == "cancelled")
    studio.executor.close()
    studio.store.close()


def test_the_whole_queue_has_an_end(idle: Studio, picture: Path) -> None:
    jobs = [idle.submit("phantom-wan", values(picture))[0] for _ in range(3)]
    told = queue.outlook(idle)
    times = [told.done_in_s[job.id] for job in jobs]
    assert times[0] > 0 and times[1] == pytest.approx(2 * times[0]) and told.left_s == pytest.approx(3 * times[0])


def test_a_clip_that_was_finished_when_the_studio_was_killed_is_kept(
    settings: Settings, specs: dict, studio: Studio, picture: Path
) -> None:
    """The files of a real clip, and a job list that still says that it runs."""
    from tests.studio.conftest import wait_for

    (made,) = studio.submit("phantom-wan", values(picture))
    done = wait_for(studio, made, "done")
    other = open_studio(settings, LocalExecutor)
    for name in ("mp4", "json", "png"):
        (settings.outputs / f"{made.id}.{name}").write_bytes(
            (studio.settings.outputs / f"{made.id}.{name}").read_bytes()
        )
    other.store.add([Job(engine=made.engine, request=made.request, id=made.id)])
    other.store.move(made.id, "running")
    other.executor._recover()
    found = other.store.get(made.id)
    assert (found.state, found.starts) == ("done", 1)
    assert found.frames == done.frames and found.result.seconds["Denoising"] > 0
    assert Path(found.result.video).is_file()
    other.store.close()
