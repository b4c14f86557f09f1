"""The button that makes one clip twice, with a branch of its model and without, and plays both in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from engines.errors import InvalidRequest, Problem, StudioError
from engines.types import EngineSpec
from studio import sweep
from studio.page import markup
from studio.page.plumbing import HIDDEN, Updates
from studio.page.tab_events import TabEvents
from studio.page.visitor import connection, visitor


def render(spec: EngineSpec, model: str) -> gr.Button | None:
    """Draw the button, seen where `model` has the branch; None for an engine that declares none."""
    if spec.branch is None:
        return None
    return gr.Button(
        f"With and without {spec.branch.name}", size="md", visible=offered(spec, model), elem_id=f"{spec.name}-pair"
    )


def offered(spec: EngineSpec, model: Any) -> bool:
    """Whether a model has the branch of its engine."""
    roles = next(({one.role for one in known.weights} for known in spec.models if known.name == model), set())
    return spec.branch is not None and spec.branch.role in roles


def wire(button: gr.Button | None, events: TabEvents) -> None:
    """Bind the button, once the whole form stands on the page."""
    spec, branch = events.spec, events.spec.branch
    if button is None or branch is None:
        return
    told = events.controls.problems

    def make(request: gr.Request | None, browser: Any, *raw: Any) -> Iterator[Updates]:
        known = visitor(events.studio, browser)
        try:
            values = events.form.read(raw)
            if not values[branch.field]:
                title = spec.request_type.model_fields[branch.field].title
                raise InvalidRequest([Problem(branch.field, f"Both would be without {branch.name}: raise {title}.")])
            jobs = sweep.submit(
                events.studio,
                spec.name,
                values,
                [sweep.Axis(branch.field, (values[branch.field], 0.0))],
                owner=known["owner"],
                connection=connection(events.studio.settings, request),
            )
        except StudioError as error:
            yield {told: markup.refused(error)}
            return
        yield from events.watch(known, jobs, told)

    button.click(
        make,
        [events.browser, *events.form.components],
        [told, events.browser, *events.result.components],
        preprocess=False,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    chosen = events.controls.models.chosen
    chosen.change(lambda model: gr.update(visible=offered(spec, model)), chosen, button, **HIDDEN)
