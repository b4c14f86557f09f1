"""One choice of what a clip starts from, in place of separate fields: nothing, a picture, a clip to go on from.

Only the chosen field stands on the page and counts. What is in another one stays there, for whoever comes back to it.
Where a clip is gone on from, a list says how much of it is kept: all, or what comes before one of its scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from pydantic.fields import FieldInfo

from engines.inputs import entries, starts
from engines.request import control
from engines.types import EngineSpec, ModelSpec
from studio.measures import clip_seconds
from studio.page.form_control import Control
from studio.page.plumbing import HIDDEN, PRIVATE, first_look, page, script

if TYPE_CHECKING:
    from studio.page.tab_events import TabEvents

NOTHING = ""
_KEY = "start from"  # what the choice is called where forms are kept; no field of a request


def render(spec: EngineSpec, values: Mapping[str, Any]) -> Control:
    """Draw the choice; the fields follow it, each in an element of `place`."""
    declared = starts(spec.request_type)

    def chosen(values: Mapping[str, Any]) -> str:
        return next((name for name in declared if entries(values.get(name))), NOTHING)

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        fields = spec.request_type.model_fields
        unused = [name for name in declared if name != raw[0]]
        unused += [name for name, info in fields.items() if control(info).get("of") in unused]
        return {name: fields[name].get_default() for name in unused}

    choices = [("Nothing", NOTHING), *((one.start.capitalize(), name) for name, one in declared.items())]
    choice = gr.Radio(
        choices, value=chosen(values), label="Start from", elem_id=f"{spec.name}-start", elem_classes="start-from",
        interactive=True,
    )  # fmt: skip
    return Control((_KEY, *declared), [choice], read, lambda values, _: [chosen(values)], follows_model=False)


def place(spec: EngineSpec, name: str) -> gr.Column:
    """Where the field `name` stands, seen while it is chosen; what it holds is not taken off the page."""
    number = [*starts(spec.request_type)].index(name) + 1
    return gr.Column(elem_classes=["start", f"start-{number}"])


def kept(spec: EngineSpec, name: str, info: FieldInfo, values: Mapping[str, Any], common: dict[str, Any]) -> Control:
    """The list of how much of a clip is kept, by the frames; `wire` fills it with the scenes of the form."""
    everything = int(info.get_default())

    def show(values: Mapping[str, Any], model: ModelSpec) -> list[Any]:
        return [gr.update(choices=choices({}, 0, int(values[name])), value=values[name])]

    box = gr.Dropdown(
        choices({}, 0, int(values[name])), value=values[name], info="What follows is made anew, as the scenes say.",
        filterable=False, **common,
    )  # fmt: skip

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        return {name: everything if raw[0] is None else raw[0]}

    return Control((name,), [box], read, show, follows_model=False)


def choices(cuts: Mapping[int, int], fps: int, held: int) -> list[tuple[str, int]]:
    """What of a clip can be kept: all, or the frames before each scene from the second on; what is `held` stays one."""
    found = [("All of it: go on at its end", 0)]
    found += [(f"{frames}: redo from scene {number}, at {clip_seconds(frames, fps)} s", frames)
              for number, frames in cuts.items() if frames]  # fmt: skip
    return found if held in [value for _, value in found] else [*found, (f"{held} frames", held)]


def wire(events: TabEvents) -> None:
    """A field that is filled becomes the choice; the list of what is kept follows the scenes, and they show it."""
    form = events.form
    declared = starts(form.spec.request_type)
    for control_ in form.controls:
        if control_.names[0] == _KEY:
            (choice,) = control_.components
            for name in declared:
                filled = form.component(name)
                filled.change(None, [filled, choice], choice, js=script("startFrom", name), **PRIVATE)
    for name, info in form.spec.request_type.model_fields.items():
        owner = declared.get(str(control(info).get("of")))
        if owner is not None and owner.kind == "earlier job":
            _wire_kept(events, name)


def _wire_kept(events: TabEvents, name: str) -> None:
    form = events.form
    owner = str(control(form.spec.request_type.model_fields[name])["of"])
    slack = min(model.geometry.frame_stride for model in form.spec.models) / 2
    box, earlier = form.component(name), form.component(str(form.spec.field_of("earlier job")))
    for text in form.spec.cuts:
        said = [form.component(one) for one in (text, "frames", "fps")]
        gr.on(
            [*first_look(), earlier.change, *(one.change for one in said)], events.can_be_kept,
            [events.browser, earlier, box, *said], box, preprocess=False, **HIDDEN,
        )  # fmt: skip
        elem_id = f"{form.spec.name}-{text}"
        counts = [form.component(one) for one in ("fps", _KEY)]
        gr.on(
            [page().load, box.change, *(one.change for one in counts)], None, [box, *counts], None,
            js=script("keptScenes", elem_id, owner, slack), **PRIVATE,
        )  # fmt: skip
