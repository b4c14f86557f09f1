"""Inside a visitor's event, as on ZeroGPU: clips are made where they were asked for; none waits for who is gone."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from engines import registry
from studio import editing, queue
from studio.jobs import in_event
from studio.jobs.in_event import InEventExecutor
from studio.page import attending
from studio.page.api import Calls
from studio.service import open_studio
from studio.settings import Settings, from_environment
from tests.engines.tiny import TINY, write_checkpoint
from tests.studio.conftest import values


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


@pytest.mark.parametrize(("said", "in_an_event"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_zerogpu_is_noticed_by_itself(monkeypatch: pytest.MonkeyPatch, said: str, in_an_event: bool) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", said)
    assert from_environment().in_event is in_an_event


def test_inside_an_event_nothing_waits_for_somebody_who_is_gone(settings: Settings, specs: dict, picture: Path) -> None:
    studio = open_studio(settings, InEventExecutor)
    studio.executor.start()
    jobs = studio.submit("phantom-wan", values(picture), variations=3)
    with closing(studio.executor.attend(jobs)):  # the visitor left before the first look
        pass
    assert [studio.store.get(job.id).state for job in jobs] == ["cancelled"] * 3
    jobs = studio.submit("phantom-wan", values(picture), variations=3)
    with closing(studio.executor.attend(jobs)) as attended:
        next(attended)
    assert [studio.store.get(job.id).state for job in jobs] == ["cancelled"] * 3
    studio.store.close()


def test_inside_an_event_a_call_of_the_api_is_done_when_it_returns(
    settings: Settings, specs: dict, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(picture.parent))
    studio = open_studio(replace(settings, public=True), InEventExecutor)
    studio.executor.start()
    for _ in range(3):  # more than a visitor may have waiting at once
        given = {"steps": 2, "frames": 5}
        (job_id,) = Calls(studio).generate("phantom-wan", "a red circle", [{"path": str(picture)}], given)
        assert studio.store.get(job_id).state == "done"
    studio.store.close()


def test_inside_an_event_the_settings_hold_as_in_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The tiny engine's file is found in the models folder alone, and does not fit into the memory allowed."""
    monkeypatch.setitem(registry.SPECS, TINY.name, TINY)
    write_checkpoint(tmp_path / "models")
    for memory_gb, state in (({}, "done"), ({"": 5e-7}, "failed")):
        machine = replace(settings, models=tmp_path / "models", memory_gb=memory_gb)
        studio = open_studio(machine, InEventExecutor)
        (job,) = studio.submit(TINY.name, {"prompt": "a bear"})
        list(studio.executor.attend([job]))
        done = studio.store.get(job.id)
        assert done.state == state, done.failure
        studio.store.close()
    assert done.failure.kind == "OutOfMemory"


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


def test_inside_an_event_what_another_event_makes_is_left_to_it(settings: Settings, specs: dict, picture: Path) -> None:
    studio = open_studio(settings, InEventExecutor)
    first, second = studio.submit("phantom-wan", values(picture), variations=2)
    with closing(studio.executor.attend([first, second])) as attended:
        next(attended)  # the first one runs
        (third,) = studio.submit("phantom-wan", values(picture))
        assert list(attending.make(studio, {}))
        states = {job.id: studio.store.get(job.id).state for job in (first, second, third)}
        assert states == {first.id: "running", second.id: "queued", third.id: "done"}
    assert {studio.store.get(job.id).state for job in (first, second)} == {"cancelled"}
    queue.retry(studio, first.id)
    assert list(attending.make(studio, {})) and studio.store.get(first.id).state == "done"
    assert studio.store.get(second.id).state == "cancelled"
    studio.store.close()


def test_zerogpu_is_told_of_the_function_that_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []

    def gpu(*, duration: int) -> Callable[[Callable[..., Any]], str]:
        def lent(function: Callable[..., Any]) -> str:
            told.append((duration, function.__name__))
            return "lent"

        return lent

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    found = importlib.util.find_spec(in_event.__name__)
    again = importlib.util.module_from_spec(found)
    found.loader.exec_module(again)
    assert told == [(in_event.GPU_SECONDS, "run")] and again.on_gpu == "lent"


def test_a_gpu_is_asked_for_a_clip_and_for_no_edit_without_networks(
    settings: Settings, specs: dict, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def lent(runtime: str, order: str) -> Iterator[str]:
        asked.append(order)
        return in_event.run(runtime, order)

    monkeypatch.setattr(in_event, "on_gpu", lent)
    studio = open_studio(settings, InEventExecutor)
    (job,) = studio.submit("phantom-wan", values(picture))
    list(studio.executor.attend([job]))
    assert studio.store.get(job.id).state == "done" and len(asked) == 1
    edit = editing.submit(studio, "reverse", {"clip": job.id})
    list(studio.executor.attend([edit]))
    assert studio.store.get(edit.id).state == "done" and len(asked) == 1
    studio.store.close()


def test_a_clip_that_gets_no_gpu_says_so(
    settings: Settings, specs: dict, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: str) -> Iterator[str]:
        raise RuntimeError("quota")
        yield

    monkeypatch.setattr(in_event, "on_gpu", refused)
    studio = open_studio(settings, InEventExecutor)
    (job,) = studio.submit("phantom-wan", values(picture))
    with pytest.raises(RuntimeError, match="quota"):  # ZeroGPU's own words for the visitor
        list(studio.executor.attend([job]))
    done = studio.store.get(job.id)
    assert done.state == "failed" and "no GPU" in done.failure.message
    studio.store.close()


def test_inside_an_event_a_running_clip_is_cancelled_at_its_next_step(
    settings: Settings, specs: dict, picture: Path
) -> None:
    studio = open_studio(settings, InEventExecutor)
    (job,) = studio.submit("phantom-wan", values(picture, steps=50))
    for count, _ in enumerate(studio.executor.attend([job])):
        if count == 2:
            studio.cancel(job.id)
        assert count < 9
    assert studio.store.get(job.id).state == "cancelled"
    studio.store.close()


def test_inside_an_event_nothing_of_before_a_restart_waits_on(settings: Settings, specs: dict, picture: Path) -> None:
    studio = open_studio(settings, InEventExecutor)
    running, waiting = studio.submit("phantom-wan", values(picture), variations=2)
    studio.store.move(running.id, "running")
    studio.store.close()
    again = open_studio(settings, InEventExecutor)
    again.executor.start()
    assert [again.store.get(job.id).state for job in (running, waiting)] == ["cancelled"] * 2
    again.store.close()


def test_an_event_makes_the_clips_of_its_own_visitor_alone(settings: Settings, specs: dict, picture: Path) -> None:
    studio = open_studio(replace(settings, public=True), InEventExecutor)
    (other,) = studio.submit("phantom-wan", values(picture), owner="b" * 32)
    assert list(attending.make(studio, {"owner": "a" * 32})) == []
    assert studio.store.get(other.id).state == "queued"
    studio.store.close()
