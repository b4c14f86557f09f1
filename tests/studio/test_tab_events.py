"""Events of a tab, called as the page calls them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.errors import StudioError
from engines.events import Clip
from engines.registry import SPECS
from engines.types import EngineSpec
from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.limits import MOST_OF_CONNECTION
from studio.page import about_clip, panel, plumbing, tab
from studio.page.guarded import Page
from studio.page.tab import Tab
from studio.service import Studio
from tests.studio.awaited import awaited
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for
from tests.studio.test_public import asked_from

pytestmark = LOOPS_LEFT_OPEN
MARKUP = 'first <b onclick="alert(1)">a fox</b> & <unfinished'


def drawn(studio: Studio, engine: str = "phantom-wan") -> Tab:
    with gr.Blocks(analytics_enabled=False):
        return tab.render(studio, SPECS[engine], browser=gr.BrowserState({}))


def raw(rendered: Tab, **given: Any) -> list[Any]:
    """What the form holds, with these fields set to something else."""
    held = {component: component.value for component in rendered.form.components}
    held |= {rendered.form.component(name): value for name, value in given.items()}
    return list(held.values())


def upload(picture: Path) -> dict[str, Any]:
    """A picture as the page gives it: a file in gradio's own folder."""
    from studio.page.uploads import served

    return {"path": served(picture)}


def results(events: Iterator[Any]) -> dict[Any, Any]:
    return next(events)


def test_what_is_wrong_is_shown_as_it_was_typed(idle: Studio) -> None:
    rendered = drawn(idle, "pyramid-flow")
    shown = results(rendered.events.generate(None, {}, 1, *raw(rendered, prompt="", storyboard=MARKUP)))
    problems = shown[rendered.controls.problems]
    assert "&lt;unfinished" in problems and "<b onclick" not in problems
    reading = rendered.events.reading("storyboard", MARKUP, 49, 12)
    assert "<b" not in reading


def test_a_clip_counts_for_the_connection_that_it_was_asked_for_over(
    idle: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(picture.parent / "uploads"))
    public = replace(idle, settings=replace(idle.settings, public=True))
    rendered = drawn(public)
    (slot, *_) = rendered.form.control("references").components
    held = raw(rendered, prompt="a star")
    held[rendered.form.components.index(slot)] = upload(picture)
    for _ in range(MOST_OF_CONNECTION):  # visitors without a name
        shown = results(rendered.events.generate(asked_from("192.0.2.7"), {}, 1, *held))
        assert not shown[rendered.controls.problems]
    shown = results(rendered.events.generate(asked_from("192.0.2.7"), {}, 1, *held))
    assert "at most" in shown[rendered.controls.problems]
    shown = results(rendered.events.generate(asked_from("192.0.2.8"), {}, 1, *held))
    assert not shown[rendered.controls.problems]


