"""The left column of a tab: every field of the engine's request, group by group, and the buttons between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.inputs import media_fields, starts
from engines.request import MAX_PROMPT_CHARACTERS, control
from engines.types import EngineSpec
from studio import examples
from studio.page import (
    clip_strip,
    duration,
    estimate,
    fields,
    force_tool,
    markup,
    model_list,
    preset_row,
    quality,
    refine_row,
    scenes,
    settings_line,
    start_from,
)
from studio.page.estimate import EstimateLine
from studio.page.first_frame import FirstFrame
from studio.page.form import Form
from studio.page.model_list import ModelList
from studio.page.plumbing import HIDDEN, PRIVATE, changed, page, script
from studio.page.preset_row import PresetRow
from studio.service import MAX_VARIATIONS, Studio

_PROMPT_COUNT = f"{{count}} / {MAX_PROMPT_CHARACTERS:,}"

# Fields that another control stands for: the length in seconds sets the frames.
_FOLDED = ("frames",)


@dataclass(frozen=True)
class Controls:
    """What stands in the column besides the form's own components."""

    form: Form
    models: ModelList
    variations: gr.Slider
    problems: gr.HTML
    generate: gr.Button
    readings: Mapping[str, gr.HTML]
    presets: PresetRow


class _Fields:
    """Puts each field of a request on the page once, by the group it was declared in."""

    def __init__(self, form: Form, values: Mapping[str, Any], adapters: Path | None) -> None:
        self.form, self.values, self.adapters = form, values, adapters
        self.readings: dict[str, gr.HTML] = {}
        self._groups: dict[str, list[str]] = {}
        for name, declared in form.spec.request_type.model_fields.items():
            if name != "model" and name not in fields.TOGETHER:
                extra = control(declared)
                folded = extra.get("advanced") or name in _FOLDED
                if extra.get("of"):
                    continue  # it stands with its file
                self._groups.setdefault("advanced" if folded else str(extra.get("group")), []).append(name)

    def put(self, group: str) -> None:
        """Draw the fields of a group, none if they are drawn already."""
        spec = self.form.spec
        begins = starts(spec.request_type)
        names = self._groups.pop(group, [])
        if not begins.keys().isdisjoint(names):
            with gr.Column(elem_classes="starts"):
                choice = start_from.render(spec, self.values)
                for name in begins:
                    with start_from.place(spec, name):
                        self._draw(name)
            self.form.controls.append(choice)  # last, as it says which of them count
        for name in names:
            if name not in begins:
                self._draw(name)

    def _draw(self, name: str) -> None:
        """Draw a field, and those that are said of its file."""
        spec = self.form.spec
        told = spec.request_type.model_fields.items()
        said = [other for other, info in told if control(info).get("of") == name and other not in fields.TOGETHER]
        for one in (name, *said):
            self.form.controls.append(fields.render(spec, one, values=self.values, adapters=self.adapters))
            if one in spec.readings:
                self.readings[one] = gr.HTML(elem_id=f"{spec.name}-{one}-reading", elem_classes="hint")

    @property
    def left(self) -> list[str]:
        """Groups that are not drawn yet, the folded one aside."""
        return [name for name in self._groups if name != "advanced"]


def render(studio: Studio, spec: EngineSpec) -> Controls:
    """Draw the column of `spec` and wire what needs nothing beyond it."""
    form, shown = Form(spec), examples.of(spec)
    first = spec.model(model_list.first(studio, spec))
    values = spec.default_values(first.name) | (shown[0].values(first) if shown else {})
    put = _Fields(form, values, studio.settings.adapter_folder)
    put.put("picture")
    refine, tries = _prompt(studio, put, shown)
    with settings_line.render(spec) as line:
        listed = model_list.render(studio, form, values["model"])
        length = _clip(put)
        fast = partial(studio.fast, spec)
        qualities = _quality(put, fast)
        variations = _seed(put)
        for group in put.left:
            put.put(group)
        with gr.Accordion("Advanced settings", open=False, elem_classes="advanced"):
            put.put("advanced")
        presets = preset_row.render(spec)
    problems, takes, generate = _dock(spec)
    # Wired once every component stands on the page.
    boards = [entry.board for entry in form.controls if entry.board is not None]
    switches = dict.fromkeys(declared.as_published for declared in media_fields(spec.request_type).values())
    framing = [form.component(name) for name in ("width", *switches) if name]
    for board in boards:
        board.wire(framing)
    prompt = refine_row.Prompt(*map(form.component, ("prompt", "written_prompt", "refined_by")))
    refine.wire(prompt, listed.chosen, [image for board in boards for image in board.images])
    _wire_examples(form, tries, listed.chosen)
    duration.wire(form, length, listed.chosen)
    quality.wire(form, qualities, listed.chosen, fast=fast)
    scenes.wire(form, duration.rules(spec), listed.chosen)
    clip_strip.wire(form)
    _wire_force(studio, form, listed.chosen)
    settings_line.wire(form, line, quality=qualities, variations=variations)
    _wire_problems(form, problems)
    estimate.wire(studio, form, takes)
    return Controls(form, listed, variations, problems, generate, put.readings, presets)


