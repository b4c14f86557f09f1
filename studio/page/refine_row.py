"""The Refine row under a prompt: a suggestion with its reasons, to accept or to leave, and a way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.errors import StudioError
from engines.events import Answer
from engines.prompting import rules
from engines.request import MAX_PROMPT_CHARACTERS
from engines.types import EngineSpec
from engines.validation import text_problem
from studio.page import markup
from studio.page.markup import Change
from studio.page.plumbing import HIDDEN, PRIVATE, Updates, first_look, script
from studio.page.uploads import received
from studio.service import Studio

_MOST_COMPARISONS = 40_000
_HIDE = [gr.update(visible=False)] * 2
_WAITING = markup.lines([markup.Line("Looking at the prompt…")])


@dataclass(frozen=True)
class Prompt:
    """The fields of a form that a suggestion fills: the prompt, what was written before it, and who refined it."""

    text: Component
    written: Component
    refined_by: Component

    @property
    def components(self) -> list[Component]:
        """All of them, as an event's outputs."""
        return [self.text, self.written, self.refined_by]


@dataclass(frozen=True)
class Refining:
    """The row's components.

    Attributes:
        remark: what is to be said of the prompt while it is written.
        who: who refines, where several can.
        ask: the button for a suggestion, `stop` the one that ends the writing, `back` for the prompt before one.
        shown: the suggestion with its reasons, `choice` the buttons to take or to leave it.
        suggested: the suggestion as text, and who wrote it; `before` the prompt that it replaced.
    """

    studio: Studio
    spec: EngineSpec
    remark: gr.HTML
    who: gr.Dropdown
    ask: gr.Button
    stop: gr.Button
    back: gr.Button
    shown: gr.HTML
    choice: gr.Row
    accept: gr.Button
    leave: gr.Button
    suggested: gr.Textbox
    by: gr.Textbox
    before: gr.Textbox

    def wire(self, prompt: Prompt, model: Component, pictures: Sequence[Component]) -> None:
        """Bind the row's events, once these components stand on the page."""
        # Queued, unlike other events: it goes on for a while, and can be ended.
        writing = self.ask.click(
            self.suggest,
            [prompt.text, model, self.who, *pictures],
            [self.suggested, self.by, self.shown, self.choice, self.ask, self.stop],
            preprocess=False,
            api_visibility="private",
            show_progress="hidden",
            concurrency_limit=None,
        )
        self.stop.click(self._stopped, None, [self.shown, self.ask, self.stop], cancels=[writing], **HIDDEN)
        self.accept.click(
            self._accepted,
            [self.suggested, self.by, *prompt.components],
            [*prompt.components, self.before, self.shown, self.choice, self.back],
            **HIDDEN,
        )
        self.leave.click(lambda: _HIDE, None, [self.shown, self.choice], **HIDDEN)
        self.back.click(
            self._undone, [self.before, prompt.written, prompt.refined_by], [*prompt.components, self.back], **HIDDEN
        )
        gr.on(
            [*first_look(), prompt.text.change, model.change], self._remark, [prompt.text, model], self.remark,
            **HIDDEN,
        )  # fmt: skip
        # Undo would throw away what is written from here on.
        prompt.text.input(None, None, self.back, js=script("constant", gr.update(visible=False)), **PRIVATE)

    def suggest(self, text: Any, name: Any, who: Any = "", *pictures: Any) -> Iterator[Updates]:
        """What the row shows while a suggestion is written, and at last; nothing is changed in the form."""
        paths = [Path(path) for path in map(received, pictures) if path]
        before, said = str(text or ""), ""
        ready: Updates = {self.ask: gr.update(visible=True), self.stop: gr.update(visible=False)}
        at_work = {self.choice: gr.update(visible=False), self.ask: gr.update(visible=False)}
        at_work |= {self.stop: gr.update(visible=True)}
        yield {self.shown: gr.update(value=_WAITING, visible=True)} | at_work
        try:
            if wrong := text_problem(self.spec.request_type, "prompt", text or ""):
                raise StudioError(wrong.message)
            told = {"model": str(name or ""), "refiner": str(who or "")}
            pieces = self.studio.refining(self.spec.name, before, **told, pictures=paths)
            with closing(pieces):  # type: ignore[type-var]
                for piece in pieces:
                    if isinstance(piece, Answer):
                        yield ready | self._answered(before, piece)
                        return
                    said += piece.text
                    words = markup.being_written(said) if said.strip() else _WAITING
                    yield {self.shown: gr.update(value=words, visible=True)}
        except StudioError as error:
            instead = gr.update(value=markup.lines([markup.Line(str(error), "problem")]), visible=True)
            yield ready | {self.suggested: "", self.shown: instead, self.choice: gr.update(visible=False)}

    def _remark(self, text: Any, name: Any) -> str:
        words = next((model.words for model in self.spec.models if model.name == name), "")
        said = rules.remark(text, words) if isinstance(text, str) and len(text) <= MAX_PROMPT_CHARACTERS else ""
        return markup.lines([markup.Line(said)])

    def _answered(self, before: str, answer: Answer) -> Updates:
        changes = answer.text != before.strip()
        told = answer.reasons or ((f"Written by {answer.by}.",) if changes else ())
        return {
            self.suggested: answer.text,
            self.by: answer.by,
            self.shown: gr.update(value=explained(before, answer.text, told), visible=True),
            self.choice: gr.update(visible=changes),
        }

    def _stopped(self) -> list[Any]:
        return [gr.update(visible=False), gr.update(visible=True), gr.update(visible=False)]

    def _accepted(self, new: Any, by: Any, text: Any, written: Any, refined_by: Any) -> list[Any]:
        """The suggestion in the form; what somebody wrote stays what they wrote, however often it is refined."""
        return [new, written if refined_by else text, by, text, *_HIDE, gr.update(visible=True)]

    def _undone(self, before: Any, written: Any, refined_by: Any) -> list[Any]:
        nobody = before == written
        return [before, "" if nobody else written, "" if nobody else refined_by, gr.update(visible=False)]


