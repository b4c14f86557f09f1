"""The strip below a given clip follows the form: which frames are used is told before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.registry import SPECS
from studio.page import clip_strip, tab
from studio.page.uploads import served
from studio.service import Studio
from tests.engines.test_excerpt import write
from tests.studio.conftest import LOOPS_LEFT_OPEN

SPEC = SPECS["phantom-physics"]
pytestmark = LOOPS_LEFT_OPEN


def test_it_says_what_the_engine_will_take(tmp_path: Path) -> None:
    clip = {"video": {"path": served(write(tmp_path / "a.mp4", 30))}}

    def look(*raw: Any, file: Any = clip) -> str:
        return clip_strip.look(SPEC, "clip", file, *raw)

    assert "frames 2 to 30 of 30" in look(100, 45, 121, 24) and "data:image/png" in look(100, 45, 121, 24)
    assert "frames 1 to 9 of 30" in look(0, 9, 121, 24)
    assert "frames 26 to 30 of 30" in look(100, 45, 9, 24), "always fewer than the new clip has"
    assert "taken at 12 a second from 24" in look(100, 45, 121, 12)
    assert look(100, 45, 121, 24, file=None) == look(100, 45, None, 24) == look(100, 45, 121, 0) == ""
    assert look(100, 45, 1, 24) == look(100, 45, "many", 24) == "", "no such clip can be made"


def test_a_clip_that_cannot_be_used_has_its_sentence(tmp_path: Path) -> None:
    short = {"path": served(write(tmp_path / "a.mp4", 3))}
    told = clip_strip.look(SPEC, "clip", short, 100, 45, 121, 24)
    assert "only 3 frames" in told and 'class="problem"' in told
    text = tmp_path / "notes.mp4"
    text.write_text("no video <b>")
    told = clip_strip.look(SPEC, "clip", {"path": served(text)}, 100, 45, 121, 24)
    assert "is not a video" in told and "<b>" not in told
    assert clip_strip.look(SPEC, "clip", {"path": str(text)}, 100, 45, 121, 24) == "", "no upload of this page's"


@pytest.mark.parametrize("name", SPECS)
def test_every_engine_that_takes_a_clip_shows_what_it_uses(idle: Studio, name: str) -> None:
    with gr.Blocks(analytics_enabled=False) as blocks:
        form = tab.render(idle, SPECS[name], browser=gr.BrowserState({})).form
    held = SPECS[name].field_of("clip")
    strips = [control.strip for control in form.controls if control.strip is not None]
    assert len(strips) == (held is not None)
    for strip in strips:
        (event,) = (one for one in blocks.fns.values() if strip in one.outputs)
        told = {blocks.blocks[component] for component, _ in event.targets}
        assert told >= {*form.control(held).components, form.component("frames"), form.component("fps")}
