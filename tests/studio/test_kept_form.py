"""What a browser kept of the forms fills them again; what is not valid any more, or never was, changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.registry import SPECS
from studio.page import engine_tabs, kept_form
from studio.page.engine_tabs import EngineTab
from studio.page.uploads import served
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.node import called, needs_node

pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture
def subject(idle: Studio) -> EngineTab:
    specs = [SPECS["phantom-wan"], SPECS["bindweave"]]
    with gr.Blocks(analytics_enabled=False):
        return engine_tabs.render(idle, "Subject references", specs, browser=gr.BrowserState())


def kept(tab: EngineTab, **given: Any) -> dict[str, Any]:
    """What the browser keeps of the first form, with some controls holding something else."""
    form = tab.tabs["phantom-wan"].form
    held = {control.names[0]: [component.value for component in control.components] for control in form.controls}
    return {"forms": {"phantom-wan": held | given}, "engines": {}, "tab": ""}


def test_what_was_set_stands_there_again(subject: EngineTab, picture: Path) -> None:
    drawn, there = subject.tabs["phantom-wan"], {"path": served(picture)}
    stored = kept(
        subject, prompt=["a red fox"], seed=[7, False], model=["14B"], width=["832x480"], variations=[3], steps=[33],
        references=[None, True, "", there, False, "+3 40,10", None, True, "", None, True, ""], frames=[49],
    )  # fmt: skip
    stored["engines"] = {subject.id: "bindweave"}
    shown = kept_form.filled([subject], stored)
    form = drawn.form
    raw = [shown.get(component, component.value) for component in form.components]
    values = form.read([one["value"] if isinstance(one, dict) and "value" in one else one for one in raw])
    assert (values["prompt"], values["seed"], values["model"], values["steps"]) == ("a red fox", 7, "14B", 33)
    assert (values["width"], values["height"], values["frames"]) == (832, 480, 49)
    first = form.control("references").components
    assert shown[first[0]] and not shown[first[1]], "empty places close up, the picture keeps its own settings"
    assert shown[drawn.controls.variations] == 3
    assert shown[subject.shown] == "bindweave"


@pytest.mark.parametrize(
    "nonsense",
    [
        None, 5, "x", [], {"forms": 3}, {"forms": {"phantom-wan": []}}, {"engines": {"phantom-wan": "none"}},
        {"forms": {"gone": {"prompt": ["x"]}}},
    ],
)  # fmt: skip
def test_nonsense_changes_nothing(subject: EngineTab, nonsense: Any) -> None:
    assert kept_form.filled([subject], nonsense) == {}


def test_each_control_is_taken_by_itself(subject: EngineTab) -> None:
    form = subject.tabs["phantom-wan"].form
    bad = {
        "model": ["gone"], "width": ["wide"], "steps": ["many"], "seed": [-7, False], "negative_prompt": [5],
        "frames": [None], "references": [1, 2], "variations": [99], "fps": [[]],
    }  # fmt: skip
    shown = kept_form.filled([subject], kept(subject, **bad, prompt=["a fox"]))
    assert shown[form.component("prompt")]["value"] == "a fox"
    for name in bad.keys() - {"model", "variations"}:
        assert form.component(name) not in shown, name
    assert shown.get(form.component("model")) in (None, form.spec.models[0].name)


@needs_node
def test_the_browser_keeps_values_by_control(subject: EngineTab) -> None:
    form = subject.tabs["phantom-wan"].form
    layout = kept_form.layout(form)
    values = list(range(len(form.components) + 1))
    (held,) = called(("byControl", [layout, values]))
    assert [value for found in held.values() for value in found] == values
    assert len(held["references"]) == 3 * 4 and held["variations"] == [values[-1]]
