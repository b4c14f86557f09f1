"""What the result panel shows of a batch of jobs, as data. Knows no component and writes no HTML."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from engines.types import EngineSpec
from studio import models, queue
from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.measures import clip_length, frame_size, time_span
from studio.page import force_tool
from studio.page.markup import Card, Row
from studio.service import Studio

# Told in one line of their own, or not worth a line.
_TOLD_TOGETHER = ("prompt", "model", "width", "height", "frames", "fps")

NO_FILE = "The file of this clip is not in the outputs folder any more."


@dataclass(frozen=True)
class View:
    """One look at a batch of jobs.

    Attributes:
        card: what goes on.
        preview: the clip as it stands, WebP; empty before its first picture, None where nothing is being made.
        playback: its finished part, WebP; empty if there is none.
        clip: the finished job whose clip is shown.
        active: jobs of the batch that wait or run.
        retry: the job that ended without a clip and can be tried again.
        keepable: whether what the running job has finished could be kept.
        size: width and height of the clip.
        own_pixels: whether what is shown comes from a small built-in model, whose pixels are drawn as they are.
    """

    card: Card
    preview: bytes | None = None
    playback: bytes = b""
    clip: Job | None = None
    retry: Job | None = None
    active: int = 0
    keepable: bool = False
    size: tuple[int, int] = (3, 2)
    own_pixels: bool = False


def view(studio: Studio, spec: EngineSpec, batch: str, *, owner: str) -> View:
    """What to show of the jobs submitted together as `batch`."""
    jobs = [job for job in studio.store.batch(batch) if job.owner == owner] if batch else []
    if not jobs:
        return View(Card("empty", "Your clip will appear here", f"{spec.purpose} Press Generate, or Ctrl and Enter."))
    done = [job for job in jobs if job.state == "done"]
    clip = done[-1] if done else None
    active = [job for job in jobs if job.active]
    size = (int(jobs[-1].request["width"]), int(jobs[-1].request["height"]))
    small = own_pixels(spec, jobs[-1])
    place = f"Clip {len(jobs) - len(active) + 1} of {len(jobs)} · " if len(jobs) > 1 and active else ""
    begun = next((job for job in active if job.state == "running"), None)
    if begun is not None:
        now = time.time()
        progress = studio.executor.progress(begun.id) or Progress(started=now, now=now, stage_began=now)
        together = queue.outlook(studio, owner=owner).done_in_s[active[-1].id] if len(active) > 1 else None
        keepable = bool(progress.playback) and not progress.keeping and not progress.cancelling
        card = running(progress, place, together_s=together)
        return View(
            card,
            progress.preview,
            progress.playback,
            active=len(active),
            keepable=keepable,
            size=size,
            own_pixels=small,
        )
    before = clip or _before(studio, spec, owner)
    if active:
        return View(_waiting(studio, active[0], place), clip=before, active=len(active), own_pixels=small)
    last = jobs[-1]
    if last.state == "failed" and last.failure is not None:
        text = last.failure.text
        return View(Card("failed", "This clip could not be made", text), clip=before, retry=last, own_pixels=small)
    if clip is None:
        kept = "Nothing was kept. Below is the clip before it." if before is not None else "Nothing was kept."
        return View(Card("cancelled", "Cancelled", kept), clip=before, retry=last, own_pixels=small)
    made = f"{len(done)} of {len(jobs)} clips done" if len(jobs) > 1 else "Done"
    return View(finished(spec, clip, title=made), clip=clip, own_pixels=small)


def clips(studio: Studio, batch: str, *, owner: str) -> list[Job]:
    """The finished jobs of a batch, in order."""
    return [job for job in studio.store.batch(batch) if job.owner == owner and job.state == "done" and job.result]


def ranked(jobs: list[Job]) -> list[Job]:
    """Clips made together: by their surprise, the least first, where it was measured; else as they were made."""
    return sorted(jobs, key=lambda job: job.result.figures.get("surprise", 0.0) if job.result else 0.0)


def variation(job: Job) -> str:
    """What stands below a clip among those made with it."""
    figures = job.result.figures if job.result else {}
    seed = f"seed {job.request['seed']}" if figures else str(job.request["seed"])
    return " · ".join([seed, *(f"{name} {value:.3f}" for name, value in figures.items())])


def own_pixels(spec: EngineSpec | None, job: Job) -> bool:
    """Whether a small built-in model makes the job's clip."""
    known = spec.models if spec is not None else ()
    return any(models.built_in(model) for model in known if model.name == job.request.get("model"))


