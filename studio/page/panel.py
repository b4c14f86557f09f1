"""What the result panel shows, as pure functions from jobs to text and HTML. Knows no component."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from engines.errors import Problem
from engines.types import EngineSpec
from studio import continuing
from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.service import Studio


@dataclass(frozen=True)
class View:
    """One look at a batch of jobs.

    Attributes:
        status: what goes on, as HTML.
        preview: the clip as it stands, as HTML; "" if there is nothing to see.
        playback: its finished part, as HTML; "" if there is none.
        clip: the finished job whose clip is shown.
        active: jobs of the batch that wait or run.
        keepable: whether what the running job has finished could be kept.
    """

    status: str
    preview: str = ""
    clip: Job | None = None
    active: int = 0
    playback: str = ""
    keepable: bool = False


def view(studio: Studio, spec: EngineSpec, batch: str, *, owner: str) -> View:
    """What to show of the jobs submitted together as `batch`."""
    jobs = [job for job in studio.store.batch(batch) if job.owner == owner] if batch else []
    if not jobs:
        return View(_empty(spec))
    done = [job for job in jobs if job.state == "done"]
    clip = done[-1] if done else None
    active = [job for job in jobs if job.active]
    place = f"Clip {len(jobs) - len(active) + 1} of {len(jobs)} · " if len(jobs) > 1 and active else ""
    running = next((job for job in active if job.state == "running"), None)
    if running is not None:
        progress = studio.executor.progress(running.id) or Progress(started=time.time())
        keepable = bool(progress.playback) and not progress.keeping and not progress.cancelling
        return View(_running(progress, place), _preview(progress), None, len(active), _playback(progress), keepable)
    if active:
        return View(_waiting(studio, active[0], place), "", clip, len(active))
    last = jobs[-1]
    if last.state == "failed" and last.failure is not None:
        return View(_failed(last), "", clip)
    if clip is None:
        return View(_card("cancelled", "Cancelled", "Nothing was kept."))
    made = f"{len(done)} of {len(jobs)} clips done" if len(jobs) > 1 else "Done"
    return View(finished(spec, clip, title=made), "", clip)


def clips(studio: Studio, batch: str, *, owner: str) -> list[Job]:
    """The finished jobs of a batch, in order."""
    return [job for job in studio.store.batch(batch) if job.owner == owner and job.state == "done" and job.result]


def finished(spec: EngineSpec, clip: Job, *, title: str = "Done") -> str:
    """A finished clip in a few words."""
    request = clip.result.request if clip.result else clip.request
    model = next((model for model in spec.models if model.name == request["model"]), None)
    parts = [f"seed {request['seed']}", f"{request['width']} × {request['height']}"]
    parts.append(duration(clip.frames, request["fps"]))
    if clip.result is not None:
        parts.append(f"made in {seconds(clip.result.seconds.get('total', 0.0))}")
    notes = list(clip.result.notes) if clip.result else []
    if model is not None and not any(weights.repo for weights in model.weights):
        notes.append("Made with the built-in demonstration model: choose a full model for real footage.")
    return _card("done", title, " · ".join(parts), notes=notes)


def problems(found: Sequence[Problem]) -> str:
    """Problems of a request as a list beside the form."""
    if not found:
        return ""
    items = "".join(f"<li>{escape(problem.message)}</li>" for problem in found)
    return f'<ul class="problems" role="alert">{items}</ul>'


def reading(text: str, *, wrong: bool = False) -> str:
    """What a field's text means, or what is wrong with it, as a line below the field; "" for nothing."""
    if not text:
        return ""
    kind = 'class="problem" role="alert"' if wrong else 'role="status"'
    return f"<p {kind}>{escape(text)}</p>"


