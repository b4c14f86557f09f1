"""Request field <-> gradio component: the only place that knows which component shows which type.

A Control is one declared field (or two that belong together, such as width and height) on the page. `read` turns what
its components hold into request values, `show` turns request values into what its components should hold.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.components import Component
from pydantic.fields import FieldInfo

from engines.errors import InvalidRequest, Problem
from engines.request import Reference, control
from engines.types import EngineSpec, ModelSpec
from studio import continuing
from studio.page import first_frame, slots

Read = Callable[[Sequence[Any]], dict[str, Any]]
Show = Callable[[Mapping[str, Any], ModelSpec], list[Any]]
TOGETHER = {"height": "width"}


@dataclass(frozen=True)
class Control:
    """One or two fields of a request on the page.

    Attributes:
        components: what holds its values, in the order that `read` and `show` use.
        follows_model: whether another model brings other choices or another default.
        board: the slots or the one picture, where the field holds pictures.
    """

    names: tuple[str, ...]
    components: list[Component]
    read: Read
    show: Show
    follows_model: bool = True
    board: slots.Board | first_frame.FirstFrame | None = None


def render(spec: EngineSpec, name: str, *, values: Mapping[str, Any]) -> Control:
    """Put the control of field `name` on the page, holding `values` of the engine's first model."""
    info, model = spec.request_type.model_fields[name], spec.model(values["model"])
    kind, optional = _kind(info)
    common = {"label": info.title, "elem_id": f"{spec.name}-{name}", "interactive": True}
    if name == "width":
        return _size(common, values, model)
    if name == "frames":
        return _frames(common, values, model)
    if kind is Reference:
        return _first_frame(spec, name, info, values)
    if Reference in typing.get_args(kind):
        return _pictures(spec, name, info, values)
    if kind is Path:
        return _earlier_clip(spec, name, info, values, common)
    if kind is bool:
        box = gr.Checkbox(value=values[name], info=info.description, **common)
        return _plain(name, box)
    if typing.get_origin(kind) is Literal:
        return _plain(name, gr.Dropdown(list(typing.get_args(kind)), value=values[name], **common))
    if kind in (int, float):
        return _number(name, info, kind, values, common)
    return _text(spec, name, info, values, common, optional=optional)


def _plain(name: str, component: Any, *, follows_model: bool = True) -> Control:
    return Control(
        (name,),
        [component],
        read=lambda raw: {name: raw[0]},
        show=lambda values, model: [gr.update(value=values[name])],
        follows_model=follows_model,
    )


def _text(
    spec: EngineSpec, name: str, info: FieldInfo, values: Mapping[str, Any], common: dict[str, Any], *, optional: bool
) -> Control:
    example = control(info)["placeholder"]
    box = gr.Textbox(
        value=values[name] or "",
        placeholder=example or info.description,
        info=info.description if example else None,
        lines=int(control(info)["lines"]),
        max_lines=8,
        **common,
    )
    return Control(
        (name,),
        [box],
        read=lambda raw: {name: raw[0] or None} if optional else {name: raw[0] or ""},
        show=lambda values, model: [gr.update(value=values[name] or "")],
        # A published text belongs to its checkpoint, what a person wrote does not.
        follows_model=any(name in model.defaults for model in spec.models),
    )


def _number(name: str, info: FieldInfo, kind: type, values: Mapping[str, Any], common: dict[str, Any]) -> Control:
    """A slider where both ends are near enough to slide between, else a number field."""
    low, high = bounds(info)
    extra, unit = control(info), control(info)["unit"]
    label = f"{info.title} ({unit})" if unit else info.title
    common |= {"label": label, "value": values[name]}
    step = extra["step"] or (1 if kind is int else None)
    if low is not None and high is not None and high - low <= 1000:
        field: Any = gr.Slider(low, high, step=step or (high - low) / 100, info=info.description, **common)
    else:
        field = gr.Number(minimum=low, maximum=high, precision=0 if kind is int else None, **common)
    return _plain(name, field, follows_model=extra["group"] != "seed")


