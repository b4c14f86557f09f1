"""The History tab: what was made, newest first; to play, to download, to make again or to delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from engines.errors import InvalidRequest
from studio import continuing
from studio.jobs.store import Job
from studio.page import clip_quality, panel, send
from studio.page.handlers import visitor
from studio.page.plumbing import HIDDEN
from studio.page.send import Sender
from studio.page.tab import Tab
from studio.page.uploads import served
from studio.service import Studio

SHOWN = 60


def render(studio: Studio, tabs_by_engine: Mapping[str, Tab], *, tabs: Any, opened: Any, browser: Any) -> Sender:
    """Draw the tab and wire its events; returns the row that sends a frame elsewhere."""
    book = History(studio, tabs_by_engine)
    listed, chosen = gr.State([]), gr.State("")
    with gr.Row(elem_classes="workspace"):
        with gr.Column(scale=6, min_width=320):
            empty = gr.HTML()
            gallery = gr.Gallery(
                show_label=False, columns=4, height="auto", object_fit="cover", allow_preview=False, buttons=[],
                elem_id="history", elem_classes="history", visible=False,
            )  # fmt: skip
        with gr.Column(scale=5, min_width=320, visible=False, elem_classes="result") as detail:
            video = gr.Video(
                interactive=False, autoplay=True, loop=True, show_label=False, buttons=[], elem_id="history-video",
                elem_classes="clip",
            )  # fmt: skip
            with gr.Row(elem_classes="actions"):
                keep = gr.Button("Use these settings", variant="primary", elem_id="history-use")
                fresh = gr.Button("With a new seed")
            with gr.Row(elem_classes="actions"):
                download = gr.DownloadButton("Download video")
                longer = gr.Button("Continue", visible=False, elem_id="history-continue")
                delete = gr.Button("Delete", variant="stop", elem_id="history-delete")
            sender = send.render(studio.specs.values(), name="history", clip=chosen, video=video)
            with gr.Accordion("Quality", open=False, elem_id="history-quality"):
                gr.HTML(f"<p>{clip_quality.PURPOSE}</p>", elem_classes="hint")
                measured = gr.HTML(elem_id="history-figures")
                measure = gr.Button("Measure", size="sm", elem_id="history-measure")
            facts = gr.HTML()
    listing = [empty, gallery, listed, chosen, detail]
    opened.select(book.list, browser, listing, **HIDDEN)
    gallery.select(book.open, [browser, listed], [chosen, detail, video, download, longer, facts, measured], **HIDDEN)
    delete.click(book.delete, [browser, chosen], listing, **HIDDEN)
    forms = [component for tab in tabs_by_engine.values() for component in tab.form.components]
    for button, new_seed in ((keep, False), (fresh, True)):
        button.click(book.use(new_seed=new_seed), [browser, chosen], [tabs, *forms], **HIDDEN)
    longer.click(book.go_on, [browser, chosen], [tabs, *forms], **HIDDEN)
    measure.click(
        book.measure, [browser, chosen], measured, api_visibility="private", concurrency_limit=1,
        concurrency_id="measure",
    )  # fmt: skip
    return sender


class History:
    """The events of the History tab."""

    def __init__(self, studio: Studio, tabs: Mapping[str, Tab]) -> None:
        self.studio, self.tabs = studio, tabs

    def list(self, browser: Any) -> list[Any]:
        """Outputs: words for an empty list, gallery, ids, chosen id, detail column."""
        owner = visitor(self.studio, browser)["owner"]
        jobs = [job for job in self.studio.store.finished(owner=owner, limit=SHOWN) if job.result]
        cards, ids = [], []
        for job in jobs:
            try:
                cards.append((served(job.result.poster), _caption(job)))  # type: ignore[union-attr]
            except OSError:
                continue  # somebody removed its files from the outputs folder
            ids.append(job.id)
        words = "" if cards else '<div class="card empty"><b>No clips yet</b><p>What you make is kept here.</p></div>'
        gallery = gr.update(value=cards, visible=bool(cards), selected_index=None)
        return [words, gallery, ids, "", gr.update(visible=False)]

    def open(self, browser: Any, ids: Any, event: gr.SelectData) -> list[Any]:
        """Outputs: chosen id, detail column, video, download, the button to continue, facts, quality."""
        job = self._job(browser, ids[event.index] if event.index < len(ids) else "")
        if job is None or job.result is None:
            return [gr.skip() for _ in range(7)]
        path = served(job.result.video)
        spec = self.studio.spec(job.engine)
        longer = gr.update(visible=continuing.possible(spec, job))
        return [
            job.id, gr.update(visible=True), path, path, longer, panel.facts(spec, job), clip_quality.shown(spec, job)
        ]  # fmt: skip

    def measure(self, browser: Any, job_id: str) -> str:
        """The quality figures of the chosen clip."""
        job = self._job(browser, job_id)
        if job is None or job.result is None:
            return ""
        return clip_quality.shown(self.studio.spec(job.engine), job, measure=True)

    def delete(self, browser: Any, job_id: str) -> list[Any]:
        """Remove the chosen clip. Outputs: as for list."""
        self.studio.delete(job_id, owner=visitor(self.studio, browser)["owner"])
        return self.list(browser)

    def use(self, *, new_seed: bool) -> Any:
        """An event that puts the chosen clip's settings back. Outputs: tabs, then every tab's form."""

        def put_back(browser: Any, job_id: str) -> list[Any]:
            job = self._job(browser, job_id)
            updates: list[Any] = [gr.update(selected=job.engine) if job else gr.skip()]
            for name, tab in self.tabs.items():
                if job is None or name != job.engine:
                    updates += [gr.skip() for _ in tab.form.components]
                    continue
                request = job.result.request if job.result else job.request
                values = tab.form.spec.default_values(request["model"]) | dict(request)
                updates += tab.form.show(values | ({"seed": -1} if new_seed else {}))
            return updates

        return put_back

    def go_on(self, browser: Any, job_id: str) -> list[Any]:
        """Put what continues the chosen clip into its tab. Outputs: tabs, then every tab's form."""
        job = self._job(browser, job_id)
        updates: list[Any] = [gr.update(selected=job.engine) if job else gr.skip()]
        for name, tab in self.tabs.items():
            mine = job is not None and name == job.engine
            updates += tab.panel.continue_clip(browser, job_id) if mine else [gr.skip() for _ in tab.form.components]
        return updates

    def _job(self, browser: Any, job_id: str) -> Job | None:
        try:
            return self.studio.job(job_id, owner=visitor(self.studio, browser)["owner"])
        except InvalidRequest:
            return None


def _caption(job: Job) -> str:
    prompt = str(job.request.get("prompt", ""))
    return f"{prompt[:60]}{'…' if len(prompt) > 60 else ''}"
