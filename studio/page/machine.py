"""This machine: the devices that make clips, what is kept warm on them, and the button that gives it back."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from engines.errors import StudioError
from engines.memory.budget import limit_of
from engines.wording import gigabytes, gpu_memory
from studio import allowances
from studio.jobs.assign import kind
from studio.jobs.worker_process import DeviceState
from studio.page import markup, plumbing
from studio.page.markup import Line, Row
from studio.page.plumbing import HIDDEN, Updates
from studio.service import Studio

_LOOK_EVERY_S = 2.0


class Machine:
    """The chip in the header and the fold at the foot of the page.

    The fold stands only where the page's visitors own the machine: strangers do not unload each other's models.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def chip(self) -> gr.HTML:
        """Draw the chip, and keep looking until the devices are known."""
        self.devices = gr.HTML(elem_classes="chip", elem_id="devices")
        self.watch = gr.Timer(_LOOK_EVERY_S)
        loaded = plumbing.page().load
        gr.on([loaded, self.watch.tick], self.look, None, [self.devices, self.watch], **HIDDEN)
        return self.devices

    def fold(self) -> None:
        """Draw the fold."""
        if self.studio.settings.public:
            return
        with gr.Accordion("This machine", open=False, elem_id="machine") as fold:
            self.table = gr.HTML(elem_id="machine-devices")
            with gr.Row(elem_classes="pair"):
                self.most = gr.Textbox(
                    label="Use at most (GB)",
                    info="Of every device, as 8; or of each, as cuda:0=8,cuda:1=20. Nothing: what is free, less a "
                    "reserve. It is filled, never exceeded, and holds from the next clip on.",
                    elem_id="machine-most",
                    max_lines=1,
                )
            with gr.Row(elem_classes="pills"):
                allow = gr.Button("Use at most that", size="sm", min_width=60, elem_id="machine-allow")
                free = gr.Button("Free memory", size="sm", min_width=60, elem_id="machine-free")
            self.said = gr.HTML(elem_id="machine-said", elem_classes="hint")
        fold.expand(self.open, None, [self.table, self.said, self.most], **HIDDEN)
        gr.on([allow.click, self.most.submit], self.allow, self.most, [self.table, self.said, self.most], **HIDDEN)
        free.click(self.free, None, [self.table, self.said], api_visibility="private", show_progress="minimal")

    def look(self) -> Updates:
        """The chip, and whether the devices still have to be looked for."""
        found = self.studio.executor.devices()
        if not found:
            return {self.devices: markup.chip("Looking at this machine…")}
        names = " + ".join(_title(state) for state in found)
        return {
            self.devices: markup.chip(names, title="Clips are made on this device"),
            self.watch: gr.Timer(active=False),
        }

    def open(self) -> Updates:
        """What is kept warm now."""
        limits = allowances.text(self.studio.executor.limits())
        return {self.table: markup.table(self._rows()), self.said: "", self.most: limits}

    def allow(self, most: Any) -> Updates:
        """Hold every device to what may be used of it from the next clip on, and say so."""
        try:
            self.studio.allow(most if isinstance(most, str) else "")
        except StudioError as error:
            return {self.said: markup.lines([Line(str(error), "problem")])}
        limits = allowances.text(self.studio.executor.limits())
        said = f"From the next clip on, at most {limits} GB." if limits else "From the next clip on, what is free."
        return {self.said: markup.lines([Line(said)]), self.table: markup.table(self._rows()), self.most: limits}

    def free(self) -> Updates:
        """Give back what idle devices keep warm, and say how much it was."""
        given, lines = self.studio.free(), []
        for state in self.studio.executor.devices():
            if state.name in given:
                lines.append(Line(f"{given_back(given[state.name])} on {state.title}."))
            else:
                lines.append(Line(f"{state.title} is making a clip and keeps what it needs."))
        return {self.table: markup.table(self._rows()), self.said: markup.lines(lines)}

    def _rows(self) -> list[Row]:
        limits = self.studio.executor.limits()
        return [
            Row(
                _title(state),
                f"{gigabytes(state.held_bytes)} of models kept warm" if state.held_bytes else "nothing kept",
                f"at most {gigabytes(most)} used" if (most := limit_of(limits, state.name)) is not None else "",
            )
            for state in self.studio.executor.devices()
        ]


def given_back(size_bytes: int) -> str:
    """How much memory was freed, as the beginning of a sentence."""
    return f"{gigabytes(size_bytes)} were given back" if size_bytes else "Nothing was kept"


def _title(state: DeviceState) -> str:
    if kind(state.name) == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return f"CPU · {cores} cores"
    return f"{state.title} · {gpu_memory(state.total_bytes)}" if state.total_bytes else state.title
