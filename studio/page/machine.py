"""This machine: the devices that make clips, what is kept warm on them, and the button that gives it back."""

from __future__ import annotations

import os

import gradio as gr

from engines.memory.budget import limit_of
from engines.wording import gigabytes, gpu_memory
from studio.jobs.assign import kind
from studio.jobs.worker_process import DeviceState
from studio.page import markup, plumbing
from studio.page.markup import Line, Row
from studio.page.plumbing import HIDDEN, Updates
from studio.service import Studio

_LOOK_EVERY_S = 2.0


class Machine:
    """The chip in the header, and a part of the Settings tab.

    That stands only where the page's visitors own the machine: strangers do not unload each other's models.
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

    def render(self, opened: gr.Tab) -> None:
        """Draw what is kept warm, and the button, in the tab that is `opened`."""
        gr.HTML(markup.section("This machine", "What its devices keep warm between clips."), elem_classes="section")
        self.table = gr.HTML(elem_id="machine-devices")
        with gr.Row(elem_classes="pills"):
            free = gr.Button("Free memory", size="sm", min_width=60, elem_id="machine-free")
        self.said = gr.HTML(elem_id="machine-said", elem_classes="hint")
        opened.select(self.open, None, [self.table, self.said], **HIDDEN)
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
        return {self.table: markup.table(self._rows()), self.said: ""}

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
