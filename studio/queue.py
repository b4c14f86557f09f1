"""What can be done with clips that wait, run or ended without success; and how long all of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.editing import spec as edits
from engines.errors import InvalidRequest, Problem, StudioError
from engines.request import RANDOM_SEED, seeds
from engines.types import EngineSpec
from studio import continuing, editing, remaking
from studio.jobs import pace
from studio.jobs.shelf import Shelf
from studio.jobs.store import ENDED, Job, WrongState
from studio.measures import clip_seconds, frame_size
from studio.service import Studio

BEGUN = "This clip has begun or is over, so it cannot be changed any more."


def edit(studio: Studio, job_id: str, engine: str, values: Mapping[str, Any], *, owner: str = "") -> Job:
    """Make a waiting clip another one, in its place in the queue.

    Raises:
        InvalidRequest: with every problem; the clip waits as it was.
        StudioError: it does not wait any more.
    """
    job = studio.job(job_id, owner=owner)
    if job is None or job.state != "queued":
        raise StudioError(BEGUN)
    spec = studio.spec(engine)
    request = studio.prepared(engine, continuing.resolved(studio, spec, values, owner=owner))
    request = request.model_copy(update={"seed": seeds(request.seed)[0]})
    try:
        changed = studio.store.rewrite(job_id, engine=engine, request=request.model_dump(mode="json"))
    except WrongState:
        raise StudioError(BEGUN) from None
    Shelf(studio.store).born([job_id], continuing.parents(studio, spec, values, owner=owner))
    return changed


def duplicate(studio: Studio, job_id: str, *, owner: str = "", connection: str = "") -> Job:
    """Queue a clip like this one with a seed of its own, behind all others.

    Raises:
        InvalidRequest, StudioError: it cannot be made any more, or there are too many.
    """
    job = _job(studio, job_id, owner)
    if edits.of_job(job.engine):
        raise StudioError("An edit has no seed of its own: make it again in History.")
    studio.check_limits(1, owner=owner, connection=connection)
    request = studio.prepared(job.engine, {**job.request, "seed": seeds(RANDOM_SEED)[0]})
    parents = Shelf(studio.store).mark(job_id).parents
    return studio.queue(job.engine, [request], parents=parents, owner=owner, connection=connection)[0]


def retry(
    studio: Studio, job_id: str, *, changes: Mapping[str, Any] | None = None, owner: str = "", connection: str = ""
) -> Job:
    """Queue a clip that failed or was cancelled once more, with the same seed; `changes` are other settings for it.

    Raises:
        InvalidRequest, StudioError: it cannot be made any more, it did not end so, or there are too many.
    """
    job = _job(studio, job_id, owner)
    if job.state not in ENDED:
        raise StudioError("Only a clip that failed or was cancelled can be tried again.")
    studio.check_limits(1, owner=owner, connection=connection)
    values = {**job.request, **(changes or {})}
    edit = edits.of_job(job.engine)
    request: Any = editing.prepared(studio, edit, values) if edit else studio.prepared(job.engine, values)
    try:
        with studio.admitted(1, owner=owner, connection=connection) as noted:
            again = studio.store.again(job_id, request=values | request.model_dump(mode="json"))
            noted.append(again)
    except WrongState:
        raise StudioError("This clip is already being tried again.") from None
    Shelf(studio.store).restore([job_id])
    studio.executor.wake()
    return again


def smaller(spec: EngineSpec | None, job: Job) -> dict[str, Any]:
    """The next smaller clip that the job's model makes, as settings to change: a smaller size, else fewer frames."""
    model = next((one for one in spec.models if one.name == job.request.get("model")), None) if spec else None
    if model is None or not {"width", "height", "frames"} <= job.request.keys():
        return {}
    width, height, frames = (int(job.request[name]) for name in ("width", "height", "frames"))
    alike = [size for size in model.geometry.sizes if (size[1] > size[0]) == (height > width)]
    sizes = [size for size in alike if size[0] * size[1] < width * height]
    if sizes:
        width, height = max(sizes, key=lambda size: size[0] * size[1])
        return {"width": width, "height": height}
    shorter = [length for length in model.geometry.lengths if length <= 0.6 * frames]
    return {"frames": max(shorter)} if shorter else {}


def smaller_words(job: Job, changes: Mapping[str, Any]) -> str:
    """What a smaller clip would be: "64 × 64", "0.75 s"."""
    if "frames" in changes:
        return f"{clip_seconds(changes['frames'], int(job.request.get('fps') or 1))} s"
    return frame_size(changes["width"], changes["height"])


def pause(studio: Studio, *, now: bool = False) -> None:
    """Let no waiting clip begin; with `now` those that run wait between two steps too.

    Raises:
        StudioError: strangers share the studio, and nobody of them may stop the others.
    """
    _check_pausing(studio)
    studio.store.pause(True)
    studio.executor.hold(now=now)


def resume(studio: Studio) -> None:
    """Go on; raises StudioError as `pause` does."""
    _check_pausing(studio)
    studio.store.pause(False)
    studio.executor.hold(now=True)


def can_pause(studio: Studio) -> bool:
    """Whether whoever looks at this studio may pause it."""
    return not studio.settings.public and not studio.settings.in_event


@dataclass(frozen=True)
class Outlook:
    """How long everything takes: seconds until each clip is done by its job's id, and until all are; None = unknown."""

    done_in_s: Mapping[str, float | None]
    left_s: float | None


def outlook(studio: Studio, *, owner: str = "") -> Outlook:
    """The outlook of a visitor's clips, with those of others between them; of nothing while jobs are paused."""
    active = studio.store.active()
    waiting = [job for job in active if job.state == "queued"]
    times: dict[str, float | None] = {job.id: None for job in active}
    for job in active:
        if job.state == "running" and (progress := studio.executor.progress(job.id)) is not None:
            times[job.id] = progress.left_s
    running = [times[job.id] for job in active if job.state == "running"]
    if not studio.store.paused:
        devices = len(studio.executor.devices()) or 1
        expected = [studio.executor.expected(job) for job in waiting]
        times |= dict(zip((job.id for job in waiting), pace.finish_times(running, expected, devices), strict=True))
    mine = [times[job.id] for job in active if job.owner == owner]
    known = [seconds for seconds in mine if seconds is not None]
    return Outlook(times, max(known) if known and len(known) == len(mine) else None)


def _check_pausing(studio: Studio) -> None:
    if not can_pause(studio):
        raise StudioError("This studio is shared, so nobody can pause it.")


def _job(studio: Studio, job_id: str, owner: str) -> Job:
    """The visitor's job, if it can be made again; raises InvalidRequest."""
    job = studio.job(job_id, owner=owner)
    reason = remaking.obstacle(studio.specs, job) if job is not None else "This clip is not there any more."
    if job is None or reason:
        raise InvalidRequest([Problem("", reason)])
    return job
