"""One choice of what a clip starts from: what counts, what is kept of an earlier clip, and which scenes that leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.inputs import starts
from engines.registry import SPECS
from studio.page import controls, start_from, tab
from studio.page.form import Form
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.node import called, needs_node

SPEC = SPECS["pyramid-flow"]
pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture
def form(idle: Studio) -> Form:
    with gr.Blocks(analytics_enabled=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls.examples, "of", lambda spec: [])
        return tab.render(idle, SPEC, browser=gr.BrowserState({})).form


def read(form: Form, **held: Any) -> dict[str, Any]:
    """The request values of the fields that a clip can start from, and of what is said of them, for what is held."""
    names = {"first_picture", "continues", "kept_frames"}
    raw = [component.value for component in form.components]
    for name, value in held.items():
        raw[form.components.index(form.component(name.replace("_from", " from")))] = value
    return {name: value for name, value in form.read(raw).items() if name in names}


def test_only_what_is_chosen_counts_and_the_rest_stays(form: Form, picture: Path) -> None:
    from studio.page.uploads import served

    given = {"first_picture": {"path": served(picture)}, "continues": "a-job", "kept_frames": 9}
    nothing = {"first_picture": None, "continues": None, "kept_frames": 0}
    assert read(form, **given, start_from="") == nothing
    assert read(form, **given, start_from="continues") == nothing | {"continues": "a-job", "kept_frames": 9}
    chosen = read(form, **given, start_from="first_picture")
    assert chosen["first_picture"]["path"] and (chosen["continues"], chosen["kept_frames"]) == (None, 0)
    assert read(form, **given, start_from=["nonsense"]) == nothing


def test_settings_put_back_choose_what_they_start_from(form: Form, picture: Path) -> None:
    choice, values = form.component("start from"), SPEC.default_values("starter")
    assert form.show(values)[choice] == ""
    assert form.show(values | {"first_picture": {"path": str(picture)}})[choice] == "first_picture"
    shown = form.show(values | {"continues": "a-job", "kept_frames": 9})
    assert shown[choice] == "continues" and shown[form.component("kept_frames")]["value"] == 9
    assert list(starts(SPEC.request_type)) == ["first_picture", "continues"]


def test_what_can_be_kept_is_said_by_scenes_and_what_is_held_stays() -> None:
    found = start_from.choices({1: 0, 2: 9, 4: 25}, 12, 0)
    assert [value for _, value in found] == [0, 9, 25]
    assert found[1][0] == "9: redo from scene 2, at 0.75 s" and "scene 4" in found[2][0]
    assert start_from.choices({2: 9}, 12, 17)[-1] == ("17 frames", 17), "somebody said so, the API for one"


@needs_node
def test_a_field_that_is_filled_is_chosen() -> None:
    said = [("startFrom", ["continues", held, ""]) for held in ("a-job", "", None, [], {"path": "x"})]
    assert called(*said) == ["continues", "", "", "", "continues"]