def _size(common: dict[str, Any], values: Mapping[str, Any], model: ModelSpec) -> Control:
    """Width and height as one list of named sizes; another size may be typed in."""

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        given = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(\d+)\s*", str(raw[0]))
        if given is None:
            raise InvalidRequest([Problem("width", "Write the size as width x height, for example 96x64.")])
        return {"width": int(given[1]), "height": int(given[2])}

    def show(values: Mapping[str, Any], model: ModelSpec) -> list[Any]:
        return [gr.update(choices=size_choices(model), value=f"{values['width']}x{values['height']}")]

    box = gr.Dropdown(
        size_choices(model),
        value=f"{values['width']}x{values['height']}",
        allow_custom_value=True,
        **common | {"label": "Size"},
    )
    return Control(("width", "height"), [box], read, show)


def size_choices(model: ModelSpec) -> list[tuple[str, str]]:
    """Named sizes of a model: what people read, and the value behind it."""

    def shape(width: int, height: int) -> str:
        return "square" if width == height else "wide" if width > height else "tall"

    return [
        (f"{width} × {height} · {shape(width, height)}", f"{width}x{height}") for width, height in model.geometry.sizes
    ]


def _frames(common: dict[str, Any], values: Mapping[str, Any], model: ModelSpec) -> Control:
    """A slider that stops only at lengths the model can do."""

    def limits(model: ModelSpec) -> dict[str, Any]:
        return {"maximum": model.geometry.max_frames, "step": model.geometry.frame_stride}

    slider = gr.Slider(minimum=1, value=values["frames"], **limits(model), **common | {"label": "Frames"})
    return Control(
        ("frames",),
        [slider],
        read=lambda raw: {"frames": raw[0]},
        show=lambda values, model: [gr.update(value=values["frames"], **limits(model))],
    )


def _pictures(spec: EngineSpec, name: str, info: FieldInfo, values: Mapping[str, Any]) -> Control:
    """Numbered slots for reference pictures."""
    count = spec.max_references
    board = slots.render(
        f"{spec.name}-{name}",
        label=info.title or name,
        help_=info.description or "",
        count=count,
        references=list(values[name] or ()),
        canvas=(values["width"], values["height"]),
    )

    return Control(
        (name,),
        list(board),
        read=lambda raw: {name: slots.read(raw)},
        show=lambda values, model: slots.show(list(values[name] or ()), count=count),
        follows_model=False,
        board=board,
    )


def _first_frame(spec: EngineSpec, name: str, info: FieldInfo, values: Mapping[str, Any]) -> Control:
    """A field of a single picture: it fills the frame, so its crop is shown."""
    board = first_frame.render(
        f"{spec.name}-{name}",
        label=info.title or name,
        help_=info.description or "",
        reference=values[name],
        frame=(values["width"], values["height"]),
    )
    return Control(
        (name,),
        list(board),
        read=lambda raw: {name: first_frame.read(raw)},
        show=lambda values, model: first_frame.show(values[name]),
        follows_model=False,
        board=board,
    )


def _earlier_clip(
    spec: EngineSpec, name: str, info: FieldInfo, values: Mapping[str, Any], common: dict[str, Any]
) -> Control:
    """A list of the clips that can be continued, by the ids of their jobs; the tab fills it for each visitor."""

    def show(values: Mapping[str, Any], model: ModelSpec) -> list[Any]:
        chosen = continuing.job_id(spec, values[name])
        if not chosen:
            return [gr.update(value="")]
        return [gr.update(choices=[continuing.NOTHING, (f"The clip {chosen}", chosen)], value=chosen)]

    box = gr.Dropdown([continuing.NOTHING], value="", info=info.description, filterable=False, **common)
    return Control((name,), [box], read=lambda raw: {name: raw[0] or None}, show=show, follows_model=False)


def bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Smallest and largest value of a field, None where it has none."""
    low = next((bound.ge for bound in info.metadata if hasattr(bound, "ge")), None)
    high = next((bound.le for bound in info.metadata if hasattr(bound, "le")), None)
    return low, high


def _kind(info: FieldInfo) -> tuple[Any, bool]:
    """The type of a field without "or None", and whether None is allowed."""
    if typing.get_origin(info.annotation) in (typing.Union, types.UnionType):
        (kind,) = [option for option in typing.get_args(info.annotation) if option is not type(None)]
        return kind, True
    return info.annotation, False
