"""The History tab: what was made, newest first; searched, opened, thrown away and taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from engines.errors import StudioError
from engines.types import EngineSpec
from studio import library, remaking
from studio.jobs.shelf import Shelf
from studio.jobs.store import Job
from studio.measures import clip_seconds, seed
from studio.page import attending, history_clip, history_finder, history_import, markup
from studio.page.engine_tabs import Places
from studio.page.history_clip import OpenClip, Opened, picture_of
from studio.page.history_edit import Editing
from studio.page.history_finder import Finder
from studio.page.history_import import Importing, Reader
from studio.page.markup import Card, Line
from studio.page.plumbing import HIDDEN, Updates, changed, warn
from studio.page.result import card_of
from studio.page.send import Sender
from studio.page.visitor import visitor
from studio.service import Studio

PAGE = 60
"""Cards that are shown at first, and more at each press of the button."""
_CAPTION_CHARACTERS = 60


@dataclass(frozen=True)
class Column:
    """The tab's components that events change.

    Attributes:
        listed: ids of the jobs of each card in the gallery, in its order; `chosen` is the id of the clip that is open.
        most: how many cards are shown; `undone` are the ids of the jobs deleted last.
        clear: deletes all that the list shows, where that is the trash or what failed.
    """

    finder: Finder
    usage: gr.HTML
    said: gr.HTML
    undo: gr.Button
    clear: gr.Button
    empty: gr.HTML
    gallery: gr.Gallery
    further: gr.Button
    listed: gr.State
    most: gr.State
    undone: gr.State
    chosen: gr.State
    opened: Opened
    reader: Reader

    @property
    def listing(self) -> list[Any]:
        """What a new list changes."""
        return [
            self.usage, self.said, self.undo, self.clear, self.empty, self.gallery, self.further, self.listed,
            self.most, self.undone, self.chosen, *self.opened.components,
        ]  # fmt: skip


def render(studio: Studio, places: Places, *, opened: gr.Tab, browser: gr.BrowserState) -> Sender:
    """Draw the tab and wire its events; returns the row that sends a frame elsewhere."""
    column, sender = draw(studio)
    book = History(studio, places, column)
    asked, clip = [browser, *column.finder.components], [browser, column.chosen]
    forms = [component for tab in places.drawn.values() for component in tab.form.components]
    results = [component for tab in places.drawn.values() for component in tab.result.components]
    finder, shown = column.finder, column.opened
    opened.select(book.look_up, asked, column.listing, **HIDDEN)
    gr.on(
        [finder.words.submit, *(box.input for box in (finder.engine, finder.when, finder.show))],
        book.find, asked, column.listing, **HIDDEN,
    )  # fmt: skip
    finder.words.change(book.find, asked, column.listing, **HIDDEN)
    column.further.click(book.more, [*asked, column.most], column.listing, **HIDDEN)
    one = [column.chosen, *shown.components]
    column.gallery.select(book.open, [browser, column.listed], one, **HIDDEN)
    shown.strip.select(book.open_sibling, [browser, shown.group], one, **HIDDEN)
    shown.family.select(book.open_relative, [browser, shown.related], one, **HIDDEN)
    shown.close.click(book.close, None, [*one, column.gallery], **HIDDEN)
    column.undo.click(book.undo, [*asked, column.undone], [*column.listing, *results], **HIDDEN)
    column.clear.click(book.clear, asked, column.listing, **HIDDEN)
    shown.delete.click(book.delete, [*clip, *finder.components], [*column.listing, *results], **HIDDEN)
    shown.restore.click(book.restore, [*clip, *finder.components], [*column.listing, *results], **HIDDEN)
    shown.purge.click(book.purge, [*clip, *finder.components], column.listing, **HIDDEN)
    for button, new_seed in ((shown.use, False), (shown.use_anew, True)):
        button.click(book.clip.use(new_seed=new_seed), clip, [*places.components, *forms], **HIDDEN)
    for button, smaller in ((shown.again, False), (shown.smaller, True)):
        attending.follow(studio, button.click(book.clip.again(smaller=smaller), clip, shown.status, **HIDDEN), browser)
    shown.longer.click(book.clip.go_on, clip, [*places.components, *forms], **HIDDEN)
    shown.anew.click(partial(book.clip.go_on, anew=True), clip, [*places.components, *forms], **HIDDEN)
    for engine, button in shown.takers.items():
        button.click(book.clip.give(engine), clip, [*places.components, *forms], **HIDDEN)
    shown.star.click(book.clip.star, clip, shown.star, **HIDDEN)
    gr.on([shown.tags.submit, shown.tags.blur], book.clip.tag, [*clip, shown.tags], None, **HIDDEN)
    Importing(studio, places, column.reader).wire()
    Editing(studio, shown.editor).wire(
        browser=browser, chosen=column.chosen, listed=book.look_up, inputs=asked, outputs=column.listing
    )
    shown.measure.click(
        book.clip.measure, clip, shown.figures, api_visibility="private", concurrency_limit=1, concurrency_id="measure"
    )
    return sender


def draw(studio: Studio) -> tuple[Column, Sender]:
    """Draw the tab without its events, and the row that sends a frame elsewhere."""
    listed, most, undone, chosen = gr.State([]), gr.State(PAGE), gr.State([]), gr.State("")
    finder = history_finder.render(studio)
    with gr.Row(elem_classes=["pills", "kept"]):
        usage = gr.HTML(elem_id="history-usage", elem_classes="hint")
        said = gr.HTML(elem_id="history-done", elem_classes="hint")
        undo = gr.Button("Undo", size="sm", min_width=60, visible=False, elem_id="history-undo")
        clear = gr.Button("", size="sm", min_width=60, visible=False, elem_id="history-clear")
    with gr.Row(elem_classes="workspace"):
        with gr.Column(scale=6, min_width=320):
            empty = gr.HTML(elem_id="history-empty")
            gallery = gr.Gallery(
                show_label=False, fit_columns=False, height="auto", object_fit="cover", allow_preview=False, buttons=[],
                elem_id="history", elem_classes="history", visible=False,
            )  # fmt: skip
            further = gr.Button("Show more", size="sm", visible=False, elem_id="history-more")
            reader = history_import.render(studio)
        with gr.Column(scale=5, min_width=320, elem_classes="result"):
            opened, sender = history_clip.draw(studio, chosen)
    column = Column(
        finder, usage, said, undo, clear, empty, gallery, further, listed, most, undone, chosen, opened, reader
    )  # fmt: skip
    return column, sender


class History:
    """The events of the History tab; each returns what it changes."""

    def __init__(self, studio: Studio, places: Places, column: Column) -> None:
        self.studio, self.places, self.engine_tabs, self.column = studio, places, places.drawn, column
        self.clip = OpenClip(studio, places, column.opened)

    def look_up(self, browser: Any, *asked: Any) -> Updates:
        """What the visitor asks for, nothing of it open, and what all their clips take of the disk."""
        usage = library.usage(self.studio, owner=visitor(self.studio, browser)["owner"])
        return self.find(browser, *asked) | {self.column.usage: markup.lines([Line(history_finder.disk_line(usage))])}

    def find(self, browser: Any, *asked: Any, most: int = PAGE) -> Updates:
        """What the visitor asks for, nothing of it open."""
        column, owner = self.column, visitor(self.studio, browser)["owner"]
        query = (
            history_finder.query(self.studio, *asked) if asked else history_finder.query(self.studio, "", "", "", "")
        )
        groups, count = library.search(self.studio, query, owner=owner, most=most)
        if query.show in ("clips", "starred"):  # one whose files somebody removed cannot be shown
            groups = [there for group in groups if (there := [job for job in group if card_of(job) is not None])]
        title, sentence = history_finder.nothing_found(query)
        nothing = "" if groups else markup.card(Card("empty", title, sentence))
        doomed = ""
        if query.show == "trash":
            doomed = f"Empty the trash ({library.trashed(self.studio, owner=owner)})"
        elif query.show == "unsuccessful":
            doomed = "Delete all of these"
        return {
            column.said: "",
            column.undo: gr.update(visible=False),
            column.clear: gr.update(value=doomed, visible=bool(doomed and groups)),
            column.empty: gr.update(value=nothing, visible=bool(nothing)),
            column.gallery: gr.update(value=self._cards(groups), visible=bool(groups), selected_index=None),
            column.further: gr.update(visible=count > most),
            column.listed: [[job.id for job in group] for group in groups],
            column.most: most,
            column.undone: [],
            column.chosen: "",
            column.opened.blank: gr.update(visible=bool(groups)),
        } | self.clip.show(None)

    def more(self, browser: Any, *asked: Any) -> Updates:
        """The same list, longer. The last value is how much of it is shown."""
        return self.find(browser, *asked[:-1], most=int(asked[-1]) + PAGE)

    def open(self, browser: Any, listed: Any, event: gr.SelectData) -> Any:
        """Open a card: its clip, or the first of the clips made together."""
        return self._opened(browser, listed[event.index] if 0 <= event.index < len(listed) else [])

    def open_sibling(self, browser: Any, group: Any, event: gr.SelectData) -> Any:
        """Open another of the clips made together."""
        return self._opened(browser, group, event.index)

    def open_relative(self, browser: Any, related: Any, event: gr.SelectData) -> Any:
        """Open a clip that the open one was made from, or that was made from it."""
        return self._opened(browser, [related[event.index]] if 0 <= event.index < len(related) else [])

    def close(self) -> Updates:
        """Open nothing."""
        column = self.column
        return {
            column.chosen: "",
            column.opened.blank: gr.update(visible=True),
            column.gallery: gr.update(selected_index=None),
        } | self.clip.show(None)

    def delete(self, browser: Any, job_id: str, *asked: Any) -> Updates:
        """Put the open clip into the trash, from where it can be taken back."""
        job = self.clip.job(browser, job_id)
        gone = library.trash(self.studio, [job_id], owner=job.owner) if job is not None else []
        return self._after(browser, job, asked, f"Deleted. It stays in the trash for {library.TRASH_DAYS} days.", gone)

    def undo(self, browser: Any, *asked: Any) -> Updates:
        """Take back what was deleted last. The last value holds its ids."""
        ids = [str(job_id) for job_id in asked[-1] or []]
        library.restore(self.studio, ids, owner=visitor(self.studio, browser)["owner"])
        job = self.clip.job(browser, ids[0]) if ids else None
        return self._after(browser, job, asked[:-1], "It is back.")

    def restore(self, browser: Any, job_id: str, *asked: Any) -> Updates:
        """Take the open clip out of the trash."""
        job = self.clip.job(browser, job_id)
        library.restore(self.studio, [job_id], owner=visitor(self.studio, browser)["owner"])
        return self._after(browser, job, asked, "It is back among the clips.")

    def purge(self, browser: Any, job_id: str, *asked: Any) -> Updates:
        """Remove the open clip with its files, if it is in the trash."""
        job = self.clip.job(browser, job_id)
        said = ""
        if job is not None and Shelf(self.studio.store).mark(job.id).trashed is not None:
            said = self._tried(lambda: self.studio.delete(job.id, owner=job.owner), "Gone for good.")
            self.clip.figures.forget(job.id)
        return self._after(browser, None, asked, said)

    def clear(self, browser: Any, *asked: Any) -> Updates:
        """Empty the trash, or put there all that failed or was cancelled, as far as the list's filters show it."""
        owner = visitor(self.studio, browser)["owner"]
        query = history_finder.query(self.studio, *asked)
        if query.show == "trash":
            said = self._tried(lambda: library.empty_trash(self.studio, owner=owner), "The trash is empty.")
            return self._after(browser, None, asked, said)
        ids = [job_id for group in Shelf(self.studio.store).search(query, owner=owner) for job_id in group]
        gone = library.trash(self.studio, ids, owner=owner) if query.show == "unsuccessful" else []
        return self._after(browser, None, asked, "They are in the trash.", gone)

    def _tried(self, change: Any, done: str) -> str:
        try:
            change()
        except StudioError as error:
            warn(str(error))
            return ""
        return done

    def _after(
        self, browser: Any, job: Job | None, asked: Sequence[Any], said: str, undone: Sequence[str] = ()
    ) -> Updates:
        """The list after a change, a word about it, and the tab of the clip, which may show it too."""
        column = self.column
        updates = self.look_up(browser, *asked) | {
            column.said: markup.lines([Line(said)]),
            column.undo: gr.update(visible=bool(undone)),
            column.undone: [*undone],
        }
        tab = self.engine_tabs.get(job.engine) if job is not None else None
        return updates | (tab.events.updates(visitor(self.studio, browser), {}) if tab else {})

    def _opened(self, browser: Any, ids: Sequence[str], index: int = 0) -> Any:
        """One of some clips that belong together."""
        jobs = [job for job_id in ids if (job := self.clip.job(browser, job_id)) is not None]
        if not 0 <= index < len(jobs):
            return gr.skip()
        return changed({self.column.chosen: jobs[index].id} | self.clip.show(jobs[index], jobs))

    def _cards(self, groups: Sequence[Sequence[Job]]) -> list[tuple[str, str]]:
        """A picture and a caption for each group; captions that would be the same tell the seed."""
        words = [caption(self.studio.specs.get(group[0].engine), group[0]) for group in groups]
        often = Counter(words)
        cards = []
        for group, said in zip(groups, words, strict=True):
            about = [f"{len(group)} clips" if len(group) > 1 else "", said]
            if often[said] > 1 and len(group) == 1 and (drawn := seed(group[0].request)) != said:
                about.append(drawn)
            about.append(length(group[0]))
            cards.append((picture_of(group[0]), " · ".join(filter(None, about))))
        return cards


def caption(spec: EngineSpec | None, job: Job) -> str:
    """What a clip is about, short; its seed where nothing was said."""
    return remaking.words(spec, job, most=_CAPTION_CHARACTERS) or seed(job.request)


def length(job: Job) -> str:
    """How long a finished clip is, or how a job without one ended."""
    if job.result is None:
        return str(job.state)
    fps = job.result.request.get("fps")
    return f"{clip_seconds(job.frames, int(fps))} s" if isinstance(fps, int | float) and fps > 0 else ""
