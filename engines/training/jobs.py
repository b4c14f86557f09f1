"""The starters that are trained, in the order in which they build on each other, and which of them would gain most.

A starter file lives in the starter folder when it is the one to ship, and in the folder `next` in it while a shipped
one still scores better.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.bindweave.spec import STARTER_FILES
from engines.media.output import whole_file

from .files import read_facts

NEXT = "next"
STATE = "training.json"
AUTOENCODERS = ("AutoencoderKLWan", "CausalVideoVAE")


@dataclass(frozen=True, eq=False)
class Job:
    """One starter.

    Attributes:
        recipe: how it is trained.
        file: what training writes.
        evaluations: names of the evaluations that judge it.
        share: of a session's time, relative to the others'.
        after: recipes whose files it begins from or decodes with.
        parts: files of the other networks that are trained with that in `file`, by the trainer's names.
    """

    recipe: str
    file: str
    evaluations: tuple[str, ...]
    share: float
    after: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All that training writes."""
        return (self.file, *self.parts.values())


JOBS = (
    Job("vae", "wan_vae.safetensors", ("wan-vae",), 4),
    Job("text-to-video", "wan_t2v.safetensors", ("wan-t2v", "phantom-wan"), 8, ("vae",)),
    Job("flashi2v", "flashi2v.safetensors", ("flashi2v",), 5, ("text-to-video",)),
    Job(
        "bindweave",
        STARTER_FILES["transformer"],
        ("bindweave",),
        5,
        ("text-to-video",),
        {role: name for role, name in STARTER_FILES.items() if role != "transformer"},
    ),
    Job("pyramid-vae", "pyramid_vae4.safetensors", ("pyramid-vae",), 3),
    Job("pyramid-flow", "pyramid_flow.safetensors", ("pyramid-flow",), 5, ("pyramid-vae",)),
    Job("pyramid-flow-sd3", "pyramid_flow_sd3.safetensors", ("pyramid-flow-sd3",), 2, ("pyramid-flow",)),
    Job("physics-encoder", "physics_encoder.safetensors", ("physics-encoder",), 2),
    Job(
        "phantom-physics-starter",
        "phantom_physics.safetensors",
        ("phantom-physics",),
        3,
        ("text-to-video", "physics-encoder"),
    ),
)


@dataclass
class Progress:
    """What is known of one job. Scores: the share of its targets that a file reaches, 1 = all of them."""

    step: int = 0
    minutes: float = 0.0  # trained by `all`, wall time
    shipped: float | None = None
    trained: float | None = None
    measured: str = ""  # digest of the shipped file that the score `shipped` belongs to
    figures: dict[str, float] = field(default_factory=dict)  # of the file that was trained last


class State:
    """The small file in which `all` keeps what it did; committed with the weights."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STATE
        known = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        self.jobs = {job.recipe: Progress(**known.get(job.recipe, {})) for job in JOBS}

    def write(self) -> None:
        """Replace the file by what is known now."""
        with whole_file(self.path) as part:
            part.write_text(json.dumps({n: asdict(p) for n, p in self.jobs.items()}, indent=1) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """What tells one file from another; "" for none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def score(figures: Iterable[Mapping[str, Any]]) -> float:
    """How much of their targets figures reach, on average; those without one, and sizes of files, do not count.

    More than a share that is to be high counts for more, so that a file is not replaced by one that is only just good
    enough; an error below its target does not.
    """
    shares = []
    for figure in figures:
        value, target = figure["value"], figure["target"]
        if target is None or figure["unit"] == "MB":
            continue
        shares.append(min(1.0, target / max(value, 1e-9)) if figure["lower"] else value / target)
    return sum(shares) / len(shares) if shares else 0.0


def newest(job: Job, folder: Path) -> Path | None:
    """The file to train on from: the one in `next`, else the shipped one if it is of the latents of today's recipe."""
    if all((folder / NEXT / name).is_file() for name in job.files):
        return folder / NEXT / job.file
    shipped = folder / job.file
    if not all((folder / name).is_file() for name in job.files):
        return None
    return shipped if _is_of(job, read_facts(shipped)) else None


def _is_of(job: Job, facts: Mapping[str, Any]) -> bool:
    from .recipes import recipe_module

    recipe = recipe_module(job.recipe).RECIPE
    made_by = facts.get("recipe", {}).get("recipe", {})
    return made_by.get("latents_file") == recipe.latents_file


def gain(job: Job, progress: Progress) -> float:
    """How much training it would pay: what is missing to its targets, less the longer it was trained."""
    reached = 0.0 if progress.trained is None else min(progress.trained, 1.0)
    return (1.02 - reached) * job.share / (1 + progress.minutes / (30 * job.share))


def ready(jobs: Iterable[Job], folder: Path) -> list[Job]:
    """Those whose predecessors have a file to build on."""
    by_name = {job.recipe: job for job in JOBS}
    return [job for job in jobs if all(newest(by_name[name], folder) for name in job.after)]


def superseded(folder: Path) -> list[Path]:
    """Autoencoders that are trained no more and that no shipped network decodes with."""
    known = {path: read_facts(path) for path in sorted(folder.glob("*.safetensors"))}
    used = {job.file for job in JOBS} | {facts.get("vae") for facts in known.values()}
    return [path for path, facts in known.items() if facts.get("class") in AUTOENCODERS and path.name not in used]


def allotted(state: State, minutes: float, *, least: float, jobs: Iterable[Job] = JOBS) -> list[tuple[Job, float]]:
    """Which jobs a session of so many minutes trains, in order, for how long.

    Those that gain most, each with what it still needs to build on; `least` minutes at each, or one job alone.
    """
    ranked = sorted(jobs, key=lambda job: -gain(job, state.jobs[job.recipe]))
    for count in range(len(ranked), 0, -1):
        chosen = [job for job in JOBS if any(job in _with_missing(top, state.path.parent) for top in ranked[:count])]
        whole = sum(gain(job, state.jobs[job.recipe]) for job in chosen)
        parts = [(job, minutes * gain(job, state.jobs[job.recipe]) / whole) for job in chosen]
        if min(part for _, part in parts) >= least:
            return parts
    return [(chosen[0], minutes)]


def _with_missing(job: Job, folder: Path) -> list[Job]:
    """A job, and before it those it builds on that have no file yet."""
    by_name = {job.recipe: job for job in JOBS}
    missing = [by_name[name] for name in job.after if newest(by_name[name], folder) is None]
    return [*(earlier for one in missing for earlier in _with_missing(one, folder)), job]
