"""The queue on the page: a line in the head that opens a list of all clips that are not made yet, on every tab."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from engines.errors import StudioError
from studio import queue
from studio.page import attending, editing, queue_rows
from studio.page.engine_tabs import Places
from studio.page.plumbing import HIDDEN, Updates, changed, mapping, page, warn
from studio.page.visitor import connection, visitor
from studio.service import Studio

BUSY_S, IDLE_S = 1.0, 4.0

# The element is drawn by queue.js; gradio's own is told of what is pressed in it, and tells it what to show.
_TEMPLATE = "<kinora-queue></kinora-queue>"
_ON_LOAD = """
const panel = element.querySelector("kinora-queue");
panel.send = (name, id) => trigger(name === "edit" ? "edit" : "click", { name, id });
const show = () => panel.show(JSON.parse(props.value || "null"));
watch("value", show);
show();
"""


class QueuePanel:
    """The panel and its events; each event returns what it changes."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def draw(self) -> None:
        """Draw the line in the head."""
        self.panel = gr.HTML("", html_template=_TEMPLATE, js_on_load=_ON_LOAD, elem_id="queue", elem_classes="queue")

    def wire(self, places: Places, browser: gr.BrowserState) -> None:
        """Look at the queue for as long as the page is open."""
        self.places, self.browser = places, browser
        self.seen, self.timer = gr.JSON({}, visible=False), gr.Timer(BUSY_S)
        drawn = places.drawn.values()
        shown = [browser, self.seen, *(one.result.seen for one in drawn)]
        buttons = [one.controls.generate for one in drawn]
        look = [self.panel, self.seen, self.timer, browser, *buttons, *(one.result.timer for one in drawn)]
        gr.on([page().load, self.timer.tick], self.look, shown, look, **HIDDEN)
        attending.follow(self.studio, self.panel.click(self.act, shown, look, **HIDDEN), browser)
        forms = [component for one in drawn for component in one.form.components]
        self.panel.edit(self.edit, shown, [*look, *places.components, *forms], **HIDDEN)

    def look(self, browser: Any, seen: Any, *columns: Any) -> Any:
        """What has changed since the last look; `columns` are what the tabs show."""
        return changed(self._updates(visitor(self.studio, browser), seen, columns))

    def act(self, event: gr.EventData, request: gr.Request | None, browser: Any, seen: Any, *columns: Any) -> Any:
        """Do what was pressed in the panel."""
        known = visitor(self.studio, browser)
        told: Mapping[str, Any] = event._data or {}
        name, job_id = str(told.get("name", "")), str(told.get("id", ""))
        try:
            self._do(name, job_id, known, connection(self.studio.settings, request))
        except StudioError as error:
            warn(str(error))
        left: Updates = {self.browser: known} if name == "leave" else {}
        return changed(left | self._updates(known, seen, columns))

    def edit(self, event: gr.EventData, browser: Any, seen: Any, *columns: Any) -> Any:
        """Put a waiting clip into the form of its tab, from where Generate saves it in its place."""
        known = visitor(self.studio, browser)
        told: Mapping[str, Any] = event._data or {}
        job = self.studio.job(str(told.get("id", "")), owner=known["owner"])
        drawn = self.places.drawn.get(job.engine) if job is not None else None
        if job is None or drawn is None or job.state != "queued":
            warn(queue.BEGUN)
            return changed(self._updates(known, seen, columns))
        known[editing.KEY] = job.id
        updates = self._updates(known, seen, columns) | {self.browser: known}
        values = drawn.form.spec.default_values(job.request["model"]) | dict(job.request)
        return updates | self.places.go(job.engine) | drawn.form.show(values)

    def _do(self, name: str, job_id: str, known: dict[str, Any], here: str) -> None:
        studio, owner = self.studio, known["owner"]
        match name:
            case "up" | "down" | "top":
                studio.reorder(job_id, name, owner=owner)
            case "leave":
                known.pop(editing.KEY, None)
            case "copy":
                queue.duplicate(studio, job_id, owner=owner, connection=here)
            case "cancel" | "keep":
                studio.cancel(job_id, owner=owner, keep=name == "keep")
            case "retry" | "smaller":
                self._retry(job_id, owner, here, smaller=name == "smaller")
            case "remove":
                studio.delete(job_id, owner=owner)
            case "pause" | "pause-now":
                queue.pause(studio, now=name == "pause-now")
            case "resume":
                queue.resume(studio)

    def _retry(self, job_id: str, owner: str, here: str, *, smaller: bool) -> None:
        job = self.studio.job(job_id, owner=owner)
        changes = queue.smaller(self.studio.specs.get(job.engine), job) if job is not None and smaller else {}
        queue.retry(self.studio, job_id, changes=changes, owner=owner, connection=here)

    def _updates(self, known: dict[str, Any], seen: Any, columns: Sequence[Any]) -> Updates:
        updates: Updates = {}
        seen = mapping(seen)
        edited = editing.edited(self.studio, known)
        if known.get(editing.KEY) and edited is None:  # it has begun meanwhile
            known.pop(editing.KEY)
            updates[self.browser] = known
        told = queue_rows.shown(self.studio, owner=known["owner"], editing=edited.id if edited else "")
        text = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")  # gradio warns of what looks like scripts
        engines = sorted({job.engine for job in self.studio.store.active(owner=known["owner"])})
        # By what the tab shows, look after look: an answer from before the job may have put its timer to rest again.
        for (engine, drawn), shown in zip(self.places.drawn.items(), columns, strict=True):
            if engine in engines and drawn.events.rests(shown):
                updates[drawn.result.timer] = gr.Timer(active=True)
        fresh = {"shown": str(hash(text)), "engines": engines, editing.KEY: edited.engine if edited else ""}
        if fresh == dict(seen):
            return updates
        updates |= {self.panel: text, self.seen: fresh}
        if bool(engines) != bool(seen.get("engines")) or not seen:
            updates[self.timer] = gr.Timer(BUSY_S if engines else IDLE_S)
        for engine, drawn in self.places.drawn.items():
            if (engine == fresh[editing.KEY]) != (engine == seen.get(editing.KEY, "")):
                word = editing.SAVE if engine == fresh[editing.KEY] else editing.GENERATE
                updates[drawn.controls.generate] = gr.update(value=word)
        return updates