def _prompt(
    studio: Studio, put: _Fields, shown: Sequence[examples.Example]
) -> tuple[refine_row.Refining, list[tuple[examples.Example, gr.Button]]]:
    """The prompt with its count, the row that refines it, and a button for each shipped example."""
    with gr.Column(elem_classes="captioned"):
        put.put("prompt")
        count = gr.HTML(elem_classes="counter")
    prompt = put.form.component("prompt")
    loaded = page().load
    gr.on([loaded, prompt.change], None, prompt, count, js=script("promptCount", _PROMPT_COUNT), **PRIVATE)
    tries: list[tuple[examples.Example, gr.Button]] = []

    def beside() -> None:
        if shown:
            gr.HTML(markup.chip("Try"))
        tries.extend((example, gr.Button(example.title, size="sm", min_width=60)) for example in shown)

    return refine_row.render(studio, put.form.spec, beside=beside), tries


def _wire_examples(form: Form, tries: Sequence[tuple[examples.Example, gr.Button]], chosen: gr.Dropdown) -> None:
    """An example sets the whole form anew, so that nothing of what stood there before gets into its clip."""
    for example, button in tries:

        def fill(model: Any, example: examples.Example = example) -> Any:
            listed = {one.name: one for one in form.spec.models}
            known = listed.get(model, form.spec.models[0])
            return changed(form.show(form.spec.default_values(known.name) | example.values(known)))

        button.click(fill, chosen, form.components, **HIDDEN)


def _clip(put: _Fields) -> duration.Duration:
    """Size and length."""
    with gr.Row(elem_classes="pair"):
        put.put("clip")
        seconds = duration.field(put.form.spec, put.values)
    return duration.Duration(seconds, gr.HTML(elem_classes="duration", elem_id=f"{put.form.spec.name}-length"))


def _quality(put: _Fields, fast: quality.Fast) -> gr.Radio:
    with gr.Row(elem_classes="pair"):
        choices = quality.render(put.form.spec, put.values, fast=fast)
        put.put("quality")
    return choices


def _seed(put: _Fields) -> gr.Slider:
    """The seed, and the number of variations."""
    with gr.Row(elem_classes="pair"):
        put.put("seed")
        return gr.Slider(
            1, MAX_VARIATIONS, value=1, step=1, label="Variations", buttons=[], elem_id=f"{put.form.spec.name}-count"
        )


def _dock(spec: EngineSpec) -> tuple[gr.HTML, EstimateLine, gr.Button]:
    """What is wrong, what the clip will take, and Generate: always in sight."""
    with gr.Column(elem_classes="dock"):
        problems = gr.HTML(elem_id=f"{spec.name}-problems")
        takes = estimate.render(spec.name)
        generate = gr.Button("Generate", variant="primary", size="lg", elem_classes="go", elem_id=f"{spec.name}-go")
    return problems, takes, generate


def _wire_force(studio: Studio, form: Form, chosen: gr.Dropdown) -> None:
    """A force is drawn on the picture that the clip begins with."""
    picture = next(iter(media_fields(form.spec.request_type, "first frame")), "")
    for control_ in form.controls:
        if control_.tool is not None and isinstance(board := form.control(picture).board, FirstFrame):
            name = f"{form.spec.name}-{picture}"
            force_tool.wire(studio, form.spec, control_.tool, chosen=chosen, picture=name, view=board.view)


def _wire_problems(form: Form, problems: gr.HTML) -> None:
    """What was wrong is no longer said once something is changed."""
    changes = [component.input for component in form.components if _has(component, "input")]
    gr.on(changes, None, None, problems, js=script("constant", ""), **PRIVATE)


def _has(component: Component, event: str) -> bool:
    return any(str(one) == event for one in component.EVENTS)
