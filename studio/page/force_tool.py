"""A force drawn on the picture that a clip begins with: press where it pushes, drag where to; or a wind everywhere.

Seen only where the chosen model's checkpoint takes one. The arrow is drawn and dragged by force.js; the numbers beside
it hold the request's own fields, so that it can be typed too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.request import bounds, control
from engines.types import EngineSpec
from studio.page import markup
from studio.page.plumbing import HIDDEN, PRIVATE, first_look, script
from studio.service import Studio

KIND = "force"
NUMBERS = ("force_x", "force_y", "force_angle", "force_strength")
AT_A_POINT = NUMBERS[:2]
_TITLES = {"none": "None", "point": "At a point", "wind": "Wind"}
_HELP = "In the picture, press where it pushes and drag where to: the longer the arrow, the stronger it is."


@dataclass(frozen=True)
class ForceTool:
    """The kind of force, its numbers by field, and what holds them all."""

    kind: gr.Radio
    numbers: Mapping[str, gr.Number]
    area: gr.Accordion

    @property
    def components(self) -> list[Component]:
        """What holds the fields' values: the kind, then the numbers."""
        return [self.kind, *self.numbers.values()]


def render(spec: EngineSpec, values: Mapping[str, Any]) -> ForceTool:
    """Draw it, holding `values`; `wire` decides whether it is seen."""
    info = spec.request_type.model_fields[KIND]
    title, held = info.title or KIND, values[KIND]
    opened: dict[str, Any] = {"open": held != "none", "elem_classes": "fold", "elem_id": f"{spec.name}-{KIND}-fold"}
    with gr.Accordion(title, visible=False, **opened) as area:
        gr.HTML(markup.lines([markup.Line(info.description or "")]), elem_classes="hint")
        kind = gr.Radio(
            choices([held]), value=held, label=title, show_label=False, container=False, interactive=True,
            elem_id=f"{spec.name}-{KIND}",
        )  # fmt: skip
        with gr.Column(visible=held != "none", elem_classes="force-numbers") as row:
            numbers = {name: _number(spec, name, values[name]) for name in NUMBERS}
        for name in AT_A_POINT:
            numbers[name].visible = held == "point"
        gr.HTML(markup.lines([markup.Line(_HELP)]), elem_classes="hint")
    shown = [area, row, *(numbers[name] for name in AT_A_POINT)]
    kind.change(_of_kind, kind, shown, preprocess=False, **HIDDEN)
    return ForceTool(kind, numbers, area)


def _of_kind(held: Any) -> list[Any]:
    """The line, the numbers, and those of a point alone, for a kind of force."""
    pushes = held not in (None, "none")
    return [gr.update(open=True) if pushes else gr.skip(), gr.update(visible=pushes)] + 2 * [
        gr.update(visible=held == "point")
    ]


def choices(taken: list[str]) -> list[tuple[str, str]]:
    """What can be chosen where these kinds are taken: what people read, and the value behind it."""
    return [(_TITLES.get(one, one), one) for one in dict.fromkeys(["none", *taken])]


def wire(
    studio: Studio, spec: EngineSpec, tool: ForceTool, *, chosen: gr.Dropdown, picture: str, view: gr.HTML
) -> None:
    """Follow the model, and keep the arrow on the picture.

    Args:
        picture: the id of the field with the picture; `view` shows it.
    """
    first = offered(studio, spec, chosen.value, tool.kind.value)
    tool.area.visible, tool.kind.choices = first[0]["visible"], first[1]["choices"]
    follow = partial(offered, studio, spec)
    # Unprocessed: which kinds there are to choose changes with the model.
    chosen.change(follow, [chosen, tool.kind], [tool.area, tool.kind], preprocess=False, **HIDDEN)
    places = {"picture": picture, "fields": {name: f"{spec.name}-{name}" for name in NUMBERS}}
    held = [tool.kind, *tool.numbers.values()]
    gr.on(
        [*first_look(), view.change, *(component.change for component in held)], None, held, None,
        js=script("showForce", places), **PRIVATE,
    )  # fmt: skip


def offered(studio: Studio, spec: EngineSpec, model: Any, held: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whether the tool is seen for a model, and which kinds it offers; one that the model does not take is let go."""
    known = any(one.name == model for one in spec.models)
    taken = studio.file_choices(spec, model, KIND) if known else []
    value = held if held in taken else "none"
    return gr.update(visible=bool(taken)), gr.update(choices=choices(taken), value=value)


def _number(spec: EngineSpec, name: str, value: Any) -> gr.Number:
    info = spec.request_type.model_fields[name]
    low, high = bounds(info)
    unit, step = control(info)["unit"], control(info)["step"]
    return gr.Number(
        value=value, minimum=low, maximum=high, step=step, min_width=90, interactive=True,
        label=f"{info.title} ({unit})" if unit else info.title, elem_id=f"{spec.name}-{name}",
    )  # fmt: skip
