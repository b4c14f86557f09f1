"""The Long video tab on a tiny model of the real classes: watched, stopped and kept, continued, told in units."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from safetensors.numpy import load_file

from engines import registry
from engines.errors import InvalidRequest
from engines.media import metadata
from engines.media.video import read_frames
from studio import continuing
from studio.jobs.local import LocalExecutor
from studio.jobs.shelf import Shelf
from studio.jobs.store import Job
from studio.page import engine_tabs, history, markup, panel, tab
from studio.page.api import Calls
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.engines import tiny_pyramid
from tests.studio.conftest import LOOPS_LEFT_OPEN, wait_for

SPEC = tiny_pyramid.SPEC
pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("tiny")
    files = tiny_pyramid.write_model(folder)
    overrides = tuple(f"{SPEC.name}/tiny/{role}={paths[0]}" for role, paths in files.items())
    return Settings(outputs=folder / "outputs", devices=("cpu",), overrides=overrides)


@pytest.fixture(scope="module")
def studio(settings: Settings) -> Iterator[Studio]:
    """A studio whose worker process has the tiny model."""
    command = (sys.executable, "-m", "tests.studio.tiny_long_video")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, SPEC.name, SPEC)
        studio = open_studio(settings, LocalExecutor, command=command)
        studio.executor.start()
        yield studio
        studio.executor.close()
        studio.store.close()


@pytest.fixture(scope="module")
def stopped(studio: Studio) -> tuple[Job, panel.View]:
    """A long clip that was stopped and kept, and what its panel showed just before."""
    (job,) = studio.submit(SPEC.name, wanted(frames=241, later_steps=12))
    until(lambda: (now := studio.executor.progress(job.id)) is not None and now.playback)
    seen = panel.view(studio, SPEC, job.batch, owner="")
    studio.cancel(job.id, keep=True)
    return wait_for(studio, job, "done", "failed", "cancelled"), seen


def wanted(**changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "a red star", "frames": 17, "seed": 4} | changes


def until(there: Callable[[], Any], *, timeout_s: float = 240) -> None:
    end = time.monotonic() + timeout_s
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_finished_units_play_while_later_ones_are_made(stopped: tuple[Job, panel.View]) -> None:
    _, seen = stopped
    assert seen.keepable and seen.active == 1
    assert seen.playback.startswith(b"RIFF") and "Finished so far" in markup.playback(seen.playback, seen.size)


def test_a_job_is_stopped_and_what_it_finished_is_kept(studio: Studio, stopped: tuple[Job, panel.View]) -> None:
    job, _ = stopped
    assert job.state == "done"
    assert job.frames < 241 and job.frames % 8 == 1
    assert sum(1 for _ in read_frames(Path(job.result.video))) == job.frames
    assert job.result.notes == (f"Stopped after {job.frames} of 241 frames.",)
    shown = panel.view(studio, SPEC, job.batch, owner="")
    assert (
        not shown.keepable
        and f"{job.frames} frames @ {job.request['fps']} fps" in shown.card.text
        and "Stopped after" in shown.card.notes[0]
    )
    assert f"{job.frames} frames" in markup.table(panel.facts(SPEC, job))


def test_a_kept_clip_goes_on_from_its_latents(studio: Studio, stopped: tuple[Job, panel.View]) -> None:
    job, _ = stopped
    assert (continuing.title(SPEC, job), job.id) in continuing.choices(studio, SPEC, owner="")
    values = continuing.values(SPEC, job)
    assert (values["frames"], values["seed"], values["first_picture"]) == (241, 4, None), "as it was asked for"
    (next_,) = studio.submit(SPEC.name, values | {"frames": job.frames + 8})
    done = wait_for(studio, next_, "done", "failed", timeout_s=240)
    assert done.failure is None and done.frames == job.frames + 8
    before, after = (load_file(continuing.kept(SPEC, one))["latents"] for one in (job, done))
    assert (after[:, :, : before.shape[2]] == before).all() and after.shape[2] == before.shape[2] + 1
    assert continuing.values(SPEC, done)["frames"] == min(241, 2 * done.frames - 1)
    assert str(studio.settings.outputs) not in markup.table(panel.facts(SPEC, done)), (
        "no folder of this machine is told"
    )


SCENES = "0-0.75: a red star\n0.75-1.5: a blue circle\n1.5-2.1: a green square"


def test_a_clip_is_made_anew_from_a_scene_and_keeps_what_came_before(studio: Studio) -> None:
    (job,) = studio.submit(SPEC.name, wanted(frames=49, storyboard=SCENES, fps=24))
    first = wait_for(studio, job, "done", "failed", timeout_s=240)
    assert continuing.cuts(SPEC, first) == {2: 17, 3: 33}
    values = continuing.anew(SPEC, first)
    assert (values["continues"], values["kept_frames"], values["frames"], values["storyboard"]) == (
        first.id, 33, 49, SCENES,
    )  # fmt: skip
    edited = SCENES.replace("a blue circle", "a red box falls")
    (job,) = studio.submit(SPEC.name, values | {"kept_frames": 17, "storyboard": edited})
    second = wait_for(studio, job, "done", "failed", timeout_s=240)
    assert second.failure is None and second.frames == 49
    before, after = (load_file(continuing.kept(SPEC, one))["latents"] for one in (first, second))
    assert (after[:, :, :3] == before[:, :, :3]).all(), "17 frames are three units"
    assert all((after[:, :, unit] != before[:, :, unit]).any() for unit in range(3, 7))
    told = metadata.read(Path(second.result.video)).parameters
    assert told["kept_frames"] == 17 and told["storyboard"] == edited and first.id in told["continues"]
    assert Shelf(studio.store).mark(second.id).parents == (first.id,)

    rendered, book = pages(studio)
    shown = book.clip.go_on({}, first.id, anew=True)
    assert shown[rendered.form.component("kept_frames")]["value"] == 33
    assert shown[rendered.form.component("start from")] == "continues"
    assert shown[rendered.form.component("storyboard")]["value"] == SCENES, "the table is filled with its scenes"
    assert book.open({}, [[first.id]], type("Chosen", (), {"index": 0}))[book.column.opened.anew]["visible"]
    kept = rendered.events.can_be_kept({}, first.id, 33, SCENES, 49, 24)
    assert kept["value"] == 33 and [value for _, value in kept["choices"]] == [0, 17, 33]
    for clip, text, frames in (("unknown", SCENES, 49), (first.id, "0-1: a", 49), (first.id, SCENES, 10**12)):
        kept = rendered.events.can_be_kept({}, clip, 99, text, frames, 24)
        assert kept["value"] == 0 and [value for _, value in kept["choices"]] == [0]
    with pytest.warns(UserWarning, match="cannot be made anew"):
        assert rendered.events.make_anew({}, "unknown") == gr.skip()


def test_only_an_own_finished_clip_can_be_continued(studio: Studio, stopped: tuple[Job, panel.View]) -> None:
    job, _ = stopped
    file = continuing.kept(SPEC, job)
    for chosen, owner in ((job.id, "somebody else"), (str(file), ""), ("../" + job.id, ""), (5, "")):
        with pytest.raises(InvalidRequest, match="not there any more"):
            studio.submit(SPEC.name, wanted(frames=241, continues=chosen), owner=owner)
    assert continuing.choices(studio, SPEC, owner="somebody else") == [continuing.NOTHING]


def test_a_waiting_job_has_nothing_to_keep(studio: Studio) -> None:
    first, second = studio.submit(SPEC.name, wanted(frames=241, later_steps=12), variations=2)
    assert Calls(studio).cancel(second.id, keep=True) == "cancelled"
    studio.cancel(first.id)
    assert wait_for(studio, first, "cancelled", "done").result is None


def test_history_and_the_list_fill_the_form(studio: Studio, stopped: tuple[Job, panel.View]) -> None:
    job, _ = stopped
    rendered, book = pages(studio)
    form, events = rendered.form, rendered.events
    updates = book.clip.go_on({}, job.id)
    assert updates[book.places.tabs]["selected"] == book.places.engine_tabs[0].id
    shown = {name: updates[form.component(name)] for name in ("continues", "width", "frames", "seed", "prompt")}
    assert shown["continues"]["value"] == job.id
    assert (continuing.title(SPEC, job), job.id) in shown["continues"]["choices"]
    assert (shown["width"]["value"], shown["frames"]["value"], shown["seed"]["value"]) == ("64x64", 241, 4)
    assert shown["prompt"]["value"] == "a red star"

    chosen = events.fit_earlier({}, job.id)
    assert chosen[form.component("frames")]["value"] == 241
    assert chosen[form.component("seed")]["value"] == 4, "or it would not go on as if never interrupted"
    assert form.component("prompt") not in chosen, "what was written stays"
    assert events.fit_earlier({}, "unknown") == gr.skip()

    listed = book.open({}, [[job.id]], type("Chosen", (), {"index": 0}))
    assert listed[book.column.opened.longer]["visible"], "the button to continue it"
    held = [updates.get(component) for component in form.components]
    raw = [update["value"] if isinstance(update, dict) else update for update in held]
    assert form.read(raw)["continues"] == job.id


def pages(studio: Studio) -> tuple[tab.Tab, history.History]:
    """The tab and the history, drawn."""
    with gr.Blocks(analytics_enabled=False):
        browser = gr.BrowserState({})
        with gr.Tabs() as tabs:
            place = engine_tabs.render(studio, SPEC.tab, [SPEC], browser=browser)
            with gr.Tab("History"):
                column, _ = history.draw(studio)
    places = engine_tabs.Places(tabs, [place])
    return places.drawn[SPEC.name], history.History(studio, places, column)


def test_a_storyboard_is_read_while_it_is_written(studio: Studio) -> None:
    rendered, _ = pages(studio)
    reading = rendered.events.reading
    assert "2 scenes: 0-1.04 s, 1.04-2.04 s." in reading("storyboard", "0-1.1: a fox\n1.1-2: <b>", 49, 24)
    wrong = reading("storyboard", "0-1: a fox", 49, 24)
    assert "problem" in wrong and "no prompt for 1-2.04 s" in wrong
    for frames, fps in ((None, 24), (10**12, 24), (49, 0)):
        assert reading("storyboard", "0-9: a", frames, fps) == "", "a number is being typed"
    assert reading("storyboard", "", 49, 24) == ""
