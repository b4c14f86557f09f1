"""Finished clips that can go on: which they are, the list to choose from, and the settings that continue one.

The page and the API name such a clip by the id of its job; only here that becomes a file, and only for its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engines.editing.spec import EditSpec
from engines.errors import InvalidRequest, Problem
from engines.inputs import PICTURES, entries, media_fields
from engines.request import control
from engines.types import EngineSpec
from studio import measures, remaking
from studio.jobs.store import Job

if TYPE_CHECKING:
    from studio.service import Studio

NOTHING = ("Choose a clip", "")
_PROMPT_CHARACTERS = 40


def kept(spec: EngineSpec, job: Job) -> Path | None:
    """The file that the job's clip can be continued from; None if there is none."""
    if not spec.continued_from or job.engine != spec.name or job.result is None:
        return None
    files = [Path(name) for name in job.result.beside if name.endswith(spec.continued_from)]
    return next((file for file in files if file.is_file()), None)


def possible(spec: EngineSpec, job: Job) -> bool:
    """Whether the job's clip can become longer: its file is there, and its model makes longer clips."""
    model = next((model for model in spec.models if model.name == job.request.get("model")), None)
    return model is not None and job.frames < model.geometry.max_frames and kept(spec, job) is not None


def cuts(spec: EngineSpec, job: Job) -> dict[int, int]:
    """Where the job's clip can be made anew from: number of each scene after the first -> frames kept before it."""
    if kept(spec, job) is None:
        return {}
    given = dict(job.result.request if job.result else job.request)
    found: dict[int, int] = {}
    for name, of in spec.cuts.items():
        with suppress(ValueError):  # a stopped clip, say, has fewer scenes than its text
            found |= of(str(given.get(name) or ""), int(given["frames"]), int(given["fps"]))
    return {number: frames for number, frames in found.items() if 0 < frames < job.frames}


def choices(studio: Studio, spec: EngineSpec, *, owner: str) -> list[tuple[str, str]]:
    """What an owner can continue, newest first: words and the id of the job; the first one is not to continue."""
    jobs = [job for job in studio.store.finished(owner=owner) if kept(spec, job) is not None]
    return [NOTHING, *((title(spec, job), job.id) for job in jobs)]


def title(spec: EngineSpec, job: Job) -> str:
    """A clip in a few words."""
    said = remaking.words(spec, job, most=_PROMPT_CHARACTERS)
    length = f"{measures.clip_seconds(job.frames, job.request['fps'])} s"
    size = measures.frame_size(job.request["width"], job.request["height"])
    return f"{said}, {length}, {size}, seed {job.request['seed']}"


def values(spec: EngineSpec, job: Job) -> dict[str, Any]:
    """Request values that continue the clip: its own settings, at the length once asked for, or about twice its own."""
    given = dict(job.result.request if job.result else job.request)
    geometry = spec.model(given["model"]).geometry
    longer = max(2 * job.frames - 1, 1 + geometry.frame_stride)
    frames = given["frames"] if job.frames < given["frames"] else min(geometry.max_frames, longer)
    files = media_fields(spec.request_type, *PICTURES, "clip")
    pictures = {name: None if declared.most == 1 else () for name, declared in files.items()}
    name = str(spec.field_of("earlier job"))
    told = {other: info.get_default() for other, info in spec.request_type.model_fields.items()
            if control(info).get("of") == name}  # fmt: skip
    continued = {name: job.id, "frames": frames}
    return spec.default_values(given["model"]) | given | pictures | told | continued


def anew(spec: EngineSpec, job: Job) -> dict[str, Any]:
    """Request values that make the clip's last scene anew and keep what comes before it, at the length asked for."""
    name = str(spec.field_of("earlier job"))
    (kept_,) = (other for other, info in spec.request_type.model_fields.items() if control(info).get("of") == name)
    asked = dict(job.result.request if job.result else job.request)["frames"]
    return values(spec, job) | {kept_: max(cuts(spec, job).values()), "frames": asked}


def resolved(studio: Studio, spec: EngineSpec | EditSpec, given: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Request values with files in place of the ids of jobs; raises InvalidRequest if this owner has no such clip.

    A field of a clip takes the video of a job named by its id, beside uploads, which are objects with a path.
    """
    values = dict(given)
    for name, declared in media_fields(spec.request_type, "earlier job", "clip").items():
        chosen = values.get(name)
        if not chosen:
            values.pop(name, None)
        elif declared.kind == "earlier job":
            job = _finished(studio, name, chosen, owner=owner)
            values[name] = kept(spec, job) or _gone(name)  # type: ignore[arg-type]
        elif isinstance(chosen, str):
            job = _finished(studio, name, chosen, owner=owner)
            values[name] = {"path": job.result.video if job.result else ""}
    return values


def parents(studio: Studio, spec: EngineSpec | EditSpec, given: Mapping[str, Any], *, owner: str) -> list[str]:
    """The ids of the owner's jobs whose clips request values are made from, before `resolved` puts files there.

    A job is named by its id; a frame, or a whole clip that the page handed on, by the name of its file, which begins
    with the id.
    """
    named: list[str] = []
    for name in media_fields(spec.request_type):
        for entry in entries(given.get(name)):
            path = entry.get("path") if isinstance(entry, Mapping) else entry
            named.append(Path(str(path or "")).name.partition(".")[0])
    return [job_id for job_id in dict.fromkeys(named) if job_id and studio.job(job_id, owner=owner) is not None]


def _finished(studio: Studio, field: str, chosen: Any, *, owner: str) -> Job:
    job = studio.job(str(chosen), owner=owner)
    return job if job is not None and job.result is not None else _gone(field)


def _gone(field: str) -> NoReturn:
    raise InvalidRequest([Problem(field, "The clip to continue is not there any more: choose another one.")])


def job_id(spec: EngineSpec, value: Any) -> str:
    """The id of the job behind a request's value, an id or a file; "" for none and for a file that is gone."""
    path = Path(str(value or ""))
    if path.name != str(value or "") and not path.is_file():
        return ""
    return path.name.removesuffix(spec.continued_from)
