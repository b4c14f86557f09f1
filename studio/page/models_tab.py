"""The Models tab: what is installed, how big and under which licence; downloads with their progress; deletion.

Opening it asks nothing of any network: only the Download button does.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from engines.errors import StudioError
from engines.types import EngineSpec, ModelSpec
from engines.wording import gigabytes
from studio import models, own_folders
from studio.downloads import Download
from studio.measures import time_span
from studio.page import markup
from studio.page.markup import Card, Line, Row
from studio.page.plumbing import HIDDEN, PRIVATE, Updates, warn
from studio.service import Studio

_LOOK_EVERY_S = 1.0
_STATES = {"bundled": "built in", "installed": "installed", "partial": "partly here", "missing": "not installed"}


class ModelsTab:
    """The tab. Not drawn where strangers share the studio: they install and delete nothing."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def render(self, opened: gr.Tab) -> None:
        """Draw it; `opened` is its tab."""
        names = [(model.title, _key(spec, model)) for spec, model in self._published()]
        with gr.Row(elem_classes="models"):
            with gr.Column(min_width=320):
                self.listed = gr.HTML(elem_id="models-list")
            with gr.Column(min_width=320):
                self.chosen = gr.Dropdown(names, value=names[0][1], label="Model", elem_id="models-chosen")
                self.about = gr.HTML(elem_id="models-about", elem_classes="hint")
                self.agreed = gr.Checkbox(
                    label="I have read the licence and keep to it", value=False, elem_id="models-agreed"
                )
                with gr.Row(elem_classes="pills"):
                    self.download = gr.Button("Download", variant="primary", size="sm", elem_id="models-download")
                    self.stop = gr.Button("Stop", size="sm", visible=False, elem_id="models-stop")
                    self.delete = gr.Button("Delete files", size="sm", elem_id="models-delete")
                    self.sure = gr.Button(
                        "Delete for good", variant="stop", size="sm", visible=False, elem_id="models-sure"
                    )
                with gr.Row(elem_classes="pair", visible=False) as self.own:
                    self.folder = gr.Textbox(
                        label="A folder of this machine that has its files", placeholder="/data/models", max_lines=1,
                        elem_id="models-folder", max_length=4000, interactive=True,
                    )  # fmt: skip
                    self.use = gr.Button("Use this folder", size="sm", elem_id="models-use")
                self.progress = gr.HTML(elem_id="models-progress")
        self.watch = gr.Timer(_LOOK_EVERY_S, active=False)
        about = [self.about, self.agreed, self.download, self.delete, self.sure, self.own]
        moving = [self.listed, self.progress, self.stop, self.watch, *about]
        opened.select(self._open, self.chosen, moving, **HIDDEN)
        self.watch.tick(self._look, self.chosen, moving, **HIDDEN)
        self.chosen.change(self._about, self.chosen, about, **HIDDEN)
        gr.on([self.download.click], self._start, [self.chosen, self.agreed], moving, **PRIVATE)
        self.stop.click(self._stop, self.chosen, moving, **HIDDEN)
        self.delete.click(lambda: {self.delete: gr.update(visible=False), self.sure: gr.update(visible=True)},
                          None, [self.delete, self.sure], **HIDDEN)  # fmt: skip
        self.sure.click(self._delete, self.chosen, moving, **PRIVATE)
        gr.on(
            [self.use.click, self.folder.submit],
            self._use,
            [self.chosen, self.folder],
            [*moving, self.folder],
            **PRIVATE,
        )

    def _published(self) -> list[tuple[EngineSpec, ModelSpec]]:
        specs = self.studio.specs.values()
        return [(spec, model) for spec in specs for model in spec.models if not models.built_in(model)]

    def _find(self, key: Any) -> tuple[EngineSpec, ModelSpec]:
        return next((pair for pair in self._published() if _key(*pair) == key), self._published()[0])

    def _about(self, key: Any) -> Updates:
        """What is known of the chosen model."""
        spec, model = self._find(key)
        found = self.studio.availability(spec, model.name)
        limited = not models.is_free(model)
        shown = [
            Line(found.reason or model.note),
            Line(found.warning),
            Line(models.licence(model), "licence" if limited else ""),
            Line(models.download_command(spec, model) if found.files.missing else "", "command"),
        ]
        there = found.files.found_bytes > 0
        return {
            self.about: markup.lines(shown) + markup.table(_files(model)),
            self.agreed: gr.update(visible=bool(limited and found.files.missing), value=False),
            self.download: gr.update(visible=bool(found.files.missing), value="Resume" if there else "Download"),
            self.delete: gr.update(visible=there),
            self.sure: gr.update(visible=False),
            self.own: gr.update(visible=bool(found.files.missing) and self.studio.settings.owned),
        }

    def _open(self, key: Any) -> Updates:
        """Everything, also while a download runs."""
        return self._all(key) | self._moving()

    def _look(self, key: Any) -> Updates:
        """How far the download is; the rest as well once it has ended."""
        moving = self._moving()
        return moving if moving[self.watch].active else self._all(key) | moving

    def _moving(self) -> Updates:
        """How far the download is, and whether there is more to see of it."""
        now = self.studio.downloads.current()
        running = now is not None and now.state == "running"
        return {
            self.progress: markup.card(_card(now)) if now is not None else "",
            self.stop: gr.update(visible=running),
            self.watch: gr.Timer(active=running),
        }

    def _all(self, key: Any) -> Updates:
        """The list, and the chosen model."""
        return {self.listed: markup.table(self._rows())} | self._about(key)

    def _start(self, key: Any, agreed: Any) -> Updates:
        spec, model = self._find(key)
        try:
            self._ours()
            if not models.is_free(model) and agreed is not True:
                raise StudioError(
                    "Its licence does not allow every use:", hint="read it, and tick that you keep to it."
                )
            self.studio.downloads.start(spec, model)
        except StudioError as error:
            warn(str(error))
            return {self.watch: gr.update()}
        return self._look(key) | self._about(key) | {self.download: gr.update(visible=False)}

    def _stop(self, key: Any) -> Updates:
        self.studio.downloads.stop()
        self.studio.downloads.wait(_LOOK_EVERY_S)
        return self._look(key)

    def _delete(self, key: Any) -> Updates:
        spec, model = self._find(key)
        try:
            self._ours()
            given = self.studio.remove_model(spec, model)
        except StudioError as error:
            warn(str(error))
            return self._look(key)
        return self._look(key) | {self.progress: markup.lines([Line(f"{gigabytes(given)} given back.")])}

    def _use(self, key: Any, text: Any) -> Updates:
        spec, model = self._find(key)
        try:
            self._ours()
            said = own_folders.use(self.studio, spec, model, str(text or ""))
        except StudioError as error:
            warn(str(error))
            return {self.watch: gr.update()}
        return self._look(key) | {self.progress: markup.lines([Line(said)]), self.folder: ""}

    def _ours(self) -> None:
        if self.studio.settings.public:  # the tab is not drawn there, but its events could be called
            raise StudioError("Strangers share this studio: models cannot be changed.")

    def _rows(self) -> list[Row]:
        rows = []
        for spec in self.studio.specs.values():
            for model in spec.models:
                state = self.studio.availability(spec, model.name).files
                size = gigabytes(state.total_bytes if state.missing else state.found_bytes)
                title = model.title.partition(" (")[0]  # the state says what stands in brackets
                name = title if title.startswith(spec.title) else f"{spec.title}: {title}"
                rows.append(Row(name, _STATES[state.state], size))
        return rows


def _key(spec: EngineSpec, model: ModelSpec) -> str:
    return f"{spec.name}/{model.name}"


def _files(model: ModelSpec) -> list[Row]:
    """A model's parts: where each comes from, and how big it is."""
    return [
        Row(weights.role.replace("_", " "), weights.repo, f"{gigabytes(weights.size_bytes)}, {weights.licence}")
        for weights in model.weights
    ]


def _card(now: Download) -> Card:
    size = f"{gigabytes(now.done_bytes)} of {gigabytes(now.total_bytes)}"
    match now.state:
        case "running":
            left = f", about {time_span(now.left_s)} left" if now.left_s is not None and now.rate > 1e3 else ""
            rate = f" at {now.rate / 1e6:.1f} MB a second" if now.rate > 1e3 else ""
            return Card("running", "Downloading", f"{now.file}: {size}{rate}{left}", share=now.share)
        case "done":
            return Card("done", "Installed", f"Every file is what its hub announces: {gigabytes(now.total_bytes)}.")
        case "stopped":
            return Card("cancelled", "Stopped", f"{size} are here and are kept: Resume goes on from there.")
        case _:
            return Card("failed", "Not installed", now.said)
