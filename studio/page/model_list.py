"""The list of an engine's models and what a person should know of the chosen one; both follow what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.types import EngineSpec
from studio import models
from studio.page import markup
from studio.page.fields import Control
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, Updates, changed
from studio.service import Studio

_LOOK_EVERY_S = 10.0


@dataclass(frozen=True)
class ModelList:
    """The list of one engine, and the sentences below it."""

    spec: EngineSpec
    chosen: gr.Dropdown
    note: gr.HTML


def render(studio: Studio, form: Form, value: str) -> ModelList:
    """Draw the list with `value` chosen, as the form's control of the model."""
    spec = form.spec
    chosen = gr.Dropdown(
        models.choices(spec, _found(studio, spec)), value=value, label="Model", elem_id=f"{spec.name}-model",
        filterable=False,
    )  # fmt: skip
    form.controls.append(
        Control(("model",), [chosen], lambda raw: {"model": raw[0]}, lambda given, model: [model.name])
    )
    note = gr.HTML(about(studio, spec, value), elem_classes="hint", elem_id=f"{spec.name}-model-note")
    chosen.change(lambda name: about(studio, spec, name), chosen, note, **HIDDEN)
    return ModelList(spec, chosen, note)


def first(studio: Studio, spec: EngineSpec) -> str:
    """The first model that can run, or simply the first."""
    found = _found(studio, spec)
    return next((name for name, state in found.items() if state.runnable), spec.models[0].name)


def about(studio: Studio, spec: EngineSpec, name: Any) -> str:
    """What a person should know of a model, as HTML; "" for one that is unknown."""
    model = next((one for one in spec.models if one.name == name), None)
    if model is None:
        return ""
    found = studio.availability(spec, model.name)
    shown = [markup.Line(found.reason or model.note), markup.Line(found.warning)]
    if found.files.missing and not studio.settings.public:
        shown.append(markup.Line(models.download_command(spec, model), "command"))
    shown.append(markup.Line(models.licence(model), "" if models.is_free(model) else "licence"))
    return markup.lines(shown)


def follow(studio: Studio, lists: Sequence[ModelList], page: gr.Blocks) -> None:
    """Keep the lists as the machine is: files arrive and devices are found while a page is open."""
    seen, watch = gr.State({}), gr.Timer(_LOOK_EVERY_S)

    def look(seen_before: dict[str, Any], *chosen: Any) -> Any:
        found = {one.spec.name: _found(studio, one.spec) for one in lists}
        updates: Updates = {}
        for one, name in zip(lists, chosen, strict=True):
            if seen_before.get(one.spec.name) != found[one.spec.name]:
                listed = gr.update(choices=models.choices(one.spec, found[one.spec.name]))
                updates |= {one.chosen: listed, one.note: about(studio, one.spec, name)}
        return changed(updates | {seen: found} if updates else {})

    chosen, notes = [one.chosen for one in lists], [one.note for one in lists]
    gr.on([page.load, watch.tick], look, [seen, *chosen], [seen, *chosen, *notes], **HIDDEN)


def _found(studio: Studio, spec: EngineSpec) -> dict[str, models.Availability]:
    return {model.name: studio.availability(spec, model.name) for model in spec.models}
