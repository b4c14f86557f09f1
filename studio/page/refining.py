"""The Refine row under a prompt: a suggestion with its reasons, to accept or to leave, and a way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import takewhile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.errors import StudioError
from engines.types import EngineSpec
from engines.validation import text_problem
from studio.page import markup
from studio.page.plumbing import HIDDEN, PRIVATE, script
from studio.page.uploads import received
from studio.service import Studio

_MOST_COMPARISONS = 40_000
_HIDE = [gr.update(visible=False)] * 2
_WAITING = markup.lines([markup.Line("Looking at the prompt…")])


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
        asked = self.ask.click(
            lambda: [gr.update(value=_WAITING, visible=True), gr.update(visible=False)],
            None,
            [self.shown, self.choice],
            **HIDDEN,
        )
        asked.then(
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
        if wrong := text_problem(self.spec.request_type, "prompt", text or ""):
            return _instead(wrong.message)
        paths = [Path(path) for path in map(received, pictures) if path]
        try:
            found = self.studio.refine(self.spec.name, str(text or ""), model=str(name or ""), pictures=paths)
        except StudioError as error:
            return _instead(str(error))
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


def _instead(sentence: str) -> list[Any]:
    """What the row holds where there is no suggestion."""
    return [
        "",
        gr.update(value=markup.lines([markup.Line(sentence, "problem")]), visible=True),
        gr.update(visible=False),
    ]


def explained(before: str, after: str, reasons: tuple[str, ...]) -> str:
    """The suggestion with its new words marked, and the reasons below, as HTML."""
    old, new = before.split(), after.split()
    parts = []
    for tag, words in _changes(old, new):
        said = escape(" ".join(words))
        parts += [f"<{tag}>{said}</{tag}>" if tag else said] if said else []
    text = f"<p class='suggestion'>{' '.join(parts)}</p>" if old != new else ""
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons or ("Nothing to add: the prompt is complete.",))
    return f"<div class='refinement' role='status'>{text}<ul>{why}</ul></div>"


def _changes(old: list[str], new: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The words of both in order: "" for those that stay, "del" for those that go, "ins" for those that come.

    What is alike at both ends is told apart first, for mostly it is all there is. Words that repeat themselves would
    take the comparison minutes: where the middles are long, one replaces the other.
    """
    first = _alike(old, new)
    last = _alike(old[first:][::-1], new[first:][::-1])
    a, b = old[first : len(old) - last], new[first : len(new) - last]
    yield "", old[:first]
    if len(a) * len(b) > _MOST_COMPARISONS:
        yield from (("del", a), ("ins", b))
    else:
        for change, a1, a2, b1, b2 in SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
            yield from [("", a[a1:a2])] if change == "equal" else [("del", a[a1:a2]), ("ins", b[b1:b2])]
    yield "", old[len(old) - last :]


def _alike(old: list[str], new: list[str]) -> int:
    """How many words both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
