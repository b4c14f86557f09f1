"""The forms as their browser keeps them: over a reload, a reconnect and a restart of the studio.

kept_form.js stores what the components hold. What comes back is read like anything from outside, and what is not
valid any more is left as the page draws it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from pydantic import ValidationError

from engines.errors import InvalidRequest
from studio.page.controls import Controls
from studio.page.engine_tabs import EngineTab
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, PRIVATE, Updates, changed, mapping, page, script
from studio.service import MAX_VARIATIONS

_VARIATIONS = "variations"


def wire(tabs: Sequence[EngineTab]) -> None:
    """Store every form as it changes, and fill all of them when the page is opened."""
    drawn = [one.controls for tab in tabs for one in tab.tabs.values()]
    for controls in drawn:
        held = [*controls.form.components, controls.variations]
        form = controls.form
        changes = [component.change for component in held]
        gr.on(changes, None, held, None, js=script("rememberForm", layout(form), form.spec.name), **PRIVATE)
    choices = [tab for tab in tabs if tab.choice is not None]
    for tab in choices:
        assert tab.choice is not None
        tab.choice.change(None, tab.choice, None, js=script("rememberEngine", tab.id), **PRIVATE)
    stored = gr.JSON(visible=False)
    outputs = [part for tab in tabs for part in tab.components]
    outputs += [component for one in drawn for component in (*one.form.components, one.variations)]

    def fill(kept: Any) -> Any:
        return changed(filled(tabs, kept))

    page().load(fill, stored, outputs, js=script("rememberedForms"), preprocess=False, **HIDDEN).then(
        None, None, None, js=script("formsAreFilled"), **PRIVATE
    )


def layout(form: Form) -> list[list[Any]]:
    """Each control's name and how many components hold it, in the order of the form; then the number of variations."""
    return [*([control.names[0], len(control.components)] for control in form.controls), [_VARIATIONS, 1]]


def filled(tabs: Sequence[EngineTab], kept: Any) -> Updates:
    """What the page should hold of what a browser kept: `forms` by engine and control, `engines` by tab."""
    forms, engines = (mapping(mapping(kept).get(name)) for name in ("forms", "engines"))
    updates: Updates = {}
    for tab in tabs:
        if (shown := engines.get(tab.id)) in tab.tabs:
            updates |= tab.show(str(shown))
        for name, drawn in tab.tabs.items():
            updates |= _filled(drawn.controls, mapping(forms.get(name)))
    return updates


def _filled(controls: Controls, kept: Mapping[str, Any]) -> Updates:
    """What one form should hold of what was kept of it, each control by itself."""
    form, updates = controls.form, {}
    spec = form.spec
    models = {model.name for model in spec.models}
    known = kept.get("model")
    model = known[0] if isinstance(known, list) and known and known[0] in models else spec.models[0].name
    values, valid = spec.default_values(model), set()
    for control in form.controls:
        raw = kept.get(control.names[0])
        if not isinstance(raw, list) or len(raw) != len(control.components):
            continue
        try:
            read = control.read(raw)
            spec.request_type.model_validate({name: value for name, value in read.items() if name != "model"})
        except (InvalidRequest, ValidationError, TypeError, ValueError, AttributeError):
            continue
        values |= read | {"model": model}
        valid |= read.keys()
    if valid:
        updates = form.show(values, names=valid)
    count = kept.get(_VARIATIONS)
    if isinstance(count, list) and count and isinstance(count[0], int) and 1 <= count[0] <= MAX_VARIATIONS:
        updates[controls.variations] = count[0]
    return updates
