"""The length of a clip in seconds: another way to set its frames, reckoned in the browser from the declared lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.types import EngineSpec
from studio.measures import CLIP_LENGTH, FRAME_SIZE
from studio.page.form import Form
from studio.page.plumbing import PRIVATE, page, script


@dataclass(frozen=True)
class Duration:
    """The field for seconds, and the line that says what they come to."""

    seconds: gr.Number
    caption: gr.HTML


def field(spec: EngineSpec, values: Mapping[str, Any]) -> gr.Number:
    """The field for seconds, holding the length of `values`."""
    return gr.Number(
        round(values["frames"] / values["fps"], 2), label="Duration (s)", minimum=0, step=0.1, min_width=100,
        elem_id=f"{spec.name}-seconds", interactive=True,
    )  # fmt: skip


def rules(spec: EngineSpec) -> dict[str, Any]:
    """What page.js has to know: the lengths that each model can make, and the sentences about them."""
    lengths = {model.name: model.geometry.lengths for model in spec.models}
    return {
        "models": {
            name: {"first": known[0], "step": known.step, "last": known[-1], "unit": spec.keeps_parts}
            for name, known in lengths.items()
        },
        "sentences": {
            "length": CLIP_LENGTH,
            "size": FRAME_SIZE,
            "unit": "{units} unit",
            "units": "{units} units",
            "most": "at most {seconds} s",
            "tooLong": "{asked} s is more than this model makes: set to {seconds} s.",
            "tooShort": "A clip needs a length: set to {seconds} s.",
        },
    }


def wire(form: Form, length: Duration, model: gr.Dropdown) -> None:
    """Seconds <-> frames, and what they come to in one line, in the browser alone."""
    known = rules(form.spec)
    frames, fps, size = (form.component(name) for name in ("frames", "fps", "width"))
    given = [length.seconds, fps, model, frames, size]
    both = [length.seconds, length.caption]
    length.seconds.input(None, given[:4], frames, js=script("framesFromSeconds", known), **PRIVATE)
    length.seconds.blur(None, given, both, js=script("settledSeconds", known), **PRIVATE)
    changes = [page().load, frames.change, fps.change, size.change]
    gr.on(changes, None, given, both, js=script("secondsFromFrames", known), **PRIVATE)
