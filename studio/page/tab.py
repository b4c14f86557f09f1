"""One function that renders any engine's tab from the declaration of its request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from engines.request import MAX_PROMPT_CHARACTERS, control
from engines.types import EngineSpec
from studio import continuing, examples, models
from studio.page import fields, refining, send
from studio.page.handlers import Form, Panel, Result
from studio.page.plumbing import HIDDEN, PRIVATE
from studio.page.send import Sender
from studio.service import MAX_VARIATIONS, Studio

_COUNT_JS = "(text) => `<span class='count'>${(text || '').length.toLocaleString()} / %d</span>`"
# Seconds are another way to set the frames: they go to the nearest length that the model can make. The frames are
# what counts, so the seconds follow them, unless somebody has just typed a number that means the same frames.
_SECONDS_JS = """
const limits = %s;
const nearest = (seconds, fps, model) => {
  const [stride, most] = limits[model];
  const steps = Math.round((seconds * fps - 1) / stride);
  return Math.min(Math.max(0, steps), Math.floor((most - 1) / stride)) * stride + 1;
};
const exact = (frames, fps) => Number((frames / fps).toFixed(2));
const caption = (frames, fps, model, size) => {
  const [stride, most, inUnits] = limits[model];
  const units = (frames - 1) / stride + 1;
  const made = inUnits ? `${units} unit${units > 1 ? 's' : ''}, ` : '';
  const sized = inUnits && /^\\d+x\\d+$/.test(size) ? `${size}, ` : '';
  return `<span class='count'>${made}${frames} frames @ ${fps} fps = ${(frames / fps).toFixed(2)} s, ${sized}` +
    `at most ${(most / fps).toFixed(2)} s</span>`;
};
"""
_FROM_SECONDS = "(seconds, fps, model, frames) => { %s return seconds > 0 ? nearest(seconds, fps, model) : frames; }"
_TO_SECONDS = """(seconds, fps, model, frames, size) => { %s
  const same = seconds > 0 && nearest(seconds, fps, model) === frames;
  return [same ? seconds : exact(frames, fps), caption(frames, fps, model, size)];
}"""
_EXACT_SECONDS = "(seconds, fps, model, frames) => { %s return exact(frames, fps); }"
# One output takes a value, several take a list of them.
_PRESET_JS = "(model, name) => { const counts = (%s)[model][name]; return counts.length > 1 ? counts : counts[0]; }"


@dataclass(frozen=True)
class Tab:
    """A rendered tab: its form, its events, and the components of its result panel."""

    form: Form
    panel: Panel
    result: Result
    sender: Sender


def render(studio: Studio, spec: EngineSpec, *, browser: Any) -> Tab:
    """Draw the tab of `spec` and wire its events. `browser` is the memory of the visitor's browser."""
    form = Form(spec)
    panel = Panel(studio, form)
    first = _first_model(studio, spec)
    shown = examples.of(spec)
    values = spec.default_values(first) | (shown[0].values(spec) if shown else {})
    with gr.Row(elem_classes="workspace"):
        with gr.Column(scale=5, min_width=320, elem_classes="controls"):
            parts = _controls(studio, form, panel, values, shown)
        with gr.Column(scale=6, min_width=320, elem_classes="result"):
            result = _result(spec)
            sender = send.render(studio.specs.values(), name=spec.name, clip=result.clip, video=result.video)
    gr.on(
        [parts["generate"].click, form.component("prompt").submit],
        panel.generate,
        [browser, parts["variations"], *form.components],
        [parts["problems"], browser, *result],
        preprocess=False,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    result.timer.tick(panel.tick, [browser, result.seen], result, **HIDDEN)
    result.cancel.click(panel.cancel, [browser, result.seen], result, **HIDDEN)
    result.keep.click(panel.keep, [browser, result.seen], result, **HIDDEN)
    if spec.continued_from:
        earlier = form.component(continuing.FIELD)
        gr.on(
            [gr.context.Context.root_block.load, result.video.change], panel.earlier_clips, browser, earlier, **HIDDEN
        )
        earlier.input(panel.fit_earlier, [browser, earlier], form.components, preprocess=False, **HIDDEN)
        result.longer.click(panel.continue_clip, [browser, result.clip], form.components, **HIDDEN)
    result.strip.select(panel.pick, browser, [result.status, result.video, result.download, result.clip], **HIDDEN)
    parts["reuse"].click(panel.last_seed, browser, form.component("seed"), **HIDDEN)
    return Tab(form, panel, result, sender)


def _controls(studio: Studio, form: Form, panel: Panel, values: dict[str, Any], shown: list[Any]) -> dict[str, Any]:
    """The left column. Fields come in the order of the groups below, advanced ones in the folded part."""
    spec = form.spec
    info = spec.request_type.model_fields
    groups: dict[str, list[str]] = {}
    for name, declared in info.items():
        if name != "model" and name not in fields.TOGETHER:
            place = "advanced" if control(declared).get("advanced") else str(control(declared).get("group"))
            groups.setdefault(place, []).append(name)

    readings: dict[str, Any] = {}

    def put(group: str) -> None:
        for name in groups.pop(group, ()):
            form.controls.append(fields.render(spec, name, values=values))
            if name in spec.readings:
                readings[name] = gr.HTML(elem_id=f"{spec.name}-{name}-reading", elem_classes="hint")

    parts: dict[str, Any] = {}
    put("picture")
    with gr.Column(elem_classes="captioned"):
        put("prompt")
        count = gr.HTML(elem_classes="counter")
    wire_refining = refining.render(spec)
    _example_buttons(form, shown)
    found = {model.name: studio.availability(spec, model.name) for model in spec.models}
    chosen = gr.Dropdown(
        models.choices(spec, found),
        value=values["model"],
        label="Model",
        elem_id=f"{spec.name}-model",
        filterable=False,
    )
    form.controls.append(
        fields.Control(("model",), [chosen], lambda raw: {"model": raw[0]}, lambda given, model: [model.name])
    )
    note = gr.HTML(_paragraph(panel.model_note(values["model"])), elem_classes="hint")
    with gr.Row(elem_classes="pair"):
        put("clip")
        seconds = gr.Number(
            round(values["frames"] / values["fps"], 2), label="Duration (seconds)", minimum=0, step=0.1, min_width=120,
            elem_id=f"{spec.name}-seconds", interactive=True,
        )  # fmt: skip
    duration = gr.HTML(elem_classes="duration")
    with gr.Row(elem_classes="pair"):
        quality = gr.Radio(
            **_quality(spec, values["model"], values), label="Quality", scale=3, elem_id=f"{spec.name}-quality"
        )
        put("quality")
    with gr.Row(elem_classes="pair"):
        put("seed")
        parts["variations"] = gr.Slider(
            1, MAX_VARIATIONS, value=1, step=1, label="Variations", elem_id=f"{spec.name}-count"
        )
    with gr.Row(elem_classes="pills"):
        random = gr.Button("Random seed", size="sm", min_width=60)
        parts["reuse"] = gr.Button("Reuse last seed", size="sm", min_width=60)
    for group in [name for name in groups if name != "advanced"]:
        put(group)
    with gr.Accordion("Advanced settings", open=False, elem_classes="advanced"):
        put("advanced")
    with gr.Column(elem_classes="dock"):
        parts["problems"] = gr.HTML(elem_id=f"{spec.name}-problems")
        parts["generate"] = gr.Button(
            "Generate", variant="primary", size="lg", elem_classes="go", elem_id=f"{spec.name}-go"
        )

    prompt = form.component("prompt")
    frames, fps = form.component("frames"), form.component("fps")
    loaded = gr.context.Context.root_block.load
    gr.on([loaded, prompt.change], None, prompt, count, js=_COUNT_JS % MAX_PROMPT_CHARACTERS, **PRIVATE)
    _wire_duration(spec, seconds, fps, chosen, frames, form.component("width"), duration)
    for name, line in readings.items():
        text = form.component(name)
        gr.on(
            [loaded, text.change, frames.change, fps.change], partial(panel.reading, name), [text, frames, fps], line,
            trigger_mode="always_last", **HIDDEN,
        )  # fmt: skip
    random.click(None, None, form.component("seed"), js="() => -1", **PRIVATE)
    steps = {name: form.component(name) for name in _step_fields(spec)}
    presets = {
        model.name: {name: list(given.values()) for name, given in model.presets.items()} for model in spec.models
    }
    quality.input(None, [chosen, quality], list(steps.values()), js=_PRESET_JS % json.dumps(presets), **PRIVATE)
    gr.on(
        [field.change for field in steps.values()], partial(_quality_now, spec), [chosen, *steps.values()], quality,
        trigger_mode="always_last", **HIDDEN,
    )  # fmt: skip
    chosen.change(lambda name: _paragraph(panel.model_note(name)), chosen, note, **HIDDEN)
    # Only a person's choice brings the model's defaults: settings put back, or a clip continued, bring their own.
    chosen.input(panel.model_chosen, chosen, form.components, **HIDDEN)
    boards = [entry.board for entry in form.controls if entry.board is not None]
    framing = [form.component(name) for name in ("width", "published_pictures") if name in info]
    for board in boards:
        board.wire(framing)
    wire_refining(prompt, chosen, [image for board in boards for image in board.images])
    return parts


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _wire_duration(spec: EngineSpec, seconds: Any, fps: Any, model: Any, frames: Any, size: Any, caption: Any) -> None:
    """Seconds <-> frames, and what they come to in one line, in the browser alone."""
    limits = {one.name: (one.geometry.frame_stride, one.geometry.max_frames, spec.keeps_parts) for one in spec.models}
    begin = _SECONDS_JS % json.dumps(limits)
    given = [seconds, fps, model, frames]
    loaded = gr.context.Context.root_block.load
    seconds.input(None, given, frames, js=_FROM_SECONDS % begin, **PRIVATE)
    seconds.blur(None, given, seconds, js=_EXACT_SECONDS % begin, **PRIVATE)
    changes = [loaded, frames.change, fps.change, size.change]
    gr.on(changes, None, [*given, size], [seconds, caption], js=_TO_SECONDS % begin, **PRIVATE)


def _result(spec: EngineSpec) -> Result:
    """The right column."""
    status = gr.HTML(elem_id=f"{spec.name}-status", elem_classes="status")
    playback = gr.HTML(visible=False, elem_id=f"{spec.name}-playback")
    preview = gr.HTML(visible=False, elem_id=f"{spec.name}-preview")
    video = gr.Video(
        visible=False,
        interactive=False,
        autoplay=True,
        loop=True,
        show_label=False,
        buttons=[],
        elem_id=f"{spec.name}-video",
        elem_classes="clip",
    )
    strip = gr.Gallery(
        visible=False,
        show_label=False,
        columns=8,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        buttons=[],
        elem_id=f"{spec.name}-variations",
        elem_classes="strip",
    )
    with gr.Row(elem_classes="actions"):
        keep = gr.Button("Stop and keep", visible=False, elem_id=f"{spec.name}-keep")
        cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{spec.name}-cancel")
        download = gr.DownloadButton("Download video", visible=False, elem_id=f"{spec.name}-download")
        longer = gr.Button("Continue", visible=False, elem_id=f"{spec.name}-continue")
    timer = gr.Timer(1.0, active=False)
    return Result(
        status, preview, playback, video, download, cancel, keep, longer, strip, timer,
        seen=gr.State({}), clip=gr.State(""),
    )  # fmt: skip


def _example_buttons(form: Form, shown: list[Any]) -> None:
    """A button per shipped example that fills prompt and pictures."""
    if not shown:
        return
    names = shown[0].fields
    targets = [component for entry in form.controls if entry.names[0] in names for component in entry.components]
    with gr.Row(elem_classes="pills"):
        gr.HTML("<span>Try</span>")
        for example in shown:

            def fill(example: Any = example) -> list[Any]:
                values = form.spec.default_values(form.spec.models[0].name) | example.values(form.spec)
                model = form.spec.models[0]
                return [
                    update for entry in form.controls if entry.names[0] in names for update in entry.show(values, model)
                ]

            gr.Button(example.title, size="sm", min_width=60).click(fill, None, targets, **HIDDEN)


def _first_model(studio: Studio, spec: EngineSpec) -> str:
    """The first model that can run, or simply the first."""
    runnable = [model.name for model in spec.models if studio.availability(spec, model.name).runnable]
    return (runnable or [model.name for model in spec.models])[0]


def _step_fields(spec: EngineSpec) -> list[str]:
    """The fields that a quality sets."""
    return next((list(given) for model in spec.models for given in model.presets.values()), ["steps"])


def _quality(spec: EngineSpec, model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The quality choices of a model, and which of them the values are."""
    presets = spec.model(model).presets
    choices = [(f"{name} · {' + '.join(map(str, given.values()))} steps", name) for name, given in presets.items()]
    same = (name for name, given in presets.items() if all(values[field] == count for field, count in given.items()))
    return {"choices": choices, "value": next(same, None)}


def _quality_now(spec: EngineSpec, model: str, *counts: float) -> Any:
    return gr.update(**_quality(spec, model, dict(zip(_step_fields(spec), counts, strict=True))))
