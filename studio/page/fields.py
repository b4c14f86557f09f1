"""Request field <-> gradio component: the only place that knows which component shows which type.

A Control is one declared field (or two that belong together, such as width and height) on the page. `read` turns what
its components hold into request values, `show` turns request values into what its components should hold.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from pydantic.fields import FieldInfo

from engines.errors import InvalidRequest, Problem
from engines.inputs import Media, entries, media_of
from engines.request import MAX_SEED, RANDOM_SEED, bounds, control
from engines.types import EngineSpec, ModelSpec, Size
from studio import continuing
from studio.measures import frame_size, shape
from studio.page import adapter_list, first_frame, force_tool, markup, parts, scenes, slots, start_from
from studio.page.form_control import Control
from studio.page.plumbing import HIDDEN, PRIVATE, first_look, script
from studio.page.uploads import received, served

# Fields that have no control of their own, and the one whose control holds them.
TOGETHER = {"height": "width"} | dict.fromkeys(force_tool.NUMBERS, force_tool.KIND)


def render(spec: EngineSpec, name: str, *, values: Mapping[str, Any], adapters: Path | None = None) -> Control:
    """Put the control of field `name` on the page, holding `values` of the engine's first model.

    Args:
        adapters: the folder that adapters are chosen from.
    """
    info, model = spec.request_type.model_fields[name], spec.model(values["model"])
    kind, optional = _kind(info)
    common = {"label": info.title, "elem_id": f"{spec.name}-{name}", "interactive": True}
    if name == "width":
        return _size(common, values, model)
    if name == "frames":
        return _frames(common, values, model)
    if name == "seed":
        return _seed(common, values)
    if name == force_tool.KIND:
        return _force(spec, values)
    declared = media_of(info)
    if declared and declared.kind == "adapter" and declared.most > 1:
        return _adapters(spec, name, info, declared, values, adapters)
    if control(info).get("of"):
        return start_from.kept(spec, name, info, values, common)
    if declared:
        return _files(spec, name, info, declared, values, common)
    if kind is bool:
        box = gr.Checkbox(value=values[name], info=info.description, **common)
        return _plain(name, box)
    if typing.get_origin(kind) is Literal:
        choices = list(typing.get_args(kind))
        return _plain(name, gr.Dropdown(choices, value=values[name], info=info.description, **common))
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
    if control(info)["hidden"]:
        return _plain(name, gr.Textbox(value=values[name], visible=False), follows_model=False)
    example = control(info)["placeholder"]
    plain = control(info)["scenes"]
    if plain is not None:
        box = scenes.render(info, plain, value=values[name] or "", elem_id=common["elem_id"])
        return _plain(name, box, follows_model=False)
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
    return _plain(name, field)


def _size(common: dict[str, Any], values: Mapping[str, Any], model: ModelSpec) -> Control:
    """Width and height as one list of named sizes; another size may be typed in."""

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        try:
            return Size.parse(raw[0])._asdict()
        except ValueError as error:
            raise InvalidRequest([Problem("width", str(error))]) from None

    def show(values: Mapping[str, Any], model: ModelSpec) -> list[Any]:
        return [gr.update(choices=size_choices(model), value=str(Size(values["width"], values["height"])))]

    box = gr.Dropdown(
        size_choices(model),
        value=str(Size(values["width"], values["height"])),
        allow_custom_value=True,
        **common | {"label": "Size"},
    )
    return Control(("width", "height"), [box], read, show)


def size_choices(model: ModelSpec) -> list[tuple[str, str]]:
    """Named sizes of a model: what people read, and the value behind it."""

    return [
        (f"{frame_size(width, height)} · {shape(width, height)}", str(Size(width, height)))
        for width, height in model.geometry.sizes
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


def _seed(common: dict[str, Any], values: Mapping[str, Any]) -> Control:
    """A number, and the switch that draws a new one for every clip instead."""

    def shown(seed: Any) -> dict[str, Any]:
        return {"value": None if seed == RANDOM_SEED else seed, "interactive": seed != RANDOM_SEED}

    number = gr.Number(
        minimum=0, maximum=MAX_SEED, precision=0, placeholder="drawn anew", min_width=120,
        **common | shown(values["seed"]),
    )  # fmt: skip
    switch = gr.Checkbox(
        value=values["seed"] == RANDOM_SEED, label="Random seed", elem_id=f"{common['elem_id']}-random",
        interactive=True, min_width=120,
    )  # fmt: skip
    switch.input(None, [switch, number], number, js=script("seedField", MAX_SEED), **PRIVATE)
    gr.on(first_look(), None, [switch, number], number, js=script("undrawnSeed"), **PRIVATE)
    return Control(
        ("seed",),
        [number, switch],
        read=lambda raw: {"seed": RANDOM_SEED if raw[1] else raw[0]},
        show=lambda values, model: [gr.update(**shown(values["seed"])), values["seed"] == RANDOM_SEED],
        follows_model=False,
    )


def _force(spec: EngineSpec, values: Mapping[str, Any]) -> Control:
    """A force and its numbers: the model's checkpoint decides whether they are seen."""
    tool, names = force_tool.render(spec, values), (force_tool.KIND, *force_tool.NUMBERS)
    return Control(
        names,
        tool.components,
        read=lambda raw: dict(zip(names, (raw[0] or "none", *raw[1:]), strict=True)),
        show=lambda values, model: [gr.update(value=values[name]) for name in names],
        follows_model=False,
        tool=tool,
    )


