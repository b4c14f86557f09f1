"""The edits of the clip that is open in History, drawn from their declarations; each makes a new clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.editing.spec import EDITS, EditSpec
from engines.errors import StudioError
from engines.inputs import media_fields
from studio import editing, remaking
from studio.measures import seed
from studio.page import attending, fields, markup, panel
from studio.page.markup import Card
from studio.page.plumbing import HIDDEN, Updates
from studio.page.uploads import received
from studio.page.visitor import connection, visitor
from studio.service import Studio

_MOST_CLIPS = 100


@dataclass(frozen=True)
class Editor:
    """The components of the fold.

    Attributes:
        choice: which edit is shown; `areas` are what is drawn for each.
        others: the lists of further clips, which are the visitor's own.
        job: the id of the edit that was asked for last, while it is made.
    """

    choice: gr.Dropdown
    areas: dict[str, gr.Column]
    forms: dict[str, list[tuple[str, Component]]]
    others: list[gr.Dropdown]
    make: gr.Button
    status: gr.HTML
    again: gr.Button
    job: gr.State
    timer: gr.Timer

    @property
    def components(self) -> list[Component]:
        """Everything that holds a setting, edit after edit."""
        return [component for form in self.forms.values() for _, component in form]


def render(studio: Studio) -> Editor:
    """Draw the fold."""
    found = [path.name for path in editing.upscalers(studio)]
    specs = [spec for spec in EDITS.values() if spec.name != "upscale" or found]
    areas, forms, others = {}, {}, []
    with gr.Accordion("Edit", open=False, elem_id="history-edit"):
        choice = gr.Dropdown(
            [(f"{spec.title}: {spec.purpose.lower().removesuffix('.')}", spec.name) for spec in specs], value="trim",
            label="Edit", show_label=False, container=False, filterable=False, elem_id="history-edits",
        )  # fmt: skip
        for spec in specs:
            with gr.Column(visible=spec.name == "trim", elem_id=f"edit-{spec.name}") as areas[spec.name]:
                forms[spec.name] = [*_controls(spec, found, others)]
        make = gr.Button("Make a new clip", size="sm", elem_id="history-edit-make")
        status = gr.HTML(elem_id="history-edit-status")
        again = gr.Button("Show it in the list", size="sm", visible=False, elem_id="history-edit-shown")
    return Editor(choice, areas, forms, others, make, status, again, gr.State(""), gr.Timer(1.0, active=False))


def _controls(spec: EditSpec, upscalers: Sequence[str], others: list[gr.Dropdown]) -> Any:
    """Name and component of each setting; further clips and networks are chosen from lists."""
    declared = media_fields(spec.request_type)
    for name, info in spec.request_type.model_fields.items():
        kind = declared[name].kind if name in declared else ""
        common: dict[str, Any] = {"label": info.title, "info": info.description, "elem_id": f"edit-{spec.name}-{name}"}
        if name == "clip":
            continue
        if kind == "clip":
            others.append(gr.Dropdown([], value=None, interactive=True, **common))
            yield name, others[-1]
        elif kind == "upscaler":
            yield name, gr.Dropdown([*upscalers], value=upscalers[0], interactive=True, **common)
        elif kind == "sound":
            yield name, gr.File(label=info.title, elem_id=f"edit-{spec.name}-{name}", height=120)
        else:
            drawn = fields.render(spec, name, values=spec.default_values() | {"model": ""})  # type: ignore[arg-type]
            yield name, drawn.components[0]


class Editing:
    """The events of the fold."""

    def __init__(self, studio: Studio, editor: Editor) -> None:
        self.studio, self.editor = studio, editor

    def wire(
        self, *, browser: gr.BrowserState, chosen: gr.State, listed: Callable[..., Updates], inputs: Any, outputs: Any
    ) -> None:
        """Bind them. `listed` makes History's list anew, with its inputs and outputs."""
        editor = self.editor
        shown = [*editor.areas.values(), *editor.others]
        editor.choice.input(self.choose, [browser, editor.choice, chosen], shown, **HIDDEN)
        told = [editor.status, editor.again, editor.job, editor.timer]
        made = editor.make.click(
            self.make, [browser, chosen, editor.choice, *editor.components], told, preprocess=False, **HIDDEN
        )
        attending.follow(self.studio, made, browser)
        editor.timer.tick(self.look, [browser, editor.job], told, **HIDDEN)
        # The new clip joins the list; the one that is open stays open.
        editor.again.click(listed, inputs, outputs, **HIDDEN)

    def choose(self, browser: Any, edit: Any, chosen: Any) -> Updates:
        """Show one edit's settings, and the visitor's clips where another one is asked for."""
        areas: Updates = {area: gr.update(visible=name == edit) for name, area in self.editor.areas.items()}
        owner = visitor(self.studio, browser)["owner"]
        jobs = [job for job in self.studio.store.finished(owner=owner, limit=_MOST_CLIPS) if job.id != chosen]
        clips = [job for job in jobs if job.result is not None and Path(job.result.video).suffix == ".mp4"]
        names = [(f"{_words(self.studio, job)} ({time.strftime('%d %b, %H:%M', time.localtime(job.finished))})", job.id)
                 for job in clips]  # fmt: skip
        first = names[0][1] if names else None
        return areas | {box: gr.update(choices=names, value=first) for box in self.editor.others}

    def make(self, request: gr.Request | None, browser: Any, chosen: Any, edit: Any, *raw: Any) -> Updates:
        """Queue the edit of the open clip."""
        editor, owner = self.editor, visitor(self.studio, browser)["owner"]
        try:
            values = self.values(edit, raw) | {"clip": str(chosen or "") or None}
            here = connection(self.studio.settings, request)
            job = editing.submit(self.studio, edit, values, owner=owner, connection=here)
        except StudioError as error:
            return {editor.status: markup.refused(error)}
        waiting = markup.card(Card("waiting", "Waiting", "The new clip will be in History."))
        return {
            editor.status: waiting,
            editor.again: gr.update(visible=False),
            editor.job: job.id,
            editor.timer: gr.Timer(active=True),
        }

    def values(self, edit: Any, raw: Sequence[Any]) -> dict[str, Any]:
        """What the controls of an edit hold."""
        position = 0
        for name, form in self.editor.forms.items():
            held = raw[position : position + len(form)]
            position += len(form)
            if name == edit:
                fields_ = [field for field, _ in form]
                return {
                    field: self._value(EDITS[name], field, value) for field, value in zip(fields_, held, strict=True)
                }
        return {}

    def _value(self, spec: EditSpec, name: str, value: Any) -> Any:
        declared = media_fields(spec.request_type).get(name)
        if declared is None:
            return value if value is not None else spec.default_values()[name]
        if declared.kind == "sound":
            path = received(value)
            return {"path": path} if path else None
        if declared.kind == "upscaler":
            found = {path.name: path for path in editing.upscalers(self.studio)}
            return {"path": str(found[value])} if value in found else None
        return value or None

    def look(self, browser: Any, job_id: Any) -> Any:
        """How far the edit is; ends when it is over."""
        editor = self.editor
        job = self.studio.job(str(job_id or ""), owner=visitor(self.studio, browser)["owner"])
        if job is None:
            return {editor.job: "", editor.timer: gr.Timer(active=False)}
        if job.active:
            progress = self.studio.executor.progress(job.id)
            if progress is None:
                return gr.skip()
            return {editor.status: markup.card(panel.running(progress))}
        over = {editor.job: "", editor.timer: gr.Timer(active=False)}
        if job.state == "done":
            notes = job.result.notes if job.result else ()
            done = markup.card(Card("done", "Done", "The new clip is the first of the list.", notes=notes))
            return over | {editor.status: done, editor.again: gr.update(visible=True)}
        text = job.failure.text if job.failure else "Nothing was kept."
        return over | {editor.status: markup.card(Card("failed", "There is no new clip", text))}


def _words(studio: Studio, job: Any) -> str:
    return remaking.words(studio.specs.get(job.engine), job, most=40) or seed(job.request)
