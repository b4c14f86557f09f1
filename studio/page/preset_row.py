"""The row that keeps the settings of a form under a name, and sets them again: at the foot of the settings' fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.errors import StudioError
from engines.types import EngineSpec
from studio import presets
from studio.page import markup, spoken
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, Updates, changed, first_look
from studio.page.visitor import visitor
from studio.presets import MOST_CHARACTERS, Presets
from studio.service import Studio

_SAVE, _RENAME, _DELETE = "save", "rename", "delete"
_REPLACE = "replace "
"""What is asked, as the page holds it: with the name of the preset that would be replaced behind the last one."""


@dataclass(frozen=True)
class PresetRow:
    """The row's components.

    Attributes:
        chosen: the presets there are; `save`, `rename` and `delete` begin a question.
        asked: the question with its answers: the name, whether the prompt is kept, `yes` and `no`.
        asking: which question it is.
        said: what happened, or why nothing did.
    """

    chosen: gr.Dropdown
    save: gr.Button
    rename: gr.Button
    delete: gr.Button
    asked: gr.Column
    name: gr.Textbox
    with_prompt: gr.Checkbox
    yes: gr.Button
    no: gr.Button
    asking: gr.Textbox
    said: gr.HTML

    @property
    def components(self) -> list[Any]:
        """Everything that an answer changes."""
        return [
            self.chosen, self.save, self.rename, self.delete, self.asked, self.name, self.with_prompt, self.yes,
            self.asking, self.said,
        ]  # fmt: skip


def render(spec: EngineSpec) -> PresetRow:
    """Draw the row: a button alone, until something is kept."""
    place = f"{spec.name}-preset"
    chosen = gr.Dropdown(
        [], value=None, label="Preset", visible=False, interactive=True, elem_id=place, elem_classes=spoken.OWN_WORDS
    )
    with gr.Row(elem_classes="pills"):
        save = gr.Button("Save as a preset", size="sm", min_width=60, elem_id=f"{place}-save")
        rename = gr.Button("Rename", size="sm", min_width=60, visible=False, elem_id=f"{place}-rename")
        delete = gr.Button("Delete", size="sm", min_width=60, visible=False, elem_id=f"{place}-delete")
    with gr.Column(visible=False) as asked:
        name = gr.Textbox(label="Name of the preset", max_lines=1, max_length=MOST_CHARACTERS, elem_id=f"{place}-name")
        with_prompt = gr.Checkbox(value=False, label="With the prompt", container=False, elem_id=f"{place}-with-prompt")
        with gr.Row(elem_classes="pills"):
            yes = gr.Button("Save", size="sm", min_width=60, elem_id=f"{place}-yes")
            no = gr.Button("Leave it", size="sm", min_width=60, elem_id=f"{place}-no")
    said = gr.HTML(elem_id=f"{place}-said", elem_classes="hint")
    asking = gr.Textbox(visible=False)
    return PresetRow(chosen, save, rename, delete, asked, name, with_prompt, yes, no, asking, said)


def wire(row: PresetRow, studio: Studio, form: Form, browser: gr.BrowserState) -> None:
    """Bind the row, once the whole form stands on the page."""
    bound = Bound(row, studio, form, browser)
    gr.on(first_look(), bound.look, [browser, row.chosen], row.components, preprocess=False, **HIDDEN)
    for button, question in ((row.save, _SAVE), (row.rename, _RENAME), (row.delete, _DELETE)):
        button.click(bound.ask(question), row.chosen, row.components, preprocess=False, **HIDDEN)
    row.no.click(bound.leave, None, row.components, **HIDDEN)
    answered = [browser, row.asking, row.chosen, row.name, row.with_prompt, *form.components]
    gr.on([row.yes.click, row.name.submit], bound.answer, answered, [browser, *row.components],
          preprocess=False, **HIDDEN)  # fmt: skip
    row.chosen.select(bound.use, [browser, row.chosen], [*row.components, *form.components],
                      preprocess=False, **HIDDEN)  # fmt: skip


class Bound:
    """The row's events."""

    def __init__(self, row: PresetRow, studio: Studio, form: Form, browser: gr.BrowserState) -> None:
        self.row, self.studio, self.form, self.browser, self.spec = row, studio, form, browser, form.spec

    def look(self, browser: Any, chosen: Any) -> Any:
        """The presets that there are now."""
        try:
            return self._listed(self._presets(browser), chosen)
        except StudioError as error:
            return self._told(str(error), wrong=True)

    def ask(self, question: str) -> Any:
        """What begins one of the questions."""
        row = self.row
        word = {_SAVE: "Save", _RENAME: "Rename", _DELETE: "Delete"}[question]

        def begin(chosen: Any) -> Updates:
            if question != _SAVE and not chosen:
                return self._hidden()
            sure = self._told(f'Delete the preset "{chosen}"?') if question == _DELETE else self._told("")
            return sure | {
                row.asking: question,
                row.asked: gr.update(visible=True),
                row.name: gr.update(value=str(chosen or ""), visible=question != _DELETE),
                row.with_prompt: gr.update(visible=question == _SAVE),
                row.yes: gr.update(value=word),
            }

        return begin

    def leave(self) -> Updates:
        """Nothing is to be done."""
        return self._hidden() | self._told("")

    def answer(self, browser: Any, asking: Any, chosen: Any, name: Any, with_prompt: Any, *raw: Any) -> Any:
        """Do what was asked; a name that is taken is asked about once more before its preset is replaced."""
        known, asked, name = visitor(self.studio, browser), str(asking or ""), " ".join(str(name or "").split())
        kept, row = self._presets(known), self.row
        try:
            match asked:
                case "delete":
                    kept.delete(self.spec, str(chosen or ""))
                    return self._hidden() | self._listed(kept, None) | self._told(f'"{chosen}" is deleted.')
                case "rename":
                    new = kept.rename(self.spec, str(chosen or ""), name)
                    return self._hidden() | self._listed(kept, new) | self._told("")
            there = kept.find(self.spec.name, name)
            if there is not None and asked != f"{_REPLACE}{there}":
                sure = {row.asking: f"{_REPLACE}{there}", row.yes: gr.update(value="Replace")}
                return sure | self._told(f'There is a preset "{there}": replace it?')
            names = {*presets.fields(self.spec)} - (set() if with_prompt else presets.texts(self.spec))
            values = self.form.read(raw, names=names)
            new = kept.save(self.spec, name, {one: values[one] for one in names & values.keys()}, instead=there or "")
            told = self._hidden() | self._listed(kept, new) | self._told(f'"{new}" is kept.')
            return told | {self.browser: known}
        except StudioError as error:
            return self._told(str(error), wrong=True)

    def use(self, browser: Any, chosen: Any) -> Any:
        """Set the form as the preset says; pictures and files there stay, and a prompt where it has none."""
        row = self.row
        try:
            found = self._presets(browser).taken(self.spec, str(chosen or ""))
        except StudioError as error:
            return self._told(str(error), wrong=True)
        names = {*found.values} | ({"written_prompt", "refined_by"} if "prompt" in found.values else set())
        values = self.spec.default_values(found.values["model"]) | found.values
        shown = {one: gr.update(visible=True) for one in (row.rename, row.delete)}
        return changed(self.form.show(values, names=names) | shown | self._hidden() | self._told(found.sentence))

    def _presets(self, browser: Any) -> Presets:
        return presets.of(self.studio.settings, visitor(self.studio, browser)["owner"])

    def _listed(self, kept: Presets, chosen: Any) -> Updates:
        names, row = kept.names(self.spec.name), self.row
        held = chosen if chosen in names else None
        one = gr.update(visible=held is not None)
        return {
            row.chosen: gr.update(choices=names, value=held, visible=bool(names)),
            row.rename: one,
            row.delete: one,
        }

    def _hidden(self) -> Updates:
        return {self.row.asked: gr.update(visible=False), self.row.asking: ""}

    def _told(self, sentence: str, *, wrong: bool = False) -> Updates:
        return {self.row.said: markup.lines([markup.Line(sentence, "problem" if wrong else "")])}
