"""The queue on the page: what it shows of everybody's and of one's own clips, and what its buttons do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from engines.events import Failed
from engines.registry import SPECS
from studio import queue
from studio.page import editing, engine_tabs, queue_rows
from studio.page.queue_panel import QueuePanel
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN, values

pytestmark = LOOPS_LEFT_OPEN


def drawn(studio: Studio) -> QueuePanel:
    browser = gr.BrowserState({})
    with gr.Blocks(analytics_enabled=False):
        panel = QueuePanel(studio)
        panel.draw()
        with gr.Tabs() as tabs:
            places = engine_tabs.Places(
                tabs, [engine_tabs.render(studio, "Subject references", [SPECS["phantom-wan"]], browser=browser)]
            )
        panel.wire(places, browser)
    return panel


def pressed(name: str, job_id: str = "") -> Any:
    return SimpleNamespace(_data={"name": name, "id": job_id})


def prompts(shown: dict[str, Any], part: str = "rows") -> list[str]:
    return [row["title"] for row in shown[part]]


def names(row: dict[str, Any]) -> list[str]:
    return [action["name"] for action in row["actions"]]


def test_every_waiting_clip_can_do_what_makes_sense_for_it(idle: Studio, picture: Path) -> None:
    jobs = [idle.submit("phantom-wan", values(picture, prompt))[0] for prompt in ("one", "two", "three")]
    shown = queue_rows.shown(idle, owner="")
    assert [names(row) for row in shown["rows"]] == [
        ["down", "edit", "copy", "cancel"],
        ["up", "down", "edit", "copy", "cancel"],
        ["up", "top", "edit", "copy", "cancel"],
    ]
    assert shown["summary"].startswith("3 clips, about") and shown["waiting"] == 3
    assert "96 × 64 · 0.75 s · seed 5" in shown["rows"][0]["about"]
    assert shown["rows"][0]["picture"]
    idle.store.move(jobs[0].id, "running")
    idle.store.move(jobs[0].id, "failed", failure=Failed(kind="OutOfMemory", message="No room."))
    shown = queue_rows.shown(idle, owner="")
    assert prompts(shown) == ["two", "three"] and prompts(shown, "ended") == ["one"]
    assert names(shown["ended"][0]) == ["retry", "smaller", "remove"]
    assert shown["ended"][0]["actions"][1]["label"] == "Try 64 × 64"
    assert json.dumps(shown)


def test_the_buttons_do_what_they_say(idle: Studio, picture: Path) -> None:
    panel = drawn(idle)
    one, two, three = (idle.submit("phantom-wan", values(picture, prompt))[0] for prompt in ("one", "two", "three"))

    def press(name: str, job_id: str = "") -> list[str]:
        panel.act(pressed(name, job_id), None, {}, {}, {})
        return prompts(queue_rows.shown(idle, owner=""))

    assert press("top", three.id) == ["three", "one", "two"]
    assert press("down", three.id) == ["one", "three", "two"]
    assert press("up", two.id) == ["one", "two", "three"]
    assert press("copy", one.id) == ["one", "two", "three", "one"]
    assert press("cancel", two.id) == ["one", "three", "one"]
    assert press("retry", two.id) == ["one", "three", "one", "two"]
    press("cancel", two.id)
    press("remove", two.id)
    assert idle.store.get(two.id) is None
    press("pause")
    assert idle.store.paused and queue_rows.shown(idle, owner="")["short"] == "3 · paused"
    press("resume")
    assert not idle.store.paused
    for odd in ({}, {"name": "up"}, {"name": ["x"], "id": {}}, None):
        panel.act(SimpleNamespace(_data=odd), None, {}, {}, {})


def test_a_clip_is_edited_in_the_form_and_saved_in_its_place(idle: Studio, picture: Path) -> None:
    panel = drawn(idle)
    tab = panel.places.drawn["phantom-wan"]
    jobs = [idle.submit("phantom-wan", values(picture, prompt))[0] for prompt in ("one", "two")]
    updates = panel.edit(pressed("edit", jobs[0].id), {}, {}, {})
    browser = updates[panel.browser]
    assert browser[editing.KEY] == jobs[0].id
    assert updates[tab.controls.generate]["value"] == editing.SAVE
    assert updates[tab.form.component("prompt")]["value"] == "one"
    held = {component: component.value for component in tab.form.components} | {tab.form.component("prompt"): "better"}
    saved = next(tab.events.generate(None, browser, 1, *held.values()))
    assert saved[tab.controls.generate]["value"] == editing.GENERATE and editing.KEY not in saved[panel.browser]
    assert [job.request["prompt"] for job in idle.store.queued()] == ["better", "two"]
    left = panel.act(pressed("leave", jobs[0].id), None, browser, {}, {})
    assert editing.KEY not in left[panel.browser]


def test_a_clip_that_began_while_it_was_edited_leaves_the_form(idle: Studio, picture: Path) -> None:
    panel = drawn(idle)
    (job,) = idle.submit("phantom-wan", values(picture))
    updates = panel.edit(pressed("edit", job.id), {}, {}, {})
    browser, seen = updates[panel.browser], updates[panel.seen]
    idle.store.move(job.id, "running")
    later = panel.look(browser, seen, {})
    assert editing.KEY not in later[panel.browser]
    assert later[panel.places.drawn["phantom-wan"].controls.generate]["value"] == editing.GENERATE


def test_nothing_new_changes_nothing_and_a_clip_from_elsewhere_wakes_its_tab(idle: Studio, picture: Path) -> None:
    panel = drawn(idle)
    seen = panel.look({}, {}, {})[panel.seen]
    assert panel.look({}, seen, {}) == gr.skip()
    idle.submit("phantom-wan", values(picture))
    updates = panel.look({}, seen, {})
    assert updates[panel.places.drawn["phantom-wan"].result.timer].active
    assert updates[panel.timer].value == 1.0


def test_an_answer_that_comes_late_leaves_no_tab_asleep(idle: Studio, picture: Path) -> None:
    """What was looked up before Generate may reach the page after it: browsers get answers in any order."""
    panel = drawn(idle)
    tab = panel.places.drawn["phantom-wan"]
    column = tab.result
    late = tab.events.load({}, {})
    assert panel.browser not in late, "what Generate remembers is not written over"
    (job,) = idle.submit("phantom-wan", values(picture))
    browser = {"phantom-wan": job.batch}
    first = tab.events.tick(browser, {})
    assert first[column.timer].active and not late[column.timer].active, "what was looked up before stops the clock"
    seen = panel.look(browser, {}, first[column.seen])[panel.seen]
    assert panel.look(browser, seen, first[column.seen]) == gr.skip()
    woken = panel.look(browser, seen, late[column.seen])
    assert set(woken) == {column.timer} and woken[column.timer].active
    again = tab.events.tick(browser, late[column.seen])
    assert again[column.cancel]["visible"] and again[column.timer].active
    # One that was under way when the late one came tells all that the late one may have undone.
    idle.store.move(job.id, "running")
    under_way = tab.events.tick(browser, first[column.seen])
    assert under_way[column.cancel]["visible"] and under_way[column.timer].active


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a & b < c", "{{value}} ${value}", "☆ 狐"])
def test_what_people_wrote_reaches_the_page_as_it_is(idle: Studio, picture: Path, text: str) -> None:
    panel = drawn(idle)
    idle.submit("phantom-wan", values(picture, text))
    told = panel.look({}, {}, {})[panel.panel]
    assert "<" not in told and json.loads(told)["rows"][0]["title"] == text


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_strangers_see_and_do_nothing_with_each_others_clips(idle: Studio, picture: Path) -> None:
    public = replace(idle, settings=replace(idle.settings, public=True))
    (job,) = public.submit("phantom-wan", values(picture), owner="a" * 32)
    panel = drawn(public)
    stranger = {"owner": "b" * 32}
    shown = queue_rows.shown(public, owner="b" * 32)
    assert not shown["rows"] and not shown["pausing"] and not shown["news"]
    for name in ("cancel", "copy", "up", "remove", "pause", "retry"):
        panel.act(pressed(name, job.id), None, stranger, {}, {})
    assert public.store.get(job.id).state == "queued" and not public.store.paused
    assert panel.browser not in (panel.edit(pressed("edit", job.id), stranger, {}, {}) or {})


def test_what_was_not_made_hides_no_clip_and_can_be_tried_again(idle: Studio, picture: Path) -> None:
    panel = drawn(idle)
    tab = panel.places.drawn["phantom-wan"]
    column = tab.result
    (job,) = idle.submit("phantom-wan", values(picture))
    idle.store.move(job.id, "running")
    idle.store.move(job.id, "failed", failure=Failed(kind="OutOfMemory", message="No room."))
    browser = {"phantom-wan": job.batch}
    shown = tab.events.load(browser)
    assert shown[column.retry]["visible"] and shown[column.smaller]["value"] == "Try 64 × 64"
    tab.events.retry_smaller(None, browser, {})
    again = idle.store.get(job.id)
    assert (again.state, again.request["width"], again.request["height"]) == ("queued", 64, 64)
    assert tab.events.load(browser)[column.retry]["visible"] is False
    queue.pause(idle)
    idle.cancel(job.id)
    assert tab.events.load(browser)[column.retry]["visible"]
    assert tab.events.load(browser)[column.smaller]["visible"] is False
