"""The fold that queues a grid of clips which differ in one or two numbers, with one click."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.errors import InvalidRequest, Problem, StudioError
from engines.types import EngineSpec
from studio import sweep
from studio.page import markup
from studio.page.plumbing import Updates
from studio.page.tab_events import TabEvents
from studio.page.visitor import connection, visitor

_HELP = "Values with commas between them, or a range: 1, 2, 3 or 10..30 by 5. A random seed stays the same over all."


@dataclass(frozen=True)
class SweepRow:
    """The fold's components: two numbers with their values, and the button."""

    fields: tuple[gr.Dropdown, gr.Dropdown]
    values: tuple[gr.Textbox, gr.Textbox]
    problems: gr.HTML
    queue: gr.Button


def render(spec: EngineSpec) -> SweepRow:
    """Draw the fold, closed."""
    choices = sweep.fields(spec)
    with gr.Accordion("Try several values", open=False, elem_id=f"{spec.name}-sweep", elem_classes="advanced"):
        gr.HTML(markup.lines([markup.Line(_HELP)]), elem_classes="hint")
        rows = [_row(spec, choices, first=first) for first in (True, False)]
        problems = gr.HTML(elem_id=f"{spec.name}-sweep-problems")
        queue = gr.Button("Queue all of them", size="md", elem_id=f"{spec.name}-sweep-go")
    return SweepRow((rows[0][0], rows[1][0]), (rows[0][1], rows[1][1]), problems, queue)


def wire(row: SweepRow, events: TabEvents) -> None:
    """Bind the button, once the whole form stands on the page."""

    def queue(
        request: gr.Request | None, browser: Any, one: Any, ones: Any, other: Any, others: Any, *raw: Any
    ) -> Iterator[Updates]:
        known, spec = visitor(events.studio, browser), events.spec
        try:
            pairs = [(one, ones), (other, others)]
            asked = [
                (str(name), str(text or "")) for name, text in pairs if name and (text or (name, text) == pairs[0])
            ]
            axes = [sweep.axis(spec, name, text) for name, text in asked]
            if not axes:
                raise InvalidRequest([Problem("", "Choose a number, and write the values to try.")])
            here = connection(events.studio.settings, request)
            values = events.form.read(raw)
            jobs = sweep.submit(events.studio, spec.name, values, axes, owner=known["owner"], connection=here)
        except StudioError as error:
            yield {row.problems: markup.refused(error)}
            return
        yield from events.watch(known, jobs, row.problems)

    given = [component for pair in zip(row.fields, row.values, strict=True) for component in pair]
    row.queue.click(
        queue,
        [events.browser, *given, *events.form.components],
        [row.problems, events.browser, *events.result.components],
        preprocess=False,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def _row(spec: EngineSpec, choices: list[tuple[str, str]], *, first: bool) -> tuple[gr.Dropdown, gr.Textbox]:
    which = "first" if first else "second"
    with gr.Row(elem_classes="pair"):
        field = gr.Dropdown(
            choices if first else [("Nothing else", ""), *choices],
            value="seed" if first else "",
            label="What differs" if first else "And",
            elem_id=f"{spec.name}-sweep-{which}",
        )
        return field, gr.Textbox(
            label="Values",
            placeholder="1, 2, 3, 4" if first else "",
            max_lines=1,
            elem_id=f"{spec.name}-sweep-{which}-values",
        )
