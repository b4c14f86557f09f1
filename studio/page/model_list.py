"""The list of an engine's models and what a person should know of the chosen one; both follow what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.types import EngineSpec
from studio import models
from studio.page import markup
from studio.page.form import Form
from studio.page.form_control import Control
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
    shown = [markup.Line(found.reason or (model.note if found.warning else model.about)), markup.Line(found.warning)]
    if found.files.missing and not studio.settings.public:
        shown.append(markup.Line(models.download_command(spec, model), "command"))
    shown.append(markup.Line(models.licence(model), "" if models.is_free(model) else "licence"))
    return markup.lines(shown)


class Follower:
    """Keeps the lists of a page as the machine is: files arrive and devices are found while it is open."""

    def __init__(self, studio: Studio, lists: Sequence[ModelList]) -> None:
        self.studio, self.lists, self.seen = studio, lists, gr.State({})

    def wire(self, page: gr.Blocks) -> None:
        """Look when the page is opened, and every few seconds from then on."""
        chosen, notes = [one.chosen for one in self.lists], [one.note for one in self.lists]
        watch = gr.Timer(_LOOK_EVERY_S)
        gr.on([page.load, watch.tick], self.look, [self.seen, *chosen], [self.seen, *chosen, *notes], **HIDDEN)

    def look(self, seen: Any, *chosen: Any) -> Any:
        """What is not as it was `seen`; `chosen` are the models chosen now, list by list."""
        found = {one.spec.name: _found(self.studio, one.spec) for one in self.lists}
        updates: Updates = {}
        for one, name in zip(self.lists, chosen, strict=True):
            now = found[one.spec.name]
            if seen.get(one.spec.name) != now:
                listed = gr.update(choices=models.choices(one.spec, now))
                updates |= {one.chosen: listed, one.note: about(self.studio, one.spec, name)}
        return changed(updates | {self.seen: found} if updates else {})


def _found(studio: Studio, spec: EngineSpec) -> dict[str, models.Availability]:
    return {model.name: studio.availability(spec, model.name) for model in spec.models}
