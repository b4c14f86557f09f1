"""The line under the prompt that says what is set and opens to set it: "Wide · 2.75 s · Standard · random seed"."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.types import EngineSpec, ModelSpec, Size
from studio.measures import frame_size, shape
from studio.page.form import Form
from studio.page.plumbing import PRIVATE, page, script


def render(spec: EngineSpec) -> gr.Accordion:
    """The line, folded; what it opens to is drawn inside."""
    return gr.Accordion("Settings", open=False, elem_classes="settings", elem_id=f"{spec.name}-settings")


def words(spec: EngineSpec) -> dict[str, Any]:
    """What page.js says of the values: titles and sizes of the models, and the sentences."""
    return {
        "models": {
            model.name: {"title": model.title.partition(" (")[0], "shapes": shapes(model)} for model in spec.models
        },
        "sentences": {
            "random": "random seed",
            "seed": "seed {seed}",
            "steps": "{steps} steps",
            "clips": "{clips} variations",
        },
    }


def shapes(model: ModelSpec) -> dict[str, str]:
    """Each named size of a model as a person would say it: its shape, and the pixels where two have the same shape."""
    named = {Size(*size): shape(*size).capitalize() for size in model.geometry.sizes}
    count = Counter(named.values())
    return {str(size): name if count[name] == 1 else f"{name} {frame_size(*size)}" for size, name in named.items()}


def wire(form: Form, line: gr.Accordion, *, quality: gr.Radio, variations: gr.Slider) -> None:
    """The line follows what is set, in the browser alone."""
    plain: list[Component] = [form.component(name) for name in ("model", "width", "frames", "fps")]
    seed, random = form.control("seed").components
    given = [*plain, quality, form.component("steps"), random, seed, variations]
    gr.on(
        [page().load, *(component.change for component in given)], None, given, line,
        js=script("settingsLine", words(form.spec)), **PRIVATE,
    )  # fmt: skip
