"""Finished clips that can go on: which they are, the list to choose from, and the settings that continue one.

The page and the API name such a clip by the id of its job; only here that becomes a file, and only for its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import InvalidRequest, Problem
from engines.types import EngineSpec
from studio.jobs.store import Job
from studio.kept_pictures import holds

if TYPE_CHECKING:
    from studio.service import Studio

FIELD = "continues"
NOTHING = ("Nothing: a clip of its own", "")
_PROMPT_CHARACTERS = 40


def kept(spec: EngineSpec, job: Job) -> Path | None:
    """The file that the job's clip can be continued from; None if there is none."""
    if not spec.continued_from or job.engine != spec.name or job.result is None:
        return None
    files = [Path(name) for name in job.result.beside if name.endswith(spec.continued_from)]
    return next((file for file in files if file.is_file()), None)


def possible(spec: EngineSpec, job: Job) -> bool:
    """Whether the job's clip can become longer: its file is there, and its model makes longer clips."""
    model = next((model for model in spec.models if model.name == job.request["model"]), None)
    return model is not None and job.frames < model.geometry.max_frames and kept(spec, job) is not None


def choices(studio: Studio, spec: EngineSpec, *, owner: str) -> list[tuple[str, str]]:
    """What an owner can continue, newest first: words and the id of the job; the first one is not to continue."""
    jobs = [job for job in studio.store.finished(owner=owner) if possible(spec, job)]
    return [NOTHING, *((title(job), job.id) for job in jobs)]


def title(job: Job) -> str:
    """A clip in a few words."""
    prompt = " ".join(str(job.request.get("prompt") or job.request.get("storyboard") or "").split())
    short = f"{prompt[:_PROMPT_CHARACTERS]}{'…' if len(prompt) > _PROMPT_CHARACTERS else ''}"
    length = f"{job.frames / job.request['fps']:.2f} s"
    return f"{short}, {length}, {job.request['width']}x{job.request['height']}, seed {job.request['seed']}"


def values(spec: EngineSpec, job: Job) -> dict[str, Any]:
    """Request values that continue the clip: its own settings, at the length once asked for, or about twice its own."""
    given = dict(job.result.request if job.result else job.request)
    geometry = spec.model(given["model"]).geometry
    longer = max(2 * job.frames - 1, 1 + geometry.frame_stride)
    frames = given["frames"] if job.frames < given["frames"] else min(geometry.max_frames, longer)
    pictures = {name: None for name, info in spec.request_type.model_fields.items() if holds(info.annotation)}
    return spec.default_values(given["model"]) | given | pictures | {"frames": frames, FIELD: job.id}


def resolved(studio: Studio, spec: EngineSpec, given: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Request values with the file in place of the job's id; raises InvalidRequest if this owner has no such clip."""
    chosen = given.get(FIELD) if spec.continued_from else None
    if not chosen:
        return {name: value for name, value in given.items() if name != FIELD or not spec.continued_from}
    job = studio.job(str(chosen), owner=owner)
    file = kept(spec, job) if job is not None else None
    if file is None:
        raise InvalidRequest([Problem(FIELD, "The clip to continue is not there any more: choose another one.")])
    return dict(given) | {FIELD: file}


def job_id(spec: EngineSpec, value: Any) -> str:
    """The id of the job behind a request's value, an id or a file; "" for none and for a file that is gone."""
    path = Path(str(value or ""))
    if path.name != str(value or "") and not path.is_file():
        return ""
    return path.name.removesuffix(spec.continued_from)