def _files(
    spec: EngineSpec, name: str, info: FieldInfo, declared: Media, values: Mapping[str, Any], common: dict[str, Any]
) -> Control:
    """The control of a field of files: its kind decides which one, its parts what can be changed in it."""
    match declared.kind:
        case "subject":
            return _subjects(spec, name, info, declared, values)
        case "first frame" | "mask":
            return _first_frame(spec, name, info, declared, values)
        case "earlier job":
            return _earlier_clip(spec, name, info, values, common)
    return _upload(spec, name, info, declared, values)


def _subjects(spec: EngineSpec, name: str, info: FieldInfo, declared: Media, values: Mapping[str, Any]) -> Control:
    """Numbered slots for reference pictures."""
    board = slots.render(
        f"{spec.name}-{name}",
        declared,
        label=info.title or name,
        help_=info.description or "",
        references=entries(values[name]),
        canvas=(values["width"], values["height"]),
    )

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        given = slots.read(raw, declared)
        return {name: given if declared.most > 1 else next(iter(given), None)}

    return Control(
        (name,),
        board.components,
        read=read,
        show=lambda values, model: slots.show(entries(values[name]), declared),
        follows_model=False,
        board=board,
    )


def _first_frame(spec: EngineSpec, name: str, info: FieldInfo, declared: Media, values: Mapping[str, Any]) -> Control:
    """A field of a single picture: it fills the frame, so its crop is shown."""
    board = first_frame.render(
        f"{spec.name}-{name}",
        declared,
        label=info.title or name,
        help_=info.description or "",
        reference=values[name],
        frame=(values["width"], values["height"]),
    )
    return Control(
        (name,),
        board.components,
        read=lambda raw: {name: first_frame.read(raw, declared)},
        show=lambda values, model: first_frame.show(values[name], declared),
        follows_model=False,
        board=board,
    )


def _adapters(
    spec: EngineSpec, name: str, info: FieldInfo, declared: Media, values: Mapping[str, Any], folder: Path | None
) -> Control:
    """Files of the studio's folder, each with its strength and its steps."""
    drawn = adapter_list.render(
        f"{spec.name}-{name}",
        declared,
        label=info.title or name,
        help_=info.description or "",
        adapters=entries(values[name]),
        folder=folder,
    )
    return Control(
        (name,),
        drawn.components,
        read=lambda raw: {name: drawn.read(raw)},
        show=lambda values, model: drawn.show(entries(values[name])),
        follows_model=False,
    )


def _upload(spec: EngineSpec, name: str, info: FieldInfo, declared: Media, values: Mapping[str, Any]) -> Control:
    """A file that is taken as it is, with its declared parts."""
    fields = declared.part_fields()

    def shown(values: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        given = values[name] if isinstance(values[name], Mapping) or values[name] is None else values[name].model_dump()
        there = given is not None and Path(given["path"]).is_file()
        held = {part: (given if there else {}).get(part, info.get_default()) for part, info in fields.items()}
        return (str(given["path"]) if there else None), held

    path, held = shown(values)
    common = {"value": path, "label": info.title, "elem_id": f"{spec.name}-{name}", "interactive": True, "height": 280}
    gr.HTML(markup.section(info.title or name, info.description or ""), elem_classes="section")
    newest = used = None
    if declared.kind == "clip":
        file = gr.Video(**common)
        newest = gr.Button("Go on from the newest clip", size="sm", visible=False, elem_id=f"{spec.name}-{name}-newest")
    else:
        file = gr.File(**common)
    with gr.Column(visible=path is not None) as offered:  # without a file there is nothing to say of its parts
        drawn = parts.render(declared, held, elem_id=f"{spec.name}-{name}")
    file.change(lambda raw: gr.update(visible=raw is not None), file, offered, preprocess=False, **HIDDEN)
    if declared.kind == "clip" and spec.excerpt_rules is not None:
        used = gr.HTML(elem_id=f"{spec.name}-{name}-strip", elem_classes="model-view")

    def show(values: Mapping[str, Any], model: ModelSpec) -> list[Any]:
        path, held = shown(values)
        return [served(path) if path else None, *(parts.shown(fields[part], value) for part, value in held.items())]

    def read(raw: Sequence[Any]) -> dict[str, Any]:
        payload = raw[0].get("video", raw[0]) if isinstance(raw[0], Mapping) else raw[0]
        path = received(payload)
        held = {part: parts.value_of(info, value) for (part, info), value in zip(fields.items(), raw[1:], strict=True)}
        return {name: None if path is None else {"path": path} | held}

    components = [file, *drawn.values()]
    return Control((name,), components, read=read, show=show, follows_model=False, newest=newest, strip=used)


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


def _kind(info: FieldInfo) -> tuple[Any, bool]:
    """The type of a field without "or None", and whether None is allowed."""
    if typing.get_origin(info.annotation) in (typing.Union, types.UnionType):
        (kind,) = [option for option in typing.get_args(info.annotation) if option is not type(None)]
        return kind, True
    return info.annotation, False