@pytest.mark.parametrize("text", [MARKUP, "<script>alert(1)</script>.png", "a & b < c"])
def test_a_sentence_over_the_page_is_no_markup(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio shows a toast as HTML: what a person typed has to come out as they typed it."""
    shown: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: shown.append(message))
    plumbing.warn(text)
    assert "<" not in shown[0] and unescape(shown[0]) == text


def test_every_sentence_of_the_page_goes_through_that_door() -> None:
    folder = Path(plumbing.__file__).parent
    doors = {"Warning(", "Info(", "Success("}
    users = [path.name for path in folder.glob("*.py") if any(f"gr.{door}" in path.read_text() for door in doors)]
    assert users == ["plumbing.py"]


def test_a_second_clip_does_not_hide_the_one_that_runs(idle: Studio, picture: Path) -> None:
    rendered = drawn(idle)
    events, column = rendered.events, rendered.result
    first, second = (idle.submit("phantom-wan", values(picture))[0] for _ in range(2))
    browser = {"phantom-wan": second.batch}
    assert column.status in events.tick(browser, {})
    shown = events.cancel(browser, {})
    assert idle.store.get(second.id).state == "cancelled" and idle.store.get(first.id).state == "queued"
    assert shown[column.cancel]["visible"], "the first one can be ended too"
    events.cancel(browser, {})
    assert idle.store.get(first.id).state == "cancelled"
    assert events.load(browser)[column.cancel]["visible"] is False


def test_nothing_new_changes_nothing(idle: Studio, picture: Path) -> None:
    rendered = drawn(idle)
    (job,) = idle.submit("phantom-wan", values(picture))
    browser = {"phantom-wan": job.batch}
    seen = rendered.events.tick(browser, {})[rendered.result.seen]
    assert rendered.events.tick(browser, seen) == gr.skip()


def test_variations_one_after_the_other(studio: Studio, picture: Path) -> None:
    rendered = drawn(studio)
    events, column = rendered.events, rendered.result
    jobs = [wait_for(studio, job, "done") for job in studio.submit("phantom-wan", values(picture), variations=3)]
    browser = {"phantom-wan": jobs[0].batch}
    assert events.load(browser)[column.clip] == jobs[-1].id
    picked = events.pick(browser, type("Chosen", (), {"index": 0}))
    assert picked[column.clip] == jobs[0].id and column.longer in picked
    assert f"seed {jobs[0].request['seed']} " in picked[column.status]
    seed, random = rendered.form.control("seed").components
    used = events.use_seed(browser, jobs[0].id)
    assert used == {seed: used[seed], random: False}, "nothing but the seed"
    assert used[seed]["value"] == jobs[0].request["seed"] == jobs[2].request["seed"] - 2
    again = events.use_settings(browser, jobs[1].id)
    assert again[seed]["value"] == jobs[1].request["seed"]
    assert again[rendered.form.component("prompt")]["value"] == jobs[1].request["prompt"]
    assert jobs[1].request["prompt"] in events.load(browser)[column.about]["value"]
    assert events.pick(browser, type("Chosen", (), {"index": 9})) == gr.skip()


def test_the_seed_of_a_stranger_is_not_told(studio: Studio, picture: Path) -> None:
    public = replace(studio, settings=replace(studio.settings, public=True))
    (job,) = public.submit("phantom-wan", values(picture), owner="a" * 32)
    wait_for(studio, job, "done")
    events = drawn(public).events
    stranger = {"owner": "b" * 32, "phantom-wan": job.batch}
    with pytest.warns(UserWarning, match="not there any more"):
        assert events.use_seed(stranger, job.id) == events.use_settings(stranger, job.id) == gr.skip()
    assert events.load(stranger)[events.result.clip] == ""


def test_an_example_leaves_nothing_of_what_stood_before(idle: Studio) -> None:
    rendered = drawn(idle, "pyramid-flow")
    names = set(rendered.form.spec.request_type.model_fields)
    shown = rendered.form.show(rendered.form.spec.default_values("starter"))
    assert {name for control in rendered.form.controls for name in control.names} == names | {"start from"}
    assert set(shown) == set(rendered.form.components), "every control is set"


def test_a_clip_of_a_small_model_says_what_it_is(studio: Studio, picture: Path) -> None:
    rendered = drawn(studio)
    (job,) = studio.submit("phantom-wan", values(picture))
    wait_for(studio, job, "done")
    shown = rendered.events.load({"phantom-wan": job.batch})
    assert "own-pixels" in shown[rendered.result.video]["elem_classes"]
    assert "built-in demonstration model, " in shown[rendered.result.status]
    assert "pixels, drawn larger without smoothing" in shown[rendered.result.status]


def test_a_text_that_is_too_long_to_be_made_is_too_long_to_be_read(idle: Studio) -> None:
    rendered = drawn(idle, "pyramid-flow")
    assert "shorten it to at most 20,000" in rendered.events.reading("storyboard", "0-2: a\n" * 9_000, 49, 24)
    assert "must be text" in rendered.events.reading("storyboard", ["0-2: a"], 49, 24)
    assert "1 scene" in rendered.events.reading("storyboard", "0-3: a", 49, 24)


def test_time_left_is_told_only_where_it_is_known() -> None:
    known = Progress(stage="Making the video", index=19, total=20, left_s=30.0, share=0.7)
    assert "about 30 s left" in panel.running(known).text
    text = panel.running(known, "Clip 1 of 3 · ", together_s=95.0).text
    assert "about 30 s left of this clip, 1 min 35 s of all" in text
    assert panel.running(known, "Clip 1 of 3 · ").step == "19 of 20"
    assert panel.running(known).share == 0.7, "one bar over all stages"
    ending = replace(known, left_s=None)
    for later in (replace(ending, cancelling=True), replace(ending, keeping=True), replace(ending, held_since=1.0)):
        assert "left" not in panel.running(later).text and not panel.running(later).step
    assert panel.running(replace(ending, cancelling=True)).share is None
    assert panel.running(replace(ending, held_since=1.0)).title == "Paused"


def test_a_waiting_clip_of_an_engine_that_is_gone_can_be_ended(idle: Studio, picture: Path) -> None:
    for keep in (False, True):
        (job,) = idle.submit("phantom-wan", values(picture))
        replace(idle, specs={}).cancel(job.id, keep=keep)
        assert idle.store.get(job.id).state == "cancelled"


@pytest.mark.parametrize("private", [True, False])
def test_an_error_of_the_page_is_shown_as_text_and_one_of_the_api_is_text(private: bool) -> None:
    """Gradio's page makes HTML of an error's message; a program that calls gets it as it is."""

    def fails() -> str:
        raise StudioError(f"There is no {MARKUP}.")

    with Page(analytics_enabled=False) as page:
        if private:
            gr.Button().click(fails, None, gr.HTML(), **plumbing.HIDDEN)
        else:
            gr.api(fails, api_name="fails")
    (event,) = page.fns.values()
    with pytest.raises(gr.Error) as raised:
        awaited(page.process_api(event, []))
    assert ("<b" in raised.value.message) == (not private)
    assert MARKUP in (unescape(raised.value.message) if private else raised.value.message)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_only_built_in_models_keep_their_own_pixels(spec: EngineSpec) -> None:
    for model in spec.models:
        job = Job(engine=spec.name, request=spec.default_values(model.name), state="done")
        assert panel.own_pixels(spec, job) == model.name.startswith("starter")
        card = panel.finished(spec, job)
        assert any("without smoothing" in note for note in card.notes) == model.name.startswith("starter")
    assert not panel.own_pixels(None, job)


def test_variations_stand_in_the_order_of_their_surprise_and_say_it(tmp_path: Path) -> None:
    def made(seed: int, **figures: float) -> Job:
        request = SPECS["phantom-physics"].default_values("5B-physics") | {"seed": seed}
        clip = Clip(video="", sidecar="", poster="", request=request, seconds={}, peak_bytes=0, figures=figures)
        return Job(engine="phantom-physics", request=request, state="done", result=clip)

    plain = [made(1), made(2)]
    assert panel.ranked(plain) == plain and [panel.variation(job) for job in plain] == ["1", "2"]
    scored = [made(1, surprise=0.4), made(2, surprise=0.1234)]
    assert [panel.variation(job) for job in panel.ranked(scored)] == [
        "seed 2 · surprise 0.123",
        "seed 1 · surprise 0.400",
    ]
    spec = SPECS["phantom-physics"]
    assert "surprise 0.400" in panel.finished(spec, scored[0]).text
    assert ("Surprise", "0.400") in [(row.label, row.value) for row in panel.facts(spec, scored[0])]


def test_the_physics_view_opens_below_a_clip_that_has_one(tmp_path: Path) -> None:
    (tmp_path / "a.physics.webp").write_bytes(b"webp")
    job = Job(engine="phantom-physics", request={"width": 64, "height": 32}, state="done")
    assert about_clip.physics(job) == ""
    beside = (str(tmp_path / "a.latents.bin"), str(tmp_path / "a.physics.webp"))
    clip = Clip(video="", sidecar="", poster="", request={}, seconds={}, peak_bytes=0, beside=beside)
    shown = about_clip.physics(replace(job, result=clip))
    assert "Physics view" in shown and "d2VicA==" in shown and "--wide:64" in shown
    (tmp_path / "a.physics.webp").unlink()
    assert about_clip.physics(replace(job, result=clip)) == "", "its file is gone"
