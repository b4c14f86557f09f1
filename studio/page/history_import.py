"""A video dropped on the page tells its settings: ours, Wan2GP's, ComfyUI's or SD.Next's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from engines.errors import MediaError
from engines.media import foreign
from studio import importing
from studio.page import markup
from studio.page.engine_tabs import Places
from studio.page.markup import Line, Row
from studio.page.plumbing import HIDDEN
from studio.page.uploads import received
from studio.service import Studio

HELP = "A video of Kinora, Wan2GP, ComfyUI or SD.Next, or a PNG file of theirs. Drop a video anywhere on the page."
NOTHING = "This video tells nothing of its making that is known here."
NO_NODE = "It was made by ComfyUI, but none of its nodes is known here: write its settings yourself."
_SHOWN = 300


@dataclass(frozen=True)
class Reader:
    """The components of the fold."""

    file: gr.File
    said: gr.HTML
    engine: gr.Dropdown
    use: gr.Button


def render(studio: Studio) -> Reader:
    """Draw the fold."""
    with gr.Accordion("Read the settings of a video", open=False, elem_id="history-import"):
        gr.HTML(markup.lines([Line(HELP)]), elem_classes="hint")
        kinds = [".mp4", ".mkv", ".webm", ".mov", ".png"]
        file = gr.File(file_types=kinds, show_label=False, height=120, elem_id="history-import-file")
        said = gr.HTML(elem_id="history-import-said")
        with gr.Row(elem_classes="pills"):
            names = [(spec.title, spec.name) for spec in studio.specs.values()]
            engine = gr.Dropdown(
                names, value=names[0][1], show_label=False, container=False, filterable=False, visible=False,
                label="Engine", elem_id="history-import-engine", min_width=200,
            )  # fmt: skip
            use = gr.Button("Use these settings", size="sm", visible=False, elem_id="history-import-use")
    return Reader(file, said, engine, use)


class Importing:
    """The events of the fold."""

    def __init__(self, studio: Studio, places: Places, reader: Reader) -> None:
        self.studio, self.places, self.reader = studio, places, reader

    def wire(self) -> None:
        """Bind them."""
        reader = self.reader
        forms = [component for tab in self.places.drawn.values() for component in tab.form.components]
        shown = [reader.said, reader.engine, reader.use]
        gr.on([reader.file.change], self.read, reader.file, shown, preprocess=False, **HIDDEN)
        reader.engine.input(self.into, [reader.file, reader.engine], reader.said, preprocess=False, **HIDDEN)
        reader.use.click(
            self.use, [reader.file, reader.engine], [*self.places.components, *forms], preprocess=False, **HIDDEN
        )

    def read(self, payload: Any) -> Any:
        """What the video tells, and for which form."""
        reader = self.reader
        told, problem = self._told(payload)
        if told is None:
            wrong = markup.lines([Line(problem, "problem")])
            return {reader.said: wrong, reader.engine: gr.update(visible=False), reader.use: gr.update(visible=False)}
        engine = importing.engine_of(told, self.studio.specs)
        chosen = engine or next(iter(self.studio.specs))
        return {
            reader.said: self._table(told, chosen),
            reader.engine: gr.update(value=chosen, visible=not engine),
            reader.use: gr.update(visible=True),
        }

    def into(self, payload: Any, engine: Any) -> str:
        """What another form takes of it."""
        told, problem = self._told(payload)
        if told is None or engine not in self.studio.specs:
            return markup.lines([Line(problem, "problem")])
        return self._table(told, engine)

    def use(self, payload: Any, engine: Any) -> Any:
        """Put the settings into the form of the engine chosen; pictures and files there stay."""
        told, _ = self._told(payload)
        if told is None or engine not in self.studio.specs:
            return gr.skip()
        found = importing.values(told, self.studio.specs[engine])
        form = self.places.drawn[engine].form
        values = form.spec.default_values(found.values["model"]) | found.values
        return self.places.go(engine) | form.show(values, names=set(found.values))

    def _told(self, payload: Any) -> tuple[foreign.Told | None, str]:
        one = payload[0] if isinstance(payload, list) and payload else payload
        path = received(one)
        if path is None:
            return None, ""
        try:
            told = foreign.read(Path(path))
        except MediaError as error:
            return None, error.message
        return told, "" if told else NOTHING

    def _table(self, told: foreign.Told, engine: str) -> str:
        spec = self.studio.specs[engine]
        found = importing.values(told, spec)
        titles = {name: info.title or name for name, info in spec.request_type.model_fields.items()}
        rows = [Row("Made with", told.program), Row("For", spec.title)]
        rows += [Row(titles[name], _short(value)) for name, value in found.values.items() if value not in ("", None)]
        pictures = "Pictures are not in the file: add them to the form." if told.own and told.own.inputs else ""
        unknown = NO_NODE if told.own is None and not told.settings else ""
        return markup.table(rows) + markup.lines([Line(found.sentence), Line(pictures), Line(unknown)])


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text