def finished(spec: EngineSpec, clip: Job, *, title: str = "Done") -> Card:
    """A finished clip in a few words."""
    request = clip.result.request if clip.result else clip.request
    parts = [f"seed {request['seed']}", frame_size(request["width"], request["height"])]
    parts.append(clip_length(clip.frames, request["fps"]))
    if clip.result is not None:
        parts.append(f"made in {time_span(clip.result.seconds.get('total', 0.0))}")
        parts += [f"{name} {value:.3f}" for name, value in clip.result.figures.items()]
    notes = clip.result.notes if clip.result else ()
    if clip.result is not None and not Path(clip.result.video).is_file():
        notes = (*notes, NO_FILE)
    elif own_pixels(spec, clip):
        notes = (*notes, own_pixels_line(clip))
    return Card("done", title, " · ".join(parts), notes=tuple(notes))


def own_pixels_line(job: Job) -> str:
    """What the clip of a small built-in model is."""
    size = frame_size(job.request["width"], job.request["height"])
    return (
        f"Made by the built-in demonstration model, {size} pixels, drawn larger without smoothing. "
        "The published models make larger clips."
    )


def running(progress: Progress, place: str = "", *, together_s: float | None = None) -> Card:
    """How far a clip is; `place` says which of several it is, `together_s` in how many seconds the last one is done.

    Nothing is promised of one that is being ended or held.
    """
    ending = "Cancelling…" if progress.cancelling else "Keeping what is finished…" if progress.keeping else ""
    doing = ending or ("Paused" if progress.held else "")
    parts = [f"{time_span(progress.elapsed_s)} so far"]
    if progress.left_s is not None:
        parts.append(f"about {time_span(max(1, progress.left_s))} left{' of this clip' if place else ''}")
        if place and together_s is not None:
            parts[-1] += f", {time_span(max(1, together_s))} of all"
    if progress.device:
        parts.append(progress.device)
    step = f"{progress.index} of {progress.total}" if progress.total and not doing else ""
    share = None if ending else progress.share
    return Card("running", place + (doing or progress.stage), " · ".join(parts), step, share, tuple(progress.notes))


def facts(spec: EngineSpec | None, job: Job) -> list[Row]:
    """The settings of a finished clip; without its engine, under the names that they are stored by."""
    request = dict(job.result.request if job.result else job.request)
    models_ = {model.name: model.title for model in spec.models} if spec else {}
    model = str(request.get("model", ""))
    rows = [Row("Prompt", str(request.get("prompt") or ""), own=True), Row("Model", models_.get(model, model))]
    if {"width", "height", "fps"} <= request.keys():
        size = frame_size(request["width"], request["height"])
        rows.append(Row("Size", f"{size}, {clip_length(job.frames, request['fps'])}"))
    declared = spec.request_type.model_fields if spec else {}
    earlier = spec.field_of("earlier job") if spec else None
    for name in [*declared, *(other for other in request if other not in declared)]:
        value = request.get(name)
        unpushed = name in force_tool.NUMBERS and request.get(force_tool.KIND) == "none"
        if name in _TOLD_TOGETHER or value in (None, "", [], ()) or unpushed:
            continue
        known = name in declared
        title = (declared[name].title if known else None) or name.replace("_", " ").capitalize()
        is_file = name == earlier or (not known and Path(str(value)).is_absolute())
        own = is_file or (isinstance(value, str) and not (known and get_args(declared[name].annotation)))
        rows.append(Row(title, Path(str(value)).name if is_file else _readable(value), own=own))
    if job.result is not None:
        rows.append(Row("Made in", time_span(job.result.seconds.get("total", 0.0))))
        rows += [Row(name.capitalize(), f"{value:.3f}") for name, value in job.result.figures.items()]
        rows += [Row("Note", note) for note in job.result.notes]
    return [row for row in rows if row.value]


def _before(studio: Studio, spec: EngineSpec, owner: str) -> Job | None:
    """The clip that this engine made last: one that is not made hides none that was."""
    return next((job for job in studio.store.finished(owner=owner) if job.engine == spec.name), None)


def _waiting(studio: Studio, job: Job, place: str) -> Card:
    before = sum(other.state == "running" or other.position < job.position for other in studio.store.active())
    if not studio.executor.devices():
        return Card("waiting", f"{place}Getting ready", "Looking at this machine's devices.")
    if reason := studio.executor.hindrance():
        return Card("waiting", f"{place}Waiting", reason)
    clips = "1 clip is" if before == 1 else f"{before} clips are"
    return Card("waiting", f"{place}Waiting", f"{clips} before this one." if before else "Next in line.")


def _readable(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):  # pictures: how many, not where they are kept
        return str(len(value)) if isinstance(value, list) else "1"
    return f"{value:g}" if isinstance(value, float) else str(value)
