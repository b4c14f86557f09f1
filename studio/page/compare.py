"""Two to nine clips in step: what compare.js plays, and which of their settings differ, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.inputs import media_fields
from engines.types import EngineSpec
from studio import kept_files
from studio.jobs.store import Job
from studio.measures import seed
from studio.page import markup, panel
from studio.page.uploads import served_if_there

FEWEST, MOST = 2, 9
_SHORT = 12
_NO_SETTING = ("Made in", "Note")


@dataclass(frozen=True)
class Differing:
    """A setting that is not the same for all clips: what it is called, and its value for each, "" where it has none."""

    label: str
    values: tuple[str, ...]


def show(specs: Mapping[str, EngineSpec], jobs: Sequence[Job], told: Sequence[str] = ()) -> str:
    """HTML that plays the clips of finished jobs in step and tells which settings differ.

    "" where fewer than two of the first nine have their files. `told` says what each clip is; by default the short
    settings that differ, or its seed.
    """
    jobs = jobs[:MOST]
    named = zip(jobs, [*told, *labels(specs, jobs)[len(told) :]], strict=False)
    there = [(job, label, path) for job, label in named if (path := _path(job)) is not None]
    if len(there) < FEWEST:
        return ""
    clips = [_clip(specs, job, label, path) for job, label, path in there]
    rows = [{"label": row.label, "values": row.values} for row in differing(specs, [job for job, _, _ in there])]
    return markup.component("kinora-compare", {"clips": clips, "differing": rows})


def with_and_without(spec: EngineSpec, jobs: Sequence[Job]) -> bool:
    """Whether these are one clip with the branch of its engine and the same without."""
    if spec.branch is None or len(jobs) != FEWEST:
        return False
    one, other = ({**job.request, spec.branch.field: 0} for job in jobs)
    return one == other and sum(not job.request[spec.branch.field] for job in jobs) == 1


def differing(specs: Mapping[str, EngineSpec], jobs: Sequence[Job]) -> list[Differing]:
    """The settings that are not the same for all of these clips, in the order in which they are told."""
    told = [_settings(specs.get(job.engine), job) for job in jobs]
    labels = list(dict.fromkeys(label for one in told for label in one))
    rows = [Differing(label, tuple(one.get(label, "") for one in told)) for label in labels]
    if len({job.engine for job in jobs}) > 1:
        titles = (specs[job.engine].title if job.engine in specs else job.engine for job in jobs)
        rows.insert(0, Differing("Engine", tuple(titles)))
    rows = [row for row in rows if len(set(row.values)) > 1]
    return rows + _files(jobs)


def _settings(spec: EngineSpec | None, job: Job) -> dict[str, str]:
    files = media_fields(spec.request_type) if spec is not None else {}
    titles = {spec.request_type.model_fields[name].title for name in files} if spec is not None else set()
    rows = panel.facts(spec, job)
    return {row.label: row.value for row in rows if row.label not in _NO_SETTING and row.label not in titles}


def _files(jobs: Sequence[Job]) -> list[Differing]:
    """Pictures and clips that were given, told apart by their content, which names the kept files."""
    given = [tuple(path.name for path in kept_files.paths(dict(job.request))) for job in jobs]
    if len(set(given)) < FEWEST:
        return []
    others = list(dict.fromkeys(names for names in given if names))
    words = ("" if not names else f"{len(names)}, set {others.index(names) + 1}" for names in given)
    return [Differing("Pictures and clips given", tuple(words))]


def _clip(specs: Mapping[str, EngineSpec], job: Job, label: str, path: str) -> dict[str, Any]:
    request = job.result.request if job.result else job.request
    small = panel.own_pixels(specs.get(job.engine), job)
    return {"path": path, "label": label, "frames": job.frames, "fps": int(request["fps"]), "pixelated": small}


def _path(job: Job) -> str | None:
    return served_if_there(job.result.video) if job.result is not None else None


def labels(specs: Mapping[str, EngineSpec], jobs: Sequence[Job]) -> list[str]:
    """What sets each clip apart from the others, short."""
    short = [row for row in differing(specs, jobs) if max(map(len, row.values)) <= _SHORT][:2]
    if not short:
        return [seed(job.request) for job in jobs]
    return [", ".join(f"{row.label.lower()} {row.values[index]}" for row in short) for index in range(len(jobs))]
