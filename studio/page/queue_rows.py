"""What the queue shows, as data: clips that run, wait or were not made, and what can be done with each of them."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from studio import kept_files, queue, remaking
from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.measures import clip_count, clip_seconds, frame_size, seed, time_span
from studio.page.uploads import served_if_there
from studio.queue import Outlook
from studio.service import Studio

MOST_ENDED = 8
_TITLE_CHARACTERS = 80
_RENEW_S = 1800  # gradio deletes names that have grown old
# What can be done: name, what the button says, and what it does in full.
_UP, _DOWN, _TOP = ("up", "↑", "Move up"), ("down", "↓", "Move down"), ("top", "Top", "Make it the next one")
_EDIT, _EDITED = ("edit", "Edit", "Change it before it begins"), ("leave", "Leave", "Leave it as it is")
_COPY = ("copy", "Copy", "Queue it once more, with a new seed")
_CANCEL, _KEEP = ("cancel", "Cancel", "Cancel it"), ("keep", "Stop and keep", "Stop, and keep what is finished")
_RETRY, _REMOVE = ("retry", "Try again", "Queue it once more as it was"), ("remove", "Remove", "Forget it")


def shown(studio: Studio, *, owner: str, editing: str = "") -> dict[str, Any]:
    """Everything that the queue shows of a visitor's clips, as JSON values; `editing` is the one in the form."""
    active, paused = studio.store.active(owner=owner), studio.store.paused
    looks = {job.id: studio.executor.progress(job.id) for job in active if job.state == "running"}
    outlook = queue.outlook(studio, owner=owner)
    waiting = [job.id for job in active if job.state == "queued"]
    rows = [
        _running(studio, job, looks[job.id])
        if job.state == "running"
        else _waiting(studio, job, waiting, outlook, editing=editing, paused=paused)
        for job in active
    ]
    ended = studio.store.unsuccessful(owner=owner, limit=MOST_ENDED)
    done = studio.store.finished(owner=owner, limit=MOST_ENDED)
    share = max((look.share for look in looks.values() if look is not None), default=None)
    return {
        "short": _short(len(active), outlook.left_s, paused=paused),
        "summary": _summary(len(active), outlook.left_s, paused=paused, hindrance=studio.executor.hindrance()),
        "percent": None if share is None else round(100 * share),
        "waiting": len(waiting),
        "pausing": _pausing(studio, paused=paused, looks=[look for look in looks.values() if look is not None]),
        "rows": rows,
        "ended": [_ended(studio, job) for job in ended],
        "news": [_news(studio, job) for job in (*done, *ended)],
    }


def _news(studio: Studio, job: Job) -> dict[str, Any]:
    return {"id": job.id, "state": job.state, "at": job.finished or 0.0, "title": _title(studio, job)}


def _running(studio: Studio, job: Job, look: Progress | None) -> dict[str, Any]:
    look = look or Progress()
    doing = "Cancelling…" if look.cancelling else "Keeping what is finished…" if look.keeping else look.stage
    steps = f" · {look.index} of {look.total}" if look.total and not (look.cancelling or look.keeping) else ""
    left = f" · {_left(look.left_s)}" if look.left_s is not None else ""
    line = f"Paused at {look.index} of {look.total}" if look.held and look.total else "Paused" if look.held else ""
    actions = [_KEEP] if look.playback and not (look.keeping or look.cancelling) else []
    return _row(studio, job, line or f"{doing}{steps}{left}", [*actions, _COPY, _CANCEL], share=look.share)


def _waiting(
    studio: Studio, job: Job, waiting: list[str], outlook: Outlook, *, editing: str, paused: bool
) -> dict[str, Any]:
    place = waiting.index(job.id)
    seconds = outlook.done_in_s.get(job.id)
    line = "Paused" if paused else "Next" if place == 0 else f"Waiting, {place} before it"
    if editing == job.id:
        line = "In the form: change it there, and save it"
    elif seconds is not None:
        line += f" · done in about {time_span(max(1, seconds))}"
    moves = [_UP] * (place > 0) + [_DOWN] * (place < len(waiting) - 1) + [_TOP] * (place > 1)
    edit = [_EDITED if editing == job.id else _EDIT] if not remaking.obstacle(studio.specs, job) else []
    return _row(studio, job, line, [*moves, *edit, _COPY, _CANCEL])


def _ended(studio: Studio, job: Job) -> dict[str, Any]:
    line = job.failure.text if job.failure is not None else "Cancelled"
    spec = studio.specs.get(job.engine)
    actions = [] if remaking.obstacle(studio.specs, job) else [_RETRY]
    if actions and job.state == "failed" and (changes := queue.smaller(spec, job)):
        actions.append(("smaller", f"Try {queue.smaller_words(job, changes)}", "Queue it once more, with less to make"))
    return _row(studio, job, line, [*actions, _REMOVE])


def _row(
    studio: Studio, job: Job, line: str, actions: list[tuple[str, str, str]], *, share: float | None = None
) -> dict[str, Any]:
    request = job.request
    spec = studio.specs.get(job.engine)
    about = [spec.tab if spec is not None else job.engine]
    if {"width", "height", "fps"} <= request.keys():
        about.append(frame_size(request["width"], request["height"]))
        about.append(f"{clip_seconds(job.frames, request['fps'])} s")
    about.append(seed(request))
    return {
        "id": job.id,
        "state": job.state,
        "title": _title(studio, job),
        "about": " · ".join(about),
        "line": line,
        "percent": None if share is None else round(100 * share),
        "picture": _picture(job),
        "actions": [{"name": name, "label": label, "title": title} for name, label, title in actions],
    }


def _title(studio: Studio, job: Job) -> str:
    words = remaking.words(studio.specs.get(job.engine), job, most=_TITLE_CHARACTERS)
    return words or "A clip without a prompt"


def _picture(job: Job) -> str | None:
    """A picture that the clip is made from, as the page may show it."""
    first = next(kept_files.pictures(job.request), None)
    return None if first is None else _served(first, int(time.time() / _RENEW_S))


@lru_cache(maxsize=512)
def _served(path: Path, _age: int) -> str | None:
    return served_if_there(path)


def _pausing(studio: Studio, *, paused: bool, looks: list[Progress]) -> list[dict[str, str]]:
    """What can be done about all clips; nothing where strangers share the studio."""
    if not queue.can_pause(studio):
        return []
    now = {"name": "pause-now", "label": "Pause now", "title": "What runs waits between two steps and keeps its work"}
    if paused:
        held = [now] if any(not look.held for look in looks) else []
        return [{"name": "resume", "label": "Go on", "title": "Make the clips that wait"}, *held]
    after = {"name": "pause", "label": "Pause after this", "title": "What runs is finished; nothing else begins"}
    return [after, now] if looks else [after | {"label": "Pause", "title": "Nothing begins"}]


def _left(seconds: float) -> str:
    return f"about {time_span(max(1, seconds))} left"


def _short(count: int, left_s: float | None, *, paused: bool) -> str:
    """What stands beside the word Queue in the head of the page."""
    parts = [str(count)] if count else []
    if paused:
        parts.append("paused")
    elif count and left_s is not None:
        parts.append(time_span(max(1, left_s)))
    return " · ".join(parts)


def _summary(count: int, left_s: float | None, *, paused: bool, hindrance: str) -> str:
    if not count:
        return "Paused: nothing begins." if paused else "Nothing waits."
    clips = clip_count(count)
    if paused:
        return f"{clips}, paused"
    if hindrance:
        return f"{clips}. {hindrance}"
    return clips if left_s is None else f"{clips}, {_left(left_s)}"
