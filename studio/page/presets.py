"""Quality: one choice that sets the step counts as published, and shows which choice they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from engines.types import EngineSpec
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, PRIVATE, script


def render(spec: EngineSpec, values: Mapping[str, Any]) -> gr.Radio:
    """The choices of the model in `values`."""
    return gr.Radio(**_choices(spec, values["model"], values), label="Quality", scale=3, elem_id=f"{spec.name}-quality")


def wire(form: Form, quality: gr.Radio, model: gr.Dropdown) -> None:
    """A choice sets the steps, and steps set otherwise show the choice that they are."""
    spec = form.spec
    steps = [form.component(name) for name in _step_fields(spec)]
    counts = {one.name: {name: dict(given) for name, given in one.presets.items()} for one in spec.models}
    quality.input(None, [model, quality], steps, js=script("presetSteps", counts), **PRIVATE)
    gr.on(
        [field.change for field in steps], partial(_now, spec), [model, *steps], quality,
        trigger_mode="always_last", **HIDDEN,
    )  # fmt: skip


def _step_fields(spec: EngineSpec) -> list[str]:
    """The fields that a quality sets."""
    return next((list(given) for model in spec.models for given in model.presets.values()), ["steps"])


def _choices(spec: EngineSpec, model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The quality choices of a model, and which of them the values are."""
    presets = spec.model(model).presets
    choices = list(presets)
    same = (name for name, given in presets.items() if all(values[field] == count for field, count in given.items()))
    return {"choices": choices, "value": next(same, None)}


def _now(spec: EngineSpec, model: str, *counts: float) -> Any:
    if model not in {known.name for known in spec.models}:
        return gr.skip()
    return gr.update(**_choices(spec, model, dict(zip(_step_fields(spec), counts, strict=True))))
