"""The Settings tab: what this browser prefers, and what the studio was started with, each with where it comes from.

What can be changed stands in the settings file, which the command line reads too; what it takes, settings.SOURCES says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.errors import StudioError
from engines.wording import printable
from studio import changing, settings_table
from studio.changing import Choice
from studio.page import markup
from studio.page.machine import Machine
from studio.page.markup import Line, Row
from studio.page.plumbing import HIDDEN, PRIVATE, Updates, script
from studio.service import Studio
from studio.settings import SOURCES

PREFERENCES = "<kinora-preferences></kinora-preferences>"
MARKED = "Every clip says in its metadata that a generator made it; re-encoding removes that. "
TOLD = MARKED + "The settings that made it, prompt included, stand inside as well."
UNTOLD = MARKED + "The settings that made it are not inside."
HERE = "Kept here, and only here. The key ? tells of all keys."
ELSEWHERE = "Who reaches this page, and what signs its clips, is set where it is started, or in the file."

_LONGEST = 500  # a path is of use only whole
_GROUPS = (
    ("Making clips", ("memory_gb", "devices", "split", "precision", "attention", "preload")),
    ("Page", ("language",)),
    ("Prompts, clips and network", ("refiner", "metadata", "offline")),
    ("Folders", ("outputs", "models", "adapters")),
)


class SettingsTab:
    """The tab. Strangers see what their browser prefers and what a clip tells, and nothing of its owner's."""

    def __init__(self, studio: Studio, machine: Machine) -> None:
        self.studio, self.machine = studio, machine
        self.fields: dict[str, Component] = {}

    def render(self, opened: gr.Tab) -> None:
        """Draw it; `opened` is its tab."""
        settings = self.studio.settings
        with gr.Row(elem_classes="settings-tab"):
            with gr.Column(min_width=320):
                gr.HTML(markup.section("This browser", HERE), elem_classes="section")
                gr.HTML(PREFERENCES, elem_id="preferences")
                if settings.public:
                    gr.HTML(markup.lines([Line(TOLD if settings.metadata else UNTOLD)]), elem_classes="hint")
                else:
                    self.machine.render(opened)
                    gr.HTML(markup.section("Set elsewhere", ELSEWHERE), elem_classes="section")
                    self.shown = gr.HTML(elem_id="settings-shown")
            if not settings.public:
                with gr.Column(min_width=320):
                    self._changed(opened)

    def _changed(self, opened: gr.Tab) -> None:
        """What can be changed, group by group."""
        try:
            choices = changing.choices(self.studio.settings)
        except StudioError as error:  # it was read at the start, and is of no use any more
            gr.HTML(markup.refused(error))
            return
        known = {choice.source.setting: choice for choice in choices}
        for title, names in _GROUPS:
            present = [known[name] for name in names if name in known]
            if present:
                gr.HTML(markup.section(title, ""), elem_classes="section")
            for choice in present:
                self.fields[choice.source.setting] = _field(choice)
        gr.HTML(markup.lines([Line(MARKED)]), elem_classes="hint")
        with gr.Column(elem_classes="dock"):
            self.said = gr.HTML(elem_id="settings-said", elem_classes="hint")
            save = gr.Button("Save", variant="primary", size="lg", elem_id="settings-save")
        fields = [*self.fields.values()]
        opened.select(self.open, None, [self.said, self.shown, *fields], **HIDDEN)
        saved = save.click(self.save, fields, [self.said, *fields], **PRIVATE)
        saved.then(None, [self.fields["language"], self.said], None, js=script("speak"), **PRIVATE)

    def open(self) -> Updates:
        """What the settings file says now, and what was given otherwise: folders stand in no page that is not asked."""
        shown: Updates = {self.said: "", self.shown: markup.table(self._shown())}
        try:
            return shown | self._held()
        except StudioError as error:
            return shown | {self.said: markup.refused(error)}

    def save(self, *values: Any) -> Updates:
        """Write what was changed, and say when it counts."""
        try:
            said = changing.change(self.studio, dict(zip(self.fields, values, strict=True)))
            return {self.said: markup.lines([Line(" ".join(said))])} | self._held()
        except StudioError as error:
            return {self.said: markup.refused(error)}

    def _held(self) -> Updates:
        choices = changing.choices(self.studio.settings)
        return {
            self.fields[one.source.setting]: gr.update(value=one.value, info=told(one))
            for one in choices
            if one.source.setting in self.fields
        }

    def _shown(self) -> Sequence[Row]:
        """What the page does not change; of folders no more than their names where others than the owner look."""
        settings, rows = self.studio.settings, []
        for source in SOURCES:
            folder = source.metavar in ("DIR", "FILE")
            if source.setting == "in_event" or (source.page and not (folder and not settings.owned)):
                continue
            value = settings_table.value(source, settings)
            shown = value if settings.owned or not folder else ", ".join(Path(one).name for one in value.split(", "))
            origin = settings.origins.get(source.setting, settings_table.DEFAULT)
            rows.append(Row(source.title, printable(shown, longest=_LONGEST), origin))
        return rows


def told(choice: Choice) -> str:
    """What a setting does, where its value comes from, and when that counts."""
    said = f"{choice.source.help[:1].upper()}{choice.source.help[1:]}."
    if choice.fixed_by:
        return f"{said} Set by {choice.fixed_by}, which goes before the file."
    origin = "Default" if choice.origin == settings_table.DEFAULT else f"From {printable(choice.origin)}"
    return f"{said} {origin}{', once Kinora is started again' if choice.later else ''}."


def _field(choice: Choice) -> Component:
    """The control of a setting."""
    source = choice.source
    shared: dict[str, Any] = {
        "label": source.title,
        "info": told(choice),
        "value": None if source.read is Path else choice.value,
        "interactive": not choice.fixed_by,
        "elem_id": f"settings-{source.setting}",
    }
    if isinstance(choice.value, bool):
        return gr.Checkbox(**shared)
    if source.choices:
        named = zip(source.names or source.choices, source.choices, strict=True)
        return gr.Dropdown([*named], filterable=False, **shared)
    return gr.Textbox(placeholder=source.default, max_lines=1, **shared)
