"""The History tab on clips whose engine or model is gone, and what it does to the tabs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from engines.registry import SPECS
from engines.types import EngineSpec
from studio import remaking
from studio.jobs.store import Job
from studio.page import engine_tabs, history, markup, panel
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for

pytestmark = LOOPS_LEFT_OPEN
FIRST = type("Chosen", (), {"index": 0})


@pytest.fixture(scope="module")
def made(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished clip of the stand-in."""
    path = tmp_path_factory.mktemp("drawing") / "disc.png"
    Image.new("RGB", (60, 48), "white").save(path)
    (job,) = studio.submit("phantom-wan", values(path))
    return wait_for(studio, job, "done")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))
    return told


def without(studio: Studio, kind: str) -> Studio:
    """The studio as it is after the clip's engine, or the clip's model, was taken out of it."""
    spec: EngineSpec = SPECS["phantom-wan"]
    others = {name: one for name, one in studio.specs.items() if name != spec.name}
    if kind == "engine":
        return replace(studio, specs=others)
    fewer = replace(spec, models=tuple(model for model in spec.models if model.name != "starter"))
    return replace(studio, specs=others | {spec.name: fewer})


@pytest.fixture
def book(studio: Studio, request: pytest.FixtureRequest) -> Iterator[history.History]:
    """The History of a studio without what the test names, or of the whole one."""
    shown = without(studio, request.param) if getattr(request, "param", None) else studio
    yield drawn(shown)


def drawn(studio: Studio) -> history.History:
    with gr.Blocks(analytics_enabled=False):
        browser = gr.BrowserState({})
        with gr.Tabs() as tabs:
            titles = engine_tabs.by_title(studio.specs.values())
            drawn = [engine_tabs.render(studio, title, specs, browser=browser) for title, specs in titles.items()]
            with gr.Tab("History"):
                column, _ = history.draw(studio)
    return history.History(studio, engine_tabs.Places(tabs, drawn), column)


@pytest.mark.parametrize("book", ["engine", "model"], indirect=True)
def test_a_clip_whose_maker_is_gone_is_shown_with_what_is_missing(
    book: history.History, made: Job, warned: list[str]
) -> None:
    listed = book.list({})
    assert made.id in listed[book.column.listed]
    shown = book.open({}, listed[book.column.listed], FIRST)
    assert Path(shown[book.column.video]["value"]).is_file()
    assert "not part of" in shown[book.column.notice] and "alert" in shown[book.column.notice]
    assert "starter" in shown[book.column.facts] and str(made.request["seed"]) in shown[book.column.facts]
    assert not shown[book.column.longer]["visible"]
    assert "Flicker" in book.measure({}, made.id)

    for event in (book.use(new_seed=False), book.use(new_seed=True), book.go_on):
        assert event({}, made.id) == gr.skip()
    assert len(warned) == 3 and all("not part of" in sentence for sentence in warned)


def test_settings_come_back_where_everything_is_there(book: history.History, made: Job, warned: list[str]) -> None:
    shown = book.open({}, [made.id], FIRST)
    assert "alert" not in shown[book.column.notice]
    form = book.engine_tabs["phantom-wan"].form
    for event, seed in ((book.use(new_seed=False), made.request["seed"]), (book.use(new_seed=True), None)):
        updates = event({}, made.id)
        assert updates[book.places.tabs]["selected"] == "phantom-wan"
        number, random = form.control("seed").components
        assert (updates[number]["value"], updates[random]) == (seed, seed is None)
        assert updates[form.component("prompt")]["value"] == made.request["prompt"]
    assert warned == []


def test_a_request_of_another_time_is_shown(studio: Studio, made: Job) -> None:
    """Fields that were stored and are declared no more, and fields that were not declared yet."""
    request = {name: value for name, value in made.request.items() if name != "steps"} | {"old_knob": 3}
    result = made.result.model_copy(update={"request": request})
    for specs in (studio.specs, {}):
        facts = {row.label: row.value for row in panel.facts(specs.get(made.engine), replace(made, result=result))}
        assert facts["Old knob"] == "3" and facts["Seed"] == str(request["seed"])
        assert "/" not in markup.table(panel.facts(specs.get(made.engine), made)).replace("</", "").replace(
            "image/", ""
        )


def test_sentences_name_what_is_gone_as_text(studio: Studio, made: Job) -> None:
    odd = replace(made, engine="<b>old</b>", request=dict(made.request) | {"model": "<i>x"})
    for job, specs in ((odd, studio.specs), (replace(odd, engine="phantom-wan"), studio.specs)):
        line = markup.lines([markup.Line(remaking.obstacle(specs, job), "problem")])
        assert "<b>" not in line and "<i>" not in line and "&lt;" in line


def test_a_deleted_clip_is_gone_from_its_tab_too(studio: Studio, book: history.History, made: Job) -> None:
    copies = studio.submit("phantom-wan", values(Path(made.request["references"][0]["path"])), variations=2)
    done = [wait_for(studio, job, "done") for job in copies]
    known: dict[str, Any] = {"phantom-wan": done[0].batch}
    updates = book.delete(known, done[1].id)
    result = book.engine_tabs["phantom-wan"].result
    assert updates[result.clip] == done[0].id
    assert not updates[result.strip]["visible"], "one clip is left"
    assert done[1].id not in updates[book.column.listed]


def test_a_caption_tells_something_of_every_clip(made: Job) -> None:
    for engine, request, words in (
        ("phantom-wan", {"prompt": "a star"}, "a star"),
        ("pyramid-flow", {"prompt": "", "storyboard": "0-2: a fox\n2-3: it sits"}, "0-2: a fox 2-3: it sits"),
        ("gone", {"prompt": " a  star "}, "a star"),
        ("phantom-wan", {"prompt": "", "negative_prompt": "blurry", "seed": 7}, "seed 7"),
        ("phantom-wan", {"prompt": "x" * 200}, "x" * 60 + "…"),
    ):
        assert history.caption(SPECS.get(engine), replace(made, request=request)) == words


def test_a_clip_whose_files_are_gone_is_told(
    studio: Studio, book: history.History, tmp_path: Path, warned: list[str]
) -> None:
    """Each file that somebody may have removed from the outputs folder."""
    Image.new("RGB", (60, 48), "navy").save(tmp_path / "navy.png")
    (job,) = studio.submit("phantom-wan", values(tmp_path / "navy.png"))
    made = wait_for(studio, job, "done")
    column, browser = book.column, {"phantom-wan": made.batch}
    Path(made.request["references"][0]["path"]).unlink()
    shown = book.open({}, [made.id], FIRST)
    assert "One of the files that it was made from is not there any more" in shown[column.notice]
    updates = book.use(new_seed=False)({}, made.id)
    assert len(warned) == 1 and updates, "the rest comes back"

    Path(made.result.poster).unlink()
    assert made.id in book.list({})[column.listed], "its clip stands for it"
    Path(made.result.video).unlink()
    assert made.id not in book.list({})[column.listed]
    shown = book.open({}, [made.id], FIRST)
    assert "not in the outputs folder" in shown[column.notice] and not shown[column.video]["visible"]
    assert "cannot" in book.measure({}, made.id) or "no" in book.measure({}, made.id)
    events = book.engine_tabs["phantom-wan"].events
    loaded = events.load(browser)
    assert "not in the outputs folder" in loaded[events.result.status]
    assert not loaded[events.result.video]["visible"] and not loaded[events.result.download]["visible"]
