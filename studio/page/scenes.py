"""A text of scenes as a table: what happens, for how long, in which order. The text stays, to be pasted and imported.

The table is drawn and read by scenes.js; the text below it is the field's own value, one scene a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from pydantic.fields import FieldInfo

from engines.request import control
from studio.page import markup
from studio.page.plumbing import HIDDEN, PRIVATE, page, script, warn

if TYPE_CHECKING:
    from studio.page.form import Form


def render(info: FieldInfo, plain: Callable[[str], str], *, value: str, elem_id: str) -> gr.Textbox:
    """Draw the table and the text, whose box is returned; `plain` writes a pasted text as the table reads it."""
    with gr.Column(elem_classes="storyboard", elem_id=f"{elem_id}-scenes"):
        gr.HTML(markup.section(info.title or "", info.description or ""), elem_classes="section")
        gr.HTML("<div class='scenes'></div>", elem_classes="scene-table")
        box = gr.Textbox(
            value=value,
            label=f"{info.title} as text, one a line",
            placeholder=control(info)["placeholder"],
            lines=int(control(info)["lines"]),
            max_lines=8,
            elem_id=elem_id,
            elem_classes="as-text",
            interactive=True,
        )
        read = gr.Button("Show as scenes", size="sm", elem_classes="as-text", elem_id=f"{elem_id}-read")
    read.click(partial(_plain, plain), box, box, **HIDDEN).then(
        None, box, None, js=script("readScenes", elem_id), **PRIVATE
    )
    return box


def wire(form: Form, rules: Mapping[str, Any], model: gr.Dropdown) -> None:
    """The table follows the text; the clip becomes as long as its scenes together."""
    for name, info in form.spec.request_type.model_fields.items():
        if control(info).get("scenes") is not None:
            box, frames, fps = form.component(name), form.component("frames"), form.component("fps")
            elem_id = f"{form.spec.name}-{name}"
            gr.on(
                [page().load, box.change, fps.change, model.change], None, [box, fps, model, frames], frames,
                js=script("showScenes", elem_id, rules), **PRIVATE,
            )  # fmt: skip


def _plain(written: Callable[[str], str], text: Any) -> str:
    try:
        return written(str(text or ""))
    except ValueError as error:
        warn(str(error))
        return str(text or "")
