"""Engines that share a tab: what stays when another is chosen, and how the rest of the page finds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from engines.registry import SPECS
from studio.jobs.in_event import InEventExecutor
from studio.page import attending, engine_tabs, send, slots, ui
from studio.page.engine_tabs import EngineTab, Places
from studio.page.uploads import served
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN
ALONE = replace(SPECS["bindweave"], models=(SPECS["bindweave"].model("14B"),))  # as it is until its starter is trained
PAIR = [SPECS["phantom-wan"], ALONE]


@pytest.fixture(scope="module")
def subject(studio: Studio) -> EngineTab:
    with gr.Blocks(analytics_enabled=False), gr.Tabs():
        return engine_tabs.render(studio, PAIR[0].tab, PAIR, browser=gr.BrowserState({}))


def held(drawn: EngineTab, engine: str, **given: Any) -> list[Any]:
    """What the forms of all engines hold, with fields of one of them set to something else."""
    raw = []
    for name, one in drawn.tabs.items():
        values = {component: component.value for component in one.form.components}
        if name == engine:
            values |= {one.form.component(field): value for field, value in given.items()}
            values[one.form.control("seed").components[1]] = "seed" not in given
        raw += values.values()
    return raw


def upload(picture: Path) -> dict[str, Any]:
    return {"path": served(picture)}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_prompt_pictures_seed_and_size_stay_and_the_rest_is_the_engines(subject: EngineTab, picture: Path) -> None:
    given = {"prompt": "a red fox", "seed": 77, "model": "14B", "width": "832x480", "references": upload(picture)}
    raw = held(subject, "phantom-wan", **given, negative_prompt="mine", steps=33)
    updates = subject.switch("bindweave", "phantom-wan", *raw)
    form = subject.tabs["bindweave"].form
    names = ("prompt", "written_prompt", "refined_by", "seed", "width", "references")
    shown = {name: updates[form.component(name)] for name in names}
    assert shown["prompt"]["value"] == "a red fox"
    assert shown["seed"]["value"] == 77
    assert shown["width"]["value"] == "832x480"
    assert Path(shown["references"]).read_bytes() == picture.read_bytes()
    others = set(updates) & set(form.components)
    kept = {component for entry in form.controls for component in entry.components if set(entry.names) & set(shown)}
    assert others <= kept, "steps, guidance and the negative prompt are the engine's own"
    assert updates[subject.choice] == updates[subject.shown] == "bindweave"
    assert {name: updates[area]["visible"] for name, area in subject.areas.items()} == {
        "phantom-wan": False, "bindweave": True
    }  # fmt: skip


def test_a_size_that_the_other_model_cannot_make_stays_behind(subject: EngineTab) -> None:
    updates = subject.switch("bindweave", "phantom-wan", *held(subject, "phantom-wan", width="96x64", prompt="x"))
    form = subject.tabs["bindweave"].form
    assert form.component("width") not in updates
    assert updates[form.component("prompt")]["value"] == "x"
    typed = subject.switch("bindweave", "phantom-wan", *held(subject, "phantom-wan", width="640x352"))
    assert typed[form.component("width")]["value"] == "640x352"
    impossible = subject.switch("bindweave", "phantom-wan", *held(subject, "phantom-wan", width="650x352"))
    assert form.component("width") not in impossible
    typing = subject.switch("bindweave", "phantom-wan", *held(subject, "phantom-wan", width="96 by", prompt="x"))
    assert form.component("width") not in typing and typing[form.component("prompt")]["value"] == "x"


def test_the_way_back_takes_over_what_was_changed(subject: EngineTab) -> None:
    raw = held(subject, "bindweave", prompt="a blue fox", width="832x480")
    updates = subject.switch("phantom-wan", "bindweave", *raw)
    form = subject.tabs["phantom-wan"].form
    assert updates[form.component("prompt")]["value"] == "a blue fox"
    assert form.component("width") not in updates, "the small model there cannot make this size"


@pytest.mark.parametrize("engine", ["phantom-wan", "nobody", "", None, 3])
def test_what_is_shown_already_or_is_no_engine_changes_nothing(subject: EngineTab, engine: Any) -> None:
    assert subject.switch(engine, "phantom-wan", *held(subject, "phantom-wan")) == gr.skip()


def test_tabs_come_in_the_order_of_the_registry() -> None:
    titles = engine_tabs.by_title(SPECS.values())
    assert [spec.name for spec in titles["Subject references"]] == ["phantom-wan", "bindweave"]
    assert list(titles) == list(dict.fromkeys(spec.tab for spec in SPECS.values()))
    assert sum(map(len, titles.values())) == len(SPECS)


def test_the_page_goes_to_an_engine_wherever_it_stands(subject: EngineTab) -> None:
    tabs = gr.Tabs()
    places = Places(tabs, [subject])
    assert places.drawn == dict(subject.tabs)
    updates = places.go("bindweave")
    assert updates[tabs]["selected"] == "phantom-wan", "the tab has the name of its first engine"
    assert updates[subject.choice] == "bindweave" and updates[subject.areas["bindweave"]]["visible"]
    assert set(updates) <= set(places.components)
    assert places.go("nobody") == {}


def test_a_tab_of_one_engine_has_no_choice(idle: Studio) -> None:
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs:
        alone = engine_tabs.render(idle, "Image to video", [SPECS["flashi2v"]], browser=gr.BrowserState({}))
    assert alone.choice is None and alone.components == []
    assert Places(tabs, [alone]).go("flashi2v")[tabs]["selected"] == "flashi2v"


def test_there_is_one_button_to_send_a_frame_to_a_tab(subject: EngineTab) -> None:
    for drawn in subject.tabs.values():
        titles = [spec.tab for spec in SPECS.values() if spec.field_of("subject", "first frame")]
        assert list(drawn.sender.targets) == list(dict.fromkeys(titles))


def test_a_frame_goes_to_the_engine_that_is_shown(
    studio: Studio, subject: EngineTab, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = [one.form for one in subject.tabs.values()]
    monkeypatch.setattr(send, "finished_job", lambda *_: object())
    monkeypatch.setattr(send, "_placed", lambda form, job, index, raw: [f"{form.spec.name}: frame {index}", *raw[1:]])
    sent = send.deliver(studio, "phantom-wan", forms)({}, "clip", 3, "bindweave", *[None, True, ""] * 8)
    assert sent[0]["selected"] == "phantom-wan"
    assert sent[1:13] == [gr.skip()] * 12
    assert sent[13] == "bindweave: frame 2"


def test_what_the_model_sees_is_the_engines_own(picture: Path) -> None:
    size = {"width": 120, "height": 60, "as_published": False}
    fitted, letterboxed = (slots.preview(str(picture), True, setting, **size) for setting in ("fitted", "letterboxed"))
    assert fitted != letterboxed
    assert "The model sees" in fitted and "The model sees" in letterboxed
    assert "No background found" in slots.preview(str(picture), False, "letterboxed", **size)


def test_an_engine_may_have_no_starter(studio: Studio) -> None:
    spec = replace(ALONE, tab="Alone")
    with gr.Blocks(analytics_enabled=False), gr.Tabs():
        drawn = engine_tabs.render(studio, "Alone", [spec], browser=gr.BrowserState({}))
    form = drawn.tabs["bindweave"].form
    assert form.component("model").value == "14B"
    assert form.component("width").value == "1280x720"


def test_what_follows_a_change_follows_the_last_one_too(idle: Studio) -> None:
    """Of two changes while an answer is awaited the second would be left out: "150 steps" stayed "Standard"."""
    followed = [
        event for event in ui.build(idle).fns.values() if {"change", "input"} & {name for _, name in event.targets}
    ]
    assert len(followed) > 50 and {event.trigger_mode for event in followed} == {"always_last"}


def test_inside_an_event_every_button_that_queues_a_clip_makes_it(settings: Settings, specs: dict) -> None:
    studio = open_studio(replace(settings, in_event=True), InEventExecutor)
    functions = ui.build(studio).fns.values()
    followed = {one.trigger_after for one in functions if getattr(one.fn, "func", None) is attending.make}
    names = {getattr(one.fn, "__qualname__", "").partition(".<")[0] for one in functions if one._id in followed}
    assert names == {
        "TabEvents.retry", "TabEvents.retry_smaller", "QueuePanel.act", "OpenClip.again", "Editing.make",
    }  # fmt: skip
    studio.store.close()
