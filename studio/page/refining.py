"""The Refine row under a prompt: a suggestion with its reasons, to accept or to leave, and a way back."""

from __future__ import annotations

from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from engines.prompting.rules import refine
from engines.types import EngineSpec
from studio.page.plumbing import HIDDEN
from studio.page.uploads import received

_HIDE = [gr.update(visible=False)] * 2


def render(spec: EngineSpec) -> Any:
    """Draw the row; returns `wire(prompt, model, pictures)` to call once these components stand on the page."""
    with gr.Row(elem_classes="pills"):
        ask = gr.Button("Refine prompt", size="sm", min_width=60, elem_id=f"{spec.name}-refine")
        back = gr.Button("Undo", size="sm", min_width=60, visible=False, elem_id=f"{spec.name}-refine-undo")
    shown = gr.HTML(visible=False, elem_id=f"{spec.name}-refinement")
    with gr.Row(elem_classes="pills", visible=False) as choice:
        accept = gr.Button("Use this", size="sm", min_width=60, elem_id=f"{spec.name}-refine-accept")
        leave = gr.Button("Keep mine", size="sm", min_width=60)
    suggested, before = gr.Textbox(visible=False), gr.Textbox(visible=False)

    def wire(prompt: Any, model: Any, pictures: list[Any]) -> None:
        def suggest(text: Any, name: Any, *given: Any) -> list[Any]:
            paths = [Path(path) for path in map(received, given) if path]
            known = {one.name: one for one in spec.models}
            found = refine(str(text or ""), pictures=paths, words=known[name].words if name in known else "")
            changed = found.text != (text or "").strip()
            return [
                found.text,
                gr.update(value=explained(str(text or ""), found.text, found.reasons), visible=True),
                gr.update(visible=changed),
            ]

        ask.click(suggest, [prompt, model, *pictures], [suggested, shown, choice], preprocess=False, **HIDDEN)
        accept.click(
            lambda new, old: [new, old, *_HIDE, gr.update(visible=True)],
            [suggested, prompt],
            [prompt, before, shown, choice, back],
            **HIDDEN,
        )
        leave.click(lambda: _HIDE, None, [shown, choice], **HIDDEN)
        back.click(lambda old: [old, gr.update(visible=False)], before, [prompt, back], **HIDDEN)

    return wire


def explained(before: str, after: str, reasons: tuple[str, ...]) -> str:
    """The suggestion with its new words marked, and the reasons below, as HTML."""
    old, new = before.split(), after.split()
    parts = []
    for change, old_from, old_to, new_from, new_to in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        gone, come = (escape(" ".join(some)) for some in (old[old_from:old_to], new[new_from:new_to]))
        if change == "equal":
            parts.append(come)
        else:
            parts += [f"<{tag}>{words}</{tag}>" for tag, words in (("del", gone), ("ins", come)) if words]
    text = f"<p class='suggestion'>{' '.join(parts)}</p>" if old != new else ""
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons or ("Nothing to add: the prompt is complete.",))
    return f"<div class='refinement' role='status'>{text}<ul>{why}</ul></div>"
