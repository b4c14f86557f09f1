"""The History tab: what was made, newest first; to play, to download, to make again or to delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engines.errors import MediaError
from engines.request import RANDOM_SEED
from engines.types import EngineSpec
from studio import continuing, remaking
from studio.jobs.store import Job
from studio.page import clip_quality, markup, panel, send
from studio.page.clip_quality import Figures
from studio.page.engine_tabs import Places
from studio.page.plumbing import HIDDEN, Updates, warn
from studio.page.result import CLIP_CLASSES, card_of, classes, player
from studio.page.send import Sender
from studio.page.tab import Tab
from studio.page.unsuccessful import Unsuccessful
from studio.page.uploads import served_if_there
from studio.page.visitor import visitor
from studio.service import Studio

SHOWN = 60
_CAPTION_CHARACTERS = 60


@dataclass(frozen=True)
class Column:
    """The tab's components that events change.

    Attributes:
        listed: the ids of the jobs in the gallery, in its order; `chosen` is the id of the one that is open.
        notice: what a person should know of the open clip before using it again.
    """

    empty: gr.HTML
    gallery: gr.Gallery
    listed: gr.State
    chosen: gr.State
    detail: gr.Column
    notice: gr.HTML
    video: gr.Video
    use: gr.Button
    use_anew: gr.Button
    download: gr.DownloadButton
    longer: gr.Button
    delete: gr.Button
    figures: gr.HTML
    measure: gr.Button
    facts: gr.HTML


def render(studio: Studio, places: Places, *, opened: gr.Tab, browser: gr.BrowserState) -> Sender:
    """Draw the tab and wire its events; returns the row that sends a frame elsewhere."""
    column, sender = draw(studio)
    Unsuccessful(studio).wire(opened, browser)
    book = History(studio, places, column)
    listing = [column.empty, column.gallery, column.listed, column.chosen, column.detail]
    shown = [column.notice, column.video, column.download, column.longer, column.figures, column.facts]
    forms = [component for tab in places.drawn.values() for component in tab.form.components]
    results = [component for tab in places.drawn.values() for component in tab.result.components]
    clip = [browser, column.chosen]
    opened.select(book.list, browser, listing, **HIDDEN)
    column.gallery.select(book.open, [browser, column.listed], [column.chosen, column.detail, *shown], **HIDDEN)
    column.delete.click(book.delete, clip, [*listing, *results], **HIDDEN)
    for button, new_seed in ((column.use, False), (column.use_anew, True)):
        button.click(book.use(new_seed=new_seed), clip, [*places.components, *forms], **HIDDEN)
    column.longer.click(book.go_on, clip, [*places.components, *forms], **HIDDEN)
    column.measure.click(
        book.measure, clip, column.figures, api_visibility="private", concurrency_limit=1, concurrency_id="measure"
    )
    return sender


def draw(studio: Studio) -> tuple[Column, Sender]:
    """Draw the tab without its events, and the row that sends a frame elsewhere."""
    listed, chosen = gr.State([]), gr.State("")
    with gr.Row(elem_classes="workspace"):
        with gr.Column(scale=6, min_width=320):
            empty = gr.HTML()
            gallery = gr.Gallery(
                show_label=False, fit_columns=False, height="auto", object_fit="cover", allow_preview=False, buttons=[],
                elem_id="history", elem_classes="history", visible=False,
            )  # fmt: skip
        with gr.Column(scale=5, min_width=320, visible=False, elem_classes=["result", "opened"]) as detail:
            video = player("history-video")
            notice = gr.HTML(elem_id="history-notice", elem_classes="hint")
            with gr.Row(elem_classes="actions"):
                use = gr.Button("Use these settings", size="md", variant="primary", elem_id="history-use")
                use_anew = gr.Button("Use them with a new seed", size="md", elem_id="history-use-anew")
            with gr.Row(elem_classes="actions"):
                download = gr.DownloadButton("Download video", size="md")
                longer = gr.Button("Continue", size="md", visible=False, elem_id="history-continue")
                delete = gr.Button("Delete", size="md", variant="stop", elem_id="history-delete")
            sender = send.render(studio.specs.values(), name="history", clip=chosen, video=video)
            with gr.Accordion("Quality", open=False, elem_id="history-quality"):
                gr.HTML(markup.lines([markup.Line(clip_quality.PURPOSE)]), elem_classes="hint")
                figures = gr.HTML(elem_id="history-figures")
                measure = gr.Button("Measure", size="sm", elem_id="history-measure")
            facts = gr.HTML(elem_id="history-facts")
    column = Column(
        empty, gallery, listed, chosen, detail, notice, video, use, use_anew, download, longer, delete, figures,
        measure, facts,
    )  # fmt: skip
    return column, sender


class History:
    """The events of the History tab; each returns what it changes."""

    def __init__(self, studio: Studio, places: Places, column: Column) -> None:
        self.studio, self.places, self.engine_tabs, self.column = studio, places, places.drawn, column
        self.figures = Figures()

    def list(self, browser: Any) -> Updates:
        """The clips of this visitor, none of them open."""
        owner = visitor(self.studio, browser)["owner"]
        cards, ids = [], []
        for job in self.studio.store.finished(owner=owner, limit=SHOWN):
            card = card_of(job)
            if card is not None:
                cards.append((card, caption(self.studio.specs.get(job.engine), job)))
                ids.append(job.id)
        nothing = "" if cards else markup.card(markup.Card("empty", "No clips yet", "What you make is kept here."))
        return {
            self.column.empty: gr.update(value=nothing, visible=bool(nothing)),
            self.column.gallery: gr.update(value=cards, visible=bool(cards), selected_index=None),
            self.column.listed: ids,
            self.column.chosen: "",
            self.column.detail: gr.update(visible=False),
        }

    def open(self, browser: Any, ids: Any, event: gr.SelectData) -> Any:
        """Play a clip and tell how it was made."""
        column = self.column
        job = self._job(browser, ids[event.index] if 0 <= event.index < len(ids) else "")
        if job is None or job.result is None:
            return gr.skip()
        path, spec = served_if_there(job.result.video), self.studio.specs.get(job.engine)
        small = panel.own_pixels(spec, job)
        missing = (panel.NO_FILE if path is None else "", remaking.obstacle(self.studio.specs, job), remaking.loss(job))
        about = [markup.Line(sentence, "problem") for sentence in missing]
        if small and path is not None:
            about.append(markup.Line(panel.own_pixels_line(job)))
        return {
            column.chosen: job.id,
            column.detail: gr.update(visible=True),
            column.notice: markup.lines(about),
            column.video: gr.update(
                value=path, visible=path is not None, elem_classes=classes(*CLIP_CLASSES, own_pixels=small)
            ),
            column.download: gr.update(value=path, visible=path is not None),
            column.longer: gr.update(visible=spec is not None and continuing.possible(spec, job)),
            column.figures: markup.table(self.figures.known(job)),
            column.facts: markup.table(panel.facts(spec, job)),
        }

    def measure(self, browser: Any, job_id: str) -> str:
        """The quality figures of the open clip."""
        job = self._job(browser, job_id)
        if job is None or job.result is None:
            return ""
        try:
            return markup.table(self.figures.measure(self.studio.specs.get(job.engine), job))
        except MediaError as error:
            return markup.lines([markup.Line(error.message, "problem")])

    def delete(self, browser: Any, job_id: str) -> Updates:
        """Remove the open clip, here and where its tab still shows it."""
        known = visitor(self.studio, browser)
        job = self._job(browser, job_id)
        self.studio.delete(job_id, owner=known["owner"])
        self.figures.forget(job_id)
        tab = self.engine_tabs.get(job.engine) if job else None
        return self.list(browser) | (tab.events.updates(known, {}) if tab else {})

    def use(self, *, new_seed: bool) -> Callable[[Any, str], Any]:
        """An event that puts the open clip's settings back into its tab."""

        def put_back(browser: Any, job_id: str) -> Any:
            found = self._usable(browser, job_id)
            if found is None:
                return gr.skip()
            job, tab = found
            if lost := remaking.loss(job):
                warn(lost)
            request = dict(job.result.request if job.result else job.request)
            values = tab.form.spec.default_values(request["model"]) | request
            return self.places.go(job.engine) | tab.form.show(values | ({"seed": RANDOM_SEED} if new_seed else {}))

        return put_back

    def go_on(self, browser: Any, job_id: str) -> Any:
        """Put what continues the open clip into its tab."""
        found = self._usable(browser, job_id)
        if found is None:
            return gr.skip()
        job, tab = found
        updates = tab.events.go_on(browser, job_id)
        return updates if updates == gr.skip() else self.places.go(job.engine) | updates

    def _usable(self, browser: Any, job_id: str) -> tuple[Job, Tab] | None:
        """The clip and the tab that its settings belong to; None, and a sentence why, where there is no such tab."""
        job = self._job(browser, job_id)
        problem = remaking.obstacle(self.studio.specs, job) if job else "This clip is not there any more."
        if problem or job is None:
            warn(problem)
            return None
        return job, self.engine_tabs[job.engine]

    def _job(self, browser: Any, job_id: str) -> Job | None:
        return self.studio.job(job_id, owner=visitor(self.studio, browser)["owner"])


def caption(spec: EngineSpec | None, job: Job) -> str:
    """What a clip is about, short; its seed where nothing was said."""
    return remaking.words(spec, job, most=_CAPTION_CHARACTERS) or f"seed {job.request.get('seed')}"
