"""The Refine row under a prompt: a suggestion with its reasons, to accept or to leave, and a way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.types import EngineSpec
from studio.page.plumbing import HIDDEN, PRIVATE, script
from studio.page.uploads import received
from studio.service import Studio

_HIDE = [gr.update(visible=False)] * 2


@dataclass(frozen=True)
class Refining:
    """The row's components.

    Attributes:
        ask: the button for a suggestion, `back` for the prompt as it was before one.
        shown: the suggestion with its reasons, `choice` the buttons to take or to leave it.
        suggested: the suggestion as text, `before` the prompt that it replaced.
    """

    studio: Studio
    spec: EngineSpec
    ask: gr.Button
    back: gr.Button
    shown: gr.HTML
    choice: gr.Row
    accept: gr.Button
    leave: gr.Button
    suggested: gr.Textbox
    before: gr.Textbox

    def wire(self, prompt: Component, model: Component, pictures: Sequence[Component]) -> None:
        """Bind the row's events, once these components stand on the page."""
        self.ask.click(
            self._suggest, [prompt, model, *pictures], [self.suggested, self.shown, self.choice], preprocess=False,
            **HIDDEN,
        )  # fmt: skip
        self.accept.click(
            lambda new, old: [new, old, *_HIDE, gr.update(visible=True)],
            [self.suggested, prompt],
            [prompt, self.before, self.shown, self.choice, self.back],
            **HIDDEN,
        )
        self.leave.click(lambda: _HIDE, None, [self.shown, self.choice], **HIDDEN)
        self.back.click(
            lambda old: [old, gr.update(visible=False)], self.before, [prompt, self.back], **HIDDEN
        )  # fmt: skip
        # Undo would throw away what is written from here on.
        prompt.input(None, None, self.back, js=script("constant", gr.update(visible=False)), **PRIVATE)

    def _suggest(self, text: Any, name: Any, *pictures: Any) -> list[Any]:
        paths = [Path(path) for path in map(received, pictures) if path]
        found = self.studio.refine(self.spec.name, str(text or ""), model=str(name or ""), pictures=paths)
        return [
            found.text,
            gr.update(value=explained(str(text or ""), found.text, found.reasons), visible=True),
            gr.update(visible=found.text != (text or "").strip()),
        ]


def render(studio: Studio, spec: EngineSpec) -> Refining:
    """Draw the row of an engine's tab."""
    with gr.Row(elem_classes="pills"):
        ask = gr.Button("Refine prompt", size="sm", min_width=60, elem_id=f"{spec.name}-refine")
        back = gr.Button("Undo", size="sm", min_width=60, visible=False, elem_id=f"{spec.name}-refine-undo")
    shown = gr.HTML(visible=False, elem_id=f"{spec.name}-refinement")
    with gr.Row(elem_classes="pills", visible=False) as choice:
        accept = gr.Button("Use this", size="sm", min_width=60, elem_id=f"{spec.name}-refine-accept")
        leave = gr.Button("Keep mine", size="sm", min_width=60)
    return Refining(
        studio, spec, ask, back, shown, choice, accept, leave, gr.Textbox(visible=False), gr.Textbox(visible=False)
    )


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
