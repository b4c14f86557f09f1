"""One function that renders any engine's tab from the declaration of its request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import gradio as gr

from engines.types import EngineSpec
from studio.page import attending, controls, preset_row, result, send, start_from, sweep_row, with_and_without
from studio.page.controls import Controls
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, first_look
from studio.page.result import ResultColumn
from studio.page.send import Sender
from studio.page.tab_events import TabEvents
from studio.service import Studio


@dataclass(frozen=True)
class Tab:
    """A rendered tab: its two columns, its events, and the row that sends a frame elsewhere."""

    controls: Controls
    result: ResultColumn
    events: TabEvents
    sender: Sender

    @property
    def form(self) -> Form:
        """The form of the left column."""
        return self.controls.form


def render(studio: Studio, spec: EngineSpec, *, browser: gr.BrowserState) -> Tab:
    """Draw the tab of `spec` and wire its events. `browser` is the memory of the visitor's browser."""
    with gr.Row(elem_classes="workspace"):
        with gr.Column(scale=5, min_width=320, elem_classes="controls"):
            left = controls.render(studio, spec)
            pair = with_and_without.render(spec, left.models.chosen.value)
            several = sweep_row.render(spec)
        with gr.Column(scale=6, min_width=320, elem_classes="result"):
            right = result.render(spec.name, newest=left.form.newest)
            sender = send.render(studio.specs.values(), name=spec.name, clip=right.clip, video=right.video)
    events = TabEvents(studio, left, right, browser=browser)
    _wire_making(events)
    with_and_without.wire(pair, events)
    sweep_row.wire(several, events)
    preset_row.wire(left.presets, studio, left.form, browser)
    _wire_readings(events)
    start_from.wire(events)
    if spec.continued_from:
        _wire_continuing(events)
    return Tab(left, right, events, sender)


def _wire_making(events: TabEvents) -> None:
    """Generate, what is shown meanwhile, and what can be done with the clip."""
    left, right, form, browser = events.controls, events.result, events.form, events.browser
    gr.on(
        [left.generate.click, form.component("prompt").submit],
        events.generate,
        [browser, left.variations, *form.components],
        [left.problems, left.generate, browser, *right.components],
        preprocess=False,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    shown = [browser, right.seen]
    gr.on(first_look(), events.load, shown, [browser, *right.components], **HIDDEN)
    right.timer.tick(events.tick, shown, right.components, **HIDDEN)
    right.cancel.click(events.cancel, shown, right.components, **HIDDEN)
    right.keep.click(events.keep, shown, right.components, **HIDDEN)
    for button, again in ((right.retry, events.retry), (right.smaller, events.retry_smaller)):
        attending.follow(events.studio, button.click(again, shown, right.components, **HIDDEN), browser)
    right.compare.expand(events.compare, browser, right.compared, **HIDDEN)
    right.strip.select(events.pick, browser, right.components, **HIDDEN)
    right.seed.click(events.use_seed, [browser, right.clip], form.control("seed").components, **HIDDEN)
    right.again.click(events.use_settings, [browser, right.clip], form.components, **HIDDEN)
    left.models.chosen.input(events.model_chosen, left.models.chosen, form.components, **HIDDEN)


def _wire_readings(events: TabEvents) -> None:
    """What a text means for a clip of this length, while it is written."""
    frames, fps = events.form.component("frames"), events.form.component("fps")
    for name, line in events.controls.readings.items():
        text = events.form.component(name)
        gr.on(
            [*first_look(), text.change, frames.change, fps.change], partial(events.reading, name),
            [text, frames, fps], line, **HIDDEN,
        )  # fmt: skip


def _wire_continuing(events: TabEvents) -> None:
    """The list of clips that can go on, and the button for the one that is shown."""
    right, form, browser = events.result, events.form, events.browser
    earlier = form.component(str(form.spec.field_of("earlier job")))
    gr.on([*first_look(), right.video.change], events.earlier_clips, browser, earlier, **HIDDEN)
    earlier.input(events.fit_earlier, [browser, earlier], form.components, preprocess=False, **HIDDEN)
    right.longer.click(events.go_on, [browser, right.clip], form.components, **HIDDEN)
    right.anew.click(events.make_anew, [browser, right.clip], form.components, **HIDDEN)
