"""What History shows: the row that searches and filters it, and what all of it takes of the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.editing.spec import EDITS, PREFIX
from studio import library
from studio.jobs.shelf import Query, Show
from studio.library import Usage
from studio.measures import clip_count, file_size
from studio.service import Studio

DAY_S = 86_400
WHEN = {"Any time": 0.0, "Today": 1.0, "Last 7 days": 7.0, "Last 30 days": 30.0}
SHOW: dict[str, Show] = {
    "Clips": "clips",
    "Starred": "starred",
    "Failed and cancelled": "unsuccessful",
    "Trash": "trash",
}
_EVERY, _EDITED = "All engines", "Edited clips"
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class Finder:
    """The row's components, in the order that `query` takes their values."""

    words: gr.Textbox
    engine: gr.Dropdown
    when: gr.Dropdown
    show: gr.Dropdown

    @property
    def components(self) -> list[Any]:
        """All of them."""
        return [self.words, self.engine, self.when, self.show]


def render(studio: Studio) -> Finder:
    """Draw the row."""
    engines = [(_EVERY, ""), *((spec.title, spec.name) for spec in studio.specs.values()), (_EDITED, PREFIX)]
    with gr.Row(elem_classes="finder"):
        words = gr.Textbox(
            placeholder="Search prompts, models, seeds and #tags", label="Search", show_label=False, container=False,
            max_lines=1, scale=3, min_width=200, max_length=_MOST_CHARACTERS, elem_id="history-words",
        )  # fmt: skip
        chosen = {"container": False, "show_label": False, "scale": 1, "min_width": 130, "filterable": False}
        engine = gr.Dropdown(engines, value="", label="Engine", elem_id="history-engine", **chosen)
        when = gr.Dropdown([*WHEN], value="Any time", label="When", elem_id="history-when", **chosen)
        show = gr.Dropdown([*SHOW], value="Clips", label="Show", elem_id="history-show", **chosen)
    return Finder(words, engine, when, show)


def query(studio: Studio, words: Any, engine: Any, when: Any, show: Any) -> Query:
    """What the row asks for; what it cannot mean is taken for its first choice."""
    days = WHEN.get(str(when), 0.0)
    known = {name: (name,) for name in studio.specs} | {PREFIX: tuple(spec.engine for spec in EDITS.values())}
    return Query(
        words=str(words or "")[:_MOST_CHARACTERS],
        texts=library.texts(studio),
        engines=known.get(engine, ()) if isinstance(engine, str) else (),
        since=_since(days),
        show=SHOW.get(str(show), "clips"),
    )


def _since(days: float) -> float:
    """The moment from which on something counts; "today" begins at midnight."""
    if days == 1:
        here = time.localtime()
        return time.mktime((*here[:3], 0, 0, 0, 0, 0, -1))
    return time.time() - days * DAY_S if days else 0.0


def disk_line(usage: Usage) -> str:
    """How many clips there are, and what they take."""
    parts = [f"{clip_count(usage.count)}, {file_size(usage.clips)}"]
    if usage.trashed:
        parts.append(f"trash {file_size(usage.trash)}")
    if usage.free:
        parts.append(f"{file_size(usage.free)} free on this disk")
    return " · ".join(parts)


def nothing_found(asked: Query) -> tuple[str, str]:
    """A title and a sentence for an empty list."""
    if asked.show == "trash":
        return "The trash is empty", f"What you delete stays here for {library.TRASH_DAYS} days."
    if asked.words or asked.engines or asked.since:
        return "Nothing found", "No clip here fits: change the search or the filters."
    if asked.show == "starred":
        return "No starred clips yet", "Put a star on a clip that you want to find again."
    if asked.show == "unsuccessful":
        return "Nothing went wrong", "Clips that fail or are cancelled are kept here, to be tried again."
    return "No clips yet", "What you make is kept here."
