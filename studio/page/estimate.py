"""The line above Generate that says what the clip will take, before it is made, and the button of the smaller one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from engines.errors import StudioError
from studio import estimating
from studio.page import markup, plumbing
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, Updates, changed
from studio.service import Studio

# Fields that decide what a clip takes. Others are not even sent.
_DECIDE = {"model", "width", "frames", "steps", "references", "picture", "clip", "first_picture", "physics_scale"}


@dataclass(frozen=True)
class EstimateLine:
    """What stands above Generate: the line, and the button of the smaller clip with the fields that it sets."""

    line: gr.HTML
    smaller: gr.Button
    changes: gr.State


def render(name: str) -> EstimateLine:
    """Draw the line of the engine `name`, with nothing to say yet."""
    with gr.Row(elem_classes="estimate"):
        line = gr.HTML(elem_id=f"{name}-estimate", elem_classes="hint")
        smaller = gr.Button("", size="sm", min_width=60, visible=False, elem_id=f"{name}-fit")
    return EstimateLine(line, smaller, gr.State({}))


def wire(studio: Studio, form: Form, shown: EstimateLine) -> None:
    """Say it anew whenever something changes that decides it."""
    part = deciding(form)
    changes = [component.change for component in part.components if hasattr(component, "change")]
    outputs = [shown.line, shown.smaller, shown.changes]
    gr.on(
        [*plumbing.first_look(), *changes], partial(look, studio, part, shown), part.components, outputs,
        preprocess=False, **HIDDEN,
    )  # fmt: skip
    sized = [component for control in part.controls if {"width", "frames"} & {*control.names}
             for component in control.components]  # fmt: skip
    shown.smaller.click(partial(shrink, part), [shown.changes, *part.components], sized, preprocess=False, **HIDDEN)


def deciding(form: Form) -> Form:
    """The part of a form that decides what its clip takes."""
    return Form(form.spec, [control for control in form.controls if not _DECIDE.isdisjoint(control.names)])


def look(studio: Studio, part: Form, shown: EstimateLine, *raw: Any) -> Updates:
    """What the clip of the form as it stands will take; nothing while that cannot be said."""
    nothing: Updates = {shown.line: "", shown.smaller: gr.update(visible=False), shown.changes: {}}
    try:
        request = estimating.request_of(part.spec, part.read(raw))
    except StudioError:  # something is being typed
        return nothing
    found = studio.outlook(part.spec, request) if request is not None else None
    if found is None or not found.sentence:
        return nothing
    line = markup.estimate(found.colour, found.sentence)
    button = gr.update(value=f"Use {found.offer}", visible=bool(found.offer))
    return {shown.line: line, shown.smaller: button, shown.changes: dict(found.smaller or {})}


def shrink(part: Form, changes: Any, *raw: Any) -> Any:
    """The size and length of the smaller clip."""
    if not isinstance(changes, dict) or not changes:
        return gr.skip()
    try:
        values = part.spec.default_values(str(part.read(raw).get("model"))) | part.read(raw)
    except (StudioError, KeyError):
        return gr.skip()
    known = {name: value for name, value in changes.items() if name in ("width", "height", "frames")}
    return changed(part.show(values | known, names={"width", "frames"}))
