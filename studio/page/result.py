"""The right column of a tab: what goes on, the clip, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component

from studio.jobs.store import Job
from studio.page.uploads import served_if_there

CLIP_CLASSES = ["clip"]
OWN_PIXELS = "own-pixels"


@dataclass(frozen=True)
class ResultColumn:
    """The components of the column.

    Attributes:
        seen: what the page shows, so that nothing is sent twice: a video sent again starts over. The browser holds it
            with what it tells of, so that an answer that comes late is seen to be old.
        clip: the id of the job whose clip is shown.
        newest: the form's buttons for the clip made last, offered once there is one.
    """

    status: gr.HTML
    keep: gr.Button
    cancel: gr.Button
    retry: gr.Button
    smaller: gr.Button
    playback: gr.HTML
    preview: gr.HTML
    video: gr.Video
    about: gr.HTML
    strip: gr.Gallery
    compare: gr.Accordion
    compared: gr.HTML
    download: gr.DownloadButton
    longer: gr.Button
    anew: gr.Button
    seed: gr.Button
    again: gr.Button
    timer: gr.Timer
    seen: gr.JSON
    clip: gr.State
    newest: tuple[gr.Button, ...] = ()

    @property
    def components(self) -> list[Component | gr.Accordion]:
        """All of them, as an event's outputs."""
        return [*(getattr(self, one.name) for one in fields(self) if one.name != "newest"), *self.newest]


def render(name: str, *, newest: Sequence[gr.Button] = ()) -> ResultColumn:
    """Draw the column of the engine `name`, with nothing to show yet; `newest`: see ResultColumn."""
    status = gr.HTML(elem_id=f"{name}-status", elem_classes="status")
    with gr.Row(elem_classes="actions"):
        keep = gr.Button("Stop and keep", size="md", visible=False, elem_id=f"{name}-keep")
        cancel = gr.Button("Cancel", size="md", variant="stop", visible=False, elem_id=f"{name}-cancel")
        retry = gr.Button("Try again", size="md", visible=False, elem_id=f"{name}-retry")
        smaller = gr.Button("Try smaller", size="md", visible=False, elem_id=f"{name}-smaller")
    playback = gr.HTML(visible=False, elem_id=f"{name}-playback")
    preview = gr.HTML(visible=False, elem_id=f"{name}-preview")
    video = player(f"{name}-video", visible=False)
    strip = gr.Gallery(
        visible=False,
        show_label=False,
        fit_columns=False,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        buttons=[],
        elem_id=f"{name}-variations",
        elem_classes="strip",
    )
    with gr.Accordion("Compare", open=False, visible=False, elem_id=f"{name}-compare") as compare:
        compared = gr.HTML(elem_id=f"{name}-compared")
    with gr.Row(elem_classes="actions"):
        download = gr.DownloadButton("Download", size="md", visible=False, elem_id=f"{name}-download")
        longer = gr.Button("Continue", size="md", visible=False, elem_id=f"{name}-continue")
        anew = gr.Button("Redo from a scene", size="md", visible=False, elem_id=f"{name}-anew")
        seed = gr.Button("Use this seed", size="md", visible=False, elem_id=f"{name}-use-seed")
        again = gr.Button("Use these settings", size="md", visible=False, elem_id=f"{name}-use-settings")
    about = gr.HTML(visible=False, elem_id=f"{name}-about")
    timer = gr.Timer(1.0, active=False)
    return ResultColumn(
        status,
        keep,
        cancel,
        retry,
        smaller,
        playback,
        preview,
        video,
        about,
        strip,
        compare,
        compared,
        download,
        longer,
        anew,
        seed,
        again,
        timer,
        gr.JSON({}, visible=False),
        gr.State(""),
        tuple(newest),
    )


def player(elem_id: str, *, visible: bool = True) -> gr.Video:
    """What plays a finished clip, over and over."""
    return gr.Video(
        visible=visible,
        interactive=False,
        autoplay=True,
        loop=True,
        show_label=False,
        buttons=[],
        elem_id=elem_id,
        elem_classes=CLIP_CLASSES,
    )


def classes(*base: str, own_pixels: bool, fps: Any = None) -> list[str]:
    """The classes of an element that shows a clip: page.js draws small models' at their own pixels, keys.js steps."""
    rate = [f"fps-{fps}"] if isinstance(fps, int | float) and fps > 0 else []
    return [*base, *rate, OWN_PIXELS] if own_pixels else [*base, *rate]


def card_of(job: Job) -> str | None:
    """The picture that stands for a clip in a gallery, else the clip itself; None if its files are gone."""
    files = (job.result.poster, job.result.video) if job.result is not None else ()
    return next(filter(None, map(served_if_there, files)), None)
