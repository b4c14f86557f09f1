"""The length of a clip: one control in seconds, reckoned in the browser into frames that the model can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.types import EngineSpec
from studio.measures import CLIP_LENGTH
from studio.page.form import Form
from studio.page.plumbing import PRIVATE, page, script


@dataclass(frozen=True)
class Duration:
    """The slider of seconds, and the line that says what they come to."""

    seconds: gr.Slider
    caption: gr.HTML


def field(spec: EngineSpec, values: Mapping[str, Any]) -> gr.Slider:
    """The slider, holding the length of `values`; its range follows the model and the frame rate."""
    lengths, fps = spec.model(values["model"]).geometry.lengths, values["fps"]
    return gr.Slider(
        round(lengths[0] / fps, 2),
        round(lengths[-1] / fps, 2),
        step=round(lengths.step / fps, 4),
        value=round(values["frames"] / fps, 2),
        label="Duration (seconds)",
        buttons=[],
        elem_id=f"{spec.name}-seconds",
        interactive=True,
    )


def rules(spec: EngineSpec) -> dict[str, Any]:
    """What page.js has to know: the lengths that each model can make, and the sentences about them."""
    lengths = {model.name: model.geometry.lengths for model in spec.models}
    return {
        "models": {name: {"first": known[0], "step": known.step, "last": known[-1]} for name, known in lengths.items()},
        "field": f"{spec.name}-seconds",
        "sentences": {
            "length": CLIP_LENGTH,
            "most": "at most {seconds} s",
            "tooLong": "{asked} s is more than this model makes: set to {seconds} s.",
            "tooShort": "{asked} s is less than one frame: set to {seconds} s.",
        },
    }


def wire(form: Form, length: Duration, model: gr.Dropdown) -> None:
    """Seconds <-> frames, and what they come to in one line, in the browser alone."""
    known = rules(form.spec)
    frames, fps = form.component("frames"), form.component("fps")
    given = [length.seconds, fps, model, frames]
    both = [length.seconds, length.caption]
    length.seconds.input(None, given, [frames, length.caption], js=script("framesFromSeconds", known), **PRIVATE)
    changes = [page().load, frames.change, fps.change, model.change, length.seconds.release]
    gr.on(changes, None, given, both, js=script("secondsFromFrames", known), **PRIVATE)
