"""A frame of a clip becomes a picture of another clip: the row under a result that picks it and sends it to a tab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from engines.errors import MediaError
from engines.media.video import read_frame
from engines.types import EngineSpec
from studio.jobs.store import Job
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, PRIVATE, script, warn
from studio.page.uploads import served_if_there
from studio.page.visitor import visitor
from studio.service import Studio

if TYPE_CHECKING:
    from studio.page.engine_tabs import Places


@dataclass(frozen=True)
class Sender:
    """The row under a clip.

    Attributes:
        clip: the id of the clip, set by whoever shows it in `video`.
        frame: which frame, 1 is the first; `count` is the last.
        ends: the buttons for the first and the last frame.
        targets: title of a tab -> the button that sends to the engine shown there.
    """

    name: str
    clip: gr.State
    video: gr.Video
    box: gr.Accordion
    frame: gr.Slider
    count: gr.Number
    ends: tuple[gr.Button, gr.Button]
    targets: Mapping[str, gr.Button]


def render(specs: Iterable[EngineSpec], *, name: str, clip: gr.State, video: gr.Video) -> Sender:
    """Draw the row, hidden until there is a clip; `video` is called `name`-video."""
    with gr.Accordion("Use a frame of this clip", open=False, visible=False, elem_id=f"{name}-send") as box:
        frame = gr.Slider(1, 2, value=2, step=1, label="Frame", elem_id=f"{name}-frame", interactive=True)
        with gr.Row(elem_classes="pills"):
            ends = (gr.Button("First frame", size="sm", min_width=60), gr.Button("Last frame", size="sm", min_width=60))
        with gr.Row(elem_classes="actions"):
            takers = [spec for spec in specs if spec.field_of("subject", "first frame")]
            titles = {spec.tab: spec.name for spec in reversed(takers)}
            targets = {
                title: gr.Button(f"Send to {title}", size="md", elem_id=f"{name}-to-{first}")
                for title, first in reversed(titles.items())
            }
    return Sender(name, clip, video, box, frame, gr.Number(visible=False), ends, targets)


def wire(studio: Studio, sender: Sender, places: Places, *, browser: gr.BrowserState) -> None:
    """Bind the row's events, once every tab stands on the page."""

    def about(known: Any, clip: Any) -> list[Any]:
        job = finished_job(studio, known, clip)
        count = job.frames if job else 1
        return [
            gr.update(visible=job is not None),
            gr.update(maximum=max(2, count), value=count, visible=count > 1),
            count,
        ]

    # A state's own change is not told to the page in events that are not queued; the video's is.
    sender.video.change(about, [browser, sender.clip], [sender.box, sender.frame, sender.count], **HIDDEN)
    sender.frame.input(None, [sender.frame, sender.count], None, js=script("showFrame", sender.name), **PRIVATE)
    for button, js in zip(sender.ends, (script("constant", 1), script("constant")), strict=True):
        button.click(None, sender.count, sender.frame, js=js, **PRIVATE).then(
            None, [sender.frame, sender.count], None, js=script("showFrame", sender.name), **PRIVATE
        )
    for place in places.engine_tabs:
        if place.title in sender.targets:
            forms = [one.form for one in place.tabs.values() if one.form.picture]
            slots = [component for form in forms if form.picture for component in form.picture.components]
            sender.targets[place.title].click(
                deliver(studio, place.id, forms),
                [browser, sender.clip, sender.frame, place.shown, *slots],
                [places.tabs, *slots],
                preprocess=False,
                **HIDDEN,
            )


def wire_newest(studio: Studio, form: Form, *, browser: gr.BrowserState) -> None:
    """Bind the form's own buttons for the clip made last: its last frame as a picture, the whole to go on from."""

    def take(known: Any, *raw: Any) -> list[Any]:
        job = _newest(studio, known)
        placed = _placed(form, job, -1, raw) if job else None
        return placed or [gr.skip() for _ in raw]

    control = form.picture
    if control is not None and control.board is not None and control.board.last is not None:
        given = control.components
        control.board.last.click(take, [browser, *given], given, preprocess=False, **HIDDEN)
    for control in form.controls:
        if control.newest is not None:
            control.newest.click(partial(newest_clip, studio), browser, control.components[0], **HIDDEN)


def newest_clip(studio: Studio, known: Any) -> Any:
    """What a field of a clip holds with the clip made last in it."""
    job = _newest(studio, known)
    path = served_if_there(job.result.video) if job and job.result else None
    if job and path is None:
        warn("The file of the newest clip is gone: make another.")
    return path or gr.skip()


def _newest(studio: Studio, known: Any) -> Job | None:
    """The visitor's clip made last; a word where there is none."""
    jobs = studio.store.finished(owner=visitor(studio, known)["owner"], limit=1)
    if not jobs:
        warn("There is no clip yet: make one first.")
    return jobs[0] if jobs else None


def deliver(studio: Studio, tab: str, forms: Sequence[Form]) -> Any:
    """An event that sends a frame to the form, of those of a tab, whose engine is shown.

    Outputs: tabs, then the pictures of all forms.
    """

    def deliver(known: Any, clip: Any, frame: Any, shown: Any, *raw: Any) -> list[Any]:
        job = finished_job(studio, known, clip)
        index = int(frame) - 1 if isinstance(frame, int | float) and frame >= 1 else -1
        updates, position = [gr.skip() for _ in range(1 + len(raw))], 0
        for form in forms:
            count = len(form.picture.components) if form.picture else 0
            if form.spec.name == shown and job is not None:
                placed = _placed(form, job, index, raw[position : position + count])
                if placed is not None:
                    updates[0], updates[1 + position : 1 + position + count] = gr.update(selected=tab), placed
            position += count
        return updates

    return deliver


def _placed(form: Form, job: Job, index: int, raw: Any) -> list[Any] | None:
    """What the form's pictures should hold with frame `index` of a clip among them; None, and a word why, if not."""
    try:
        pixels = read_frame(Path(job.result.video), index) if job.result else None
    except MediaError as error:
        warn(str(error))
        return None
    if pixels is None:
        return None
    image, name = Image.fromarray(pixels), f"frame-{index + 1}" if index >= 0 else "last-frame"
    name = f"{job.id}.{name}"  # by which its clip is known again: see continuing.parents
    path = save_pil_to_cache(image, cache_dir=get_upload_folder(), name=name, format="png")  # not gradio's lossy WebP
    placed = form.picture.board.take(path, raw)
    if placed is None:
        warn("Every slot holds a picture: clear one first.")
    return placed


def finished_job(studio: Studio, browser: Any, clip: Any) -> Job | None:
    """The finished clip of this id, if this visitor may see it."""
    job = studio.job(str(clip), owner=visitor(studio, browser)["owner"]) if clip else None
    return job if job is not None and job.result is not None else None