def render(studio: Studio, spec: EngineSpec, *, beside: Callable[[], None] = lambda: None) -> Refining:
    """Draw the row of an engine's tab; `beside` draws what else stands in it."""
    remark = gr.HTML(elem_id=f"{spec.name}-prompt-remark", elem_classes="hint")
    with gr.Row(elem_classes="pills"):
        several = studio.refiners()
        who = gr.Dropdown(
            several, value=several[0][1], label="Who refines", show_label=False, container=False, min_width=120,
            visible=len(several) > 1, elem_id=f"{spec.name}-refiner",
        )  # fmt: skip
        ask = gr.Button("Refine prompt", size="sm", min_width=60, elem_id=f"{spec.name}-refine")
        stop = gr.Button("Stop writing", size="sm", min_width=60, visible=False, elem_id=f"{spec.name}-refine-stop")
        back = gr.Button("Undo", size="sm", min_width=60, visible=False, elem_id=f"{spec.name}-refine-undo")
        beside()
    shown = gr.HTML(visible=False, elem_id=f"{spec.name}-refinement")
    with gr.Row(elem_classes="pills", visible=False) as choice:
        accept = gr.Button("Use this", size="sm", min_width=60, elem_id=f"{spec.name}-refine-accept")
        leave = gr.Button("Keep mine", size="sm", min_width=60)
    suggested, by, before = (gr.Textbox(visible=False) for _ in range(3))
    return Refining(studio, spec, remark, who, ask, stop, back, shown, choice, accept, leave, suggested, by, before)


def explained(before: str, after: str, reasons: tuple[str, ...]) -> str:
    """The suggestion with its new words marked, and the reasons below, as HTML."""
    old, new = before.split(), after.split()
    changes = [(change, " ".join(words)) for change, words in _changes(old, new)] if old != new else []
    return markup.suggestion(changes, reasons or ("Nothing to add: the prompt is complete.",))


def _changes(old: list[str], new: list[str]) -> Iterator[tuple[Change, list[str]]]:
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
