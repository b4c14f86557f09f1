"""Adapters on the page: a list of the files in the studio's folder, and a table of how much and when each counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.adapters.files import listed
from engines.inputs import Media
from studio.adapters import name_of
from studio.page import markup, parts
from studio.page.plumbing import HIDDEN, first_look

NONE_YET = "There are none in this studio's folder of adapters"


@dataclass(frozen=True)
class AdapterList:
    """The list and the table of one field.

    Attributes:
        declared: which parts of a file can be changed.
        folder: where the files are.
    """

    declared: Media
    folder: Path | None
    files: gr.Dropdown
    table: gr.Dataframe

    @property
    def components(self) -> list[Component]:
        """What holds the field's value."""
        return [self.files, self.table]

    def read(self, raw: Sequence[Any]) -> tuple[dict[str, Any], ...]:
        """The adapters that the table lists, by their names in the folder."""
        fields = self.declared.part_fields()
        found = []
        for name, *held in _rows(raw[1]):
            values = (parts.value_of(info, _number(value)) for info, value in zip(fields.values(), held, strict=False))
            found.append({"path": name} | dict(zip(fields, values, strict=False)))
        return tuple(found)

    def show(self, adapters: Sequence[Any]) -> list[Any]:
        """What list and table should hold for the adapters of a request."""
        rows = rows_of(self.declared, adapters, self.folder)
        return [gr.update(value=list(dict.fromkeys(row[0] for row in rows))), _shown(rows)]

    def wire(self) -> None:
        """A file that is chosen gets a row, one that is not loses it, and the other way round."""
        gr.on(first_look(), self._choices, None, self.files, **HIDDEN)
        self.files.input(self._follow_list, [self.files, self.table], self.table, **HIDDEN)
        self.table.input(self._follow_table, self.table, self.files, **HIDDEN)

    def _choices(self) -> Any:
        return gr.update(choices=listed(self.folder))

    def _follow_list(self, chosen: Any, table: Any) -> Any:
        names = [name for name in chosen if isinstance(name, str)] if isinstance(chosen, list) else []
        kept = [row for row in _rows(table) if row[0] in names]
        fresh = [{"path": name} for name in names if name not in {row[0] for row in kept}]
        return _shown([*kept, *rows_of(self.declared, fresh[: self.declared.most], None)])

    def _follow_table(self, table: Any) -> Any:
        return gr.update(value=list(dict.fromkeys(row[0] for row in _rows(table))))


def render(
    elem_id: str, declared: Media, *, label: str, help_: str, adapters: Sequence[Any], folder: Path | None
) -> AdapterList:
    """Draw list and table, holding `adapters`."""
    gr.HTML(markup.section(label, help_), elem_classes="section")
    known, rows = listed(folder), rows_of(declared, adapters, folder)
    files = gr.Dropdown(
        known,
        value=list(dict.fromkeys(row[0] for row in rows)),
        multiselect=True,
        allow_custom_value=True,  # of an earlier clip, whose file may be gone: Generate says so
        max_choices=declared.most,
        label="Files",
        info="Choose one or more." if known else f"{NONE_YET}.",
        elem_id=elem_id,
        interactive=True,
    )
    fields = declared.part_fields()
    names = [f"{info.title} (%)" if parts.is_share(info) else str(info.title) for info in fields.values()]
    table = gr.Dataframe(
        value=rows,
        headers=["File", *names],
        datatype=["str", *["number"] * len(names)],
        column_count=(1 + len(names), "fixed"),
        column_widths=["40%", *[f"{60 // len(names)}%"] * len(names)],
        wrap=True,
        type="array",
        label="How strongly, and over which share of the steps",
        visible=bool(rows),
        interactive=True,
        elem_id=f"{elem_id}-table",
    )
    found = AdapterList(declared, folder, files, table)
    found.wire()
    return found


def rows_of(declared: Media, adapters: Sequence[Any], folder: Path | None) -> list[list[Any]]:
    """A row for each adapter of a request or of JSON: its name, and its parts as they are shown."""
    fields = declared.part_fields()
    rows = []
    for adapter in adapters:
        held = adapter if isinstance(adapter, Mapping) else adapter.model_dump()
        values = (parts.shown(info, held.get(part, info.get_default())) for part, info in fields.items())
        rows.append([name_of(held["path"], folder), *values])
    return rows


def _shown(rows: list[list[Any]]) -> Any:
    return gr.update(value=rows, visible=bool(rows))


def _rows(table: Any) -> list[list[Any]]:
    """The rows that name a file, whatever a client sends."""
    lists = [row for row in table if isinstance(row, list | tuple)] if isinstance(table, list | tuple) else []
    return [[row[0].strip(), *row[1:]] for row in lists if row and isinstance(row[0], str) and row[0].strip()]


def _number(value: Any) -> Any:
    """A cell's number: browsers send what is typed as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None