def facts(spec: EngineSpec, job: Job) -> str:
    """The settings of a finished clip as a table."""
    request = dict(job.result.request if job.result else job.request)
    rows = [("Prompt", request.get("prompt", ""))]
    model = next((model for model in spec.models if model.name == request.get("model")), None)
    rows.append(("Model", model.title if model else request.get("model", "")))
    rows.append(("Size", f"{request['width']} × {request['height']}, {duration(job.frames, request['fps'])}"))
    for name, info in spec.request_type.model_fields.items():
        value = request.get(name)
        if name in ("prompt", "model", "width", "height", "frames", "fps") or value in (None, "", [], ()):
            continue
        rows.append((info.title or name, Path(value).name if name == continuing.FIELD else _readable(value)))
    if job.result is not None:
        rows.append(("Made in", f"{seconds(job.result.seconds.get('total', 0.0))}"))
        rows += [("Note", note) for note in job.result.notes]
    cells = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows
    )
    return f'<table class="facts">{cells}</table>'


def duration(frames: int, fps: int) -> str:
    """33, 12 -> "33 frames @ 12 fps = 2.75 s"."""
    return f"{frames} frames @ {fps} fps = {frames / fps:.2f} s"


def seconds(value: float) -> str:
    """A length of time for people: "8 s", "2 min 5 s", "1 h 3 min"."""
    whole = max(0, round(value))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _running(progress: Progress, place: str) -> str:
    now = time.time()
    parts = [f"{seconds(now - progress.started)} so far"]
    if progress.ends is not None:
        parts.append(f"about {seconds(max(1, progress.ends - now))} left")
    if progress.device:
        parts.append(progress.device)
    ending = "Cancelling…" if progress.cancelling else "Keeping what is finished…" if progress.keeping else ""
    title = ending or progress.stage
    if progress.total and not ending:
        title += f" · {progress.index} of {progress.total}"
    share = progress.index / progress.total if progress.total else None
    return _card("running", place + title, " · ".join(parts), share=share, notes=progress.notes)


def _waiting(studio: Studio, job: Job, place: str) -> str:
    before = sum(other.number < job.number for other in studio.store.active())
    if not studio.executor.devices():
        return _card("waiting", f"{place}Getting ready", "Looking at this machine's devices.")
    clips = "1 clip is" if before == 1 else f"{before} clips are"
    return _card("waiting", f"{place}Waiting", f"{clips} before this one." if before else "Next in line.")


def _failed(job: Job) -> str:
    failure = job.failure
    text = f"{failure.message} {failure.hint}".strip() if failure else ""
    return _card("failed", "This clip could not be made", text)


def _card(kind: str, title: str, text: str, *, share: float | None = None, notes: Sequence[str] = ()) -> str:
    bar = ""
    if kind == "running":
        percent = round(100 * (share or 0))
        known = f'aria-valuenow="{percent}"' if share is not None else ""
        style = f'style="width:{percent}%"' if share is not None else 'class="unknown"'
        role = 'role="progressbar" aria-label="Progress" aria-valuemax="100"'
        bar = f'<div class="bar" {role} {known}><i {style}></i></div>'
    items = "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)
    role = 'role="alert"' if kind == "failed" else 'role="status"'
    return f'<div class="card {kind}" {role}><b>{escape(title)}</b><p>{escape(text)}</p>{bar}{items}</div>'


def _empty(spec: EngineSpec) -> str:
    words = f"{escape(spec.purpose)} Press Generate, or Ctrl and Enter."
    return f'<div class="card empty"><b>Your clip will appear here</b><p>{words}</p></div>'


def _preview(progress: Progress) -> str:
    if not progress.preview:
        return '<div class="preview blank" aria-hidden="true"></div>'
    return f'<div class="preview">{_moving(progress.preview, alt="The clip as it stands")}</div>'


def _playback(progress: Progress) -> str:
    if not progress.playback:
        return ""
    moving = _moving(progress.playback, alt="The finished part of the clip")
    return (
        f'<figure class="playback"><div class="preview">{moving}</div><figcaption>Finished so far</figcaption></figure>'
    )


def _moving(webp: bytes, *, alt: str) -> str:
    return f'<img src="data:image/webp;base64,{base64.b64encode(webp).decode()}" alt="{alt}">'


def _readable(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):  # pictures: how many, not where they are kept
        return str(len(value)) if isinstance(value, list) else "1"
    return f"{value:g}" if isinstance(value, float) else str(value)
