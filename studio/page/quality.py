"""Quality: one choice that sets the step counts as published, and shows which choice they are.

Where a step-distillation adapter is at hand, Fast is one more: it puts the adapter on and turns guidance off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr

from engines.adapters.fast import FEWEST_STEPS
from engines.errors import InvalidRequest
from engines.types import EngineSpec
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, PRIVATE, Updates, changed, first_look, script

FAST = "Fast"
_DECIDE = {"model", "steps", "later_steps", "adapters"}
# What Fast sets for a model, by its name; None where it is not to be had.
Fast = Callable[[str], Mapping[str, Any] | None]


def render(spec: EngineSpec, values: Mapping[str, Any], *, fast: Fast) -> gr.Radio:
    """The choices of the model in `values`."""
    found = _choices(spec, values["model"], values, fast)
    return gr.Radio(**found, label="Quality", scale=3, elem_id=f"{spec.name}-quality")


def wire(form: Form, quality: gr.Radio, model: gr.Dropdown, *, fast: Fast) -> None:
    """A choice sets the steps, and steps set otherwise show the choice that they are."""
    spec = form.spec
    steps = [form.component(name) for name in _step_fields(spec)]
    quick = {FAST: dict.fromkeys(_step_fields(spec), FEWEST_STEPS)}  # until the adapter's own number comes
    counts = {one.name: quick | {name: dict(given) for name, given in one.presets.items()} for one in spec.models}
    quality.input(None, [model, quality], steps, js=script("presetSteps", counts), **PRIVATE)
    now = [*first_look(), model.change, *(field.change for field in steps)]
    if spec.one_pass:
        quality.input(partial(_switch, form, fast), [quality, *form.components], form.components, **HIDDEN)
        now.append(form.control("adapters").components[1].change)
    told = Form(spec, [one for one in form.controls if not _DECIDE.isdisjoint(one.names)])
    gr.on(now, partial(_now, told, fast), told.components, quality, **HIDDEN)


def _step_fields(spec: EngineSpec) -> list[str]:
    """The fields that a quality sets."""
    return next((list(given) for model in spec.models for given in model.presets.values()), ["steps"])


def _choices(spec: EngineSpec, model: str, values: Mapping[str, Any], fast: Fast) -> dict[str, Any]:
    """The quality choices of a model, and which of them the values are."""
    presets, quick = spec.model(model).presets, fast(model)
    if quick is not None and _has(values, quick) and values["steps"] == quick["steps"]:
        return {"choices": [FAST, *presets], "value": FAST}
    same = (name for name, given in presets.items() if all(values[field] == count for field, count in given.items()))
    return {"choices": [*([FAST] if quick is not None else []), *presets], "value": next(same, None)}


def _has(values: Mapping[str, Any], quick: Mapping[str, Any]) -> bool:
    """Whether the adapter of the Fast quality is among those of a form."""
    (adapter,) = quick["adapters"]
    return any(one["path"] == adapter["path"] for one in values.get("adapters") or () if isinstance(one, Mapping))


def _now(told: Form, fast: Fast, *raw: Any) -> Any:
    """The choices, and which of them the form is."""
    try:
        values = told.read(raw)
    except InvalidRequest:  # something is being typed
        return gr.skip()
    if values["model"] not in {known.name for known in told.spec.models} or not all(
        isinstance(values[name], int | float) for name in _step_fields(told.spec)
    ):
        return gr.skip()
    return gr.update(**_choices(told.spec, values["model"], values, fast))


def _switch(form: Form, fast: Fast, chosen: Any, *raw: Any) -> Any:
    """Fast puts its adapter on and guidance off; any other choice takes it off, and guidance is the model's own."""
    try:
        values = form.read(raw)
    except InvalidRequest:
        return gr.skip()
    quick = fast(values["model"]) if values["model"] in {one.name for one in form.spec.models} else None
    if quick is None:
        return gr.skip()
    (adapter,) = quick["adapters"]
    others = [one for one in values["adapters"] if one["path"] != adapter["path"]]
    updates: Updates = {}
    if chosen == FAST:
        wanted = values | quick | {"adapters": [*others, adapter]}
        updates = form.show(wanted, names={*quick})
    elif len(others) < len(values["adapters"]):
        guidance = {name: form.spec.default_values(values["model"])[name] for name in form.spec.one_pass}
        updates = form.show(values | guidance | {"adapters": others}, names={"adapters", *guidance})
    return changed(updates)
