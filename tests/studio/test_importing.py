"""What the forms take of the settings that videos tell: ours and others', each value checked alone."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from engines.media.foreign import Told
from engines.media.metadata import Metadata
from engines.registry import SPECS
from studio import importing
from studio.page import engine_tabs, history_import
from studio.page.history_import import Importing
from studio.service import Studio
from tests.engines.test_foreign import WAN2GP, video
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN

PARAMETERS = {
    "model": "starter", "prompt": "a star", "seed": 9, "steps": 7, "frames": 17, "width": 96, "height": 64,
    "references": [{"path": "secret.png"}], "written_prompt": "x", "old_knob": 3,
}  # fmt: skip
OURS = Metadata(engine="phantom-wan", model="starter", parameters=PARAMETERS, prompt="a star", seed=9)


def test_everything_of_our_own_clip_comes_back_but_its_files() -> None:
    told = Told("Kinora", own=OURS)
    assert importing.engine_of(told, SPECS) == "phantom-wan"
    found = importing.values(told, SPECS["phantom-wan"])
    assert found.values.items() >= {"prompt": "a star", "seed": 9, "steps": 7, "frames": 17, "width": 96}.items()
    assert "references" not in found.values and "secret" not in str(found) and found.left == ()


def test_an_edited_clip_tells_what_it_was_before() -> None:
    edited = Metadata(
        engine="edit/trim", model="starter", parameters={"start": 1}, seed=9,
        made_from=[{"engine": "edit/reverse", "parameters": {}, "seed": 9, "model": "starter",
                    "made_from": [OURS.model_dump(mode="json")]}],
    )  # fmt: skip
    told = Told("Kinora", own=edited)
    assert importing.engine_of(told, SPECS) == "phantom-wan"
    assert importing.values(told, SPECS["phantom-wan"]).values["steps"] == 7
    odd = edited.model_copy(update={"made_from": [{"engine": 3}]})
    assert importing.engine_of(Told("Kinora", own=odd), SPECS) == ""


@pytest.mark.parametrize("engine", sorted(SPECS))
def test_what_does_not_fit_is_named_and_left_out(engine: str) -> None:
    settings = {"prompt": "a fox", "seed": 5, "steps": 9_999, "frames": 80, "width": 7, "height": 480}
    found = importing.values(Told("Wan2GP", settings), SPECS[engine])
    assert found.values["prompt"] == "a fox" and found.values["seed"] == 5
    model = SPECS[engine].model(found.values["model"])
    assert found.values["frames"] in model.geometry.lengths
    assert "width" not in found.values and "Width" in found.left and "Height" in found.left
    if "steps" in SPECS[engine].request_type.model_fields:
        assert "Steps" in found.sentence and "steps" not in found.values
    for odd in ({"seed": -5}, {"seed": 2**40}, {"prompt": "x" * 9_000}, {"frames": 0}, {"seed": 1.5}):
        importing.values(Told("x", odd), SPECS[engine])


def test_a_dropped_video_fills_the_form(idle: Studio, tmp_path: Path) -> None:
    folder = Path(get_upload_folder()) / "dropped"
    folder.mkdir(parents=True, exist_ok=True)
    path = video(folder / "wan.mp4", {"comment": json.dumps(WAN2GP | {"prompt": "<b>a fox</b>"})})
    with gr.Blocks(analytics_enabled=False):
        browser = gr.BrowserState({})
        with gr.Tabs() as tabs:
            drawn = [engine_tabs.render(idle, "Image to video", [idle.specs["flashi2v"]], browser=browser)]
        reader = history_import.render(idle)
    events = Importing(idle, engine_tabs.Places(tabs, drawn), reader)
    payload = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    shown = events.read([payload])
    assert "Wan2GP" in shown[reader.said] and "&lt;b&gt;a fox" in shown[reader.said]
    assert shown[reader.engine]["visible"] and shown[reader.use]["visible"]
    assert "FlashI2V" in events.into([payload], "flashi2v")
    updates = events.use(payload, "flashi2v")
    form = drawn[0].tabs["flashi2v"].form
    assert updates[tabs]["selected"] == "flashi2v"
    assert updates[form.component("prompt")]["value"] == "<b>a fox</b>"
    assert updates[form.component("seed")]["value"] == 123456789

    plain = video(folder / "plain.mp4", {"title": "holiday"})
    shown = events.read({"path": str(plain)})
    assert "tells nothing" in shown[reader.said] and not shown[reader.use]["visible"]
    (folder / "text.mp4").write_text("no video")
    assert "not a video" in events.read({"path": str(folder / "text.mp4")})[reader.said]
    elsewhere = video(tmp_path / "wan.mp4", {"comment": json.dumps(WAN2GP)})
    assert not events.read({"path": str(elsewhere)})[reader.use]["visible"], "only uploads are read"
    assert events.use({"path": str(plain)}, "flashi2v") == gr.skip()
