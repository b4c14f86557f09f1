"""`all`: every starter trained in turn, in the background or on a GPU, and shipped only when it is better.

It begins from the starter folder alone. A file holds averaged weights and the recipe's position; training goes on from
both, and only the optimiser warms up again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from engines.media.output import whole_file

from .files import read_facts, read_network
from .jobs import AUTOENCODERS, JOBS, NEXT, STATE, Job, State, allotted, digest, gain, newest, ready, score, superseded
from .recipe import Recipe
from .recipes import recipe_module
from .trainer import Trainer

log = logging.getLogger(__name__)

MARGIN = 0.005  # of the score: what a new file must be better by
LEAST = {"cpu": 10.0, "cuda": 1.5}  # minutes that a job is worth starting for
TRAINED = 0.75  # of a job's time; measuring takes the rest
SLICE = 30.0  # minutes of a job in a session without an end
GPU_BATCH = 8  # times the batch of the recipe

COUNT = 16  # held-out cases of an evaluation

Measure = Callable[[Job, Path, Path, str], list[dict]]


def measure(job: Job, folder: Path, file: Path, device: str) -> list[dict]:
    """Rows of the held-out figures of a trained file among the others of the folder."""
    from engines.evaluation.starter import Options, evaluate

    told = {"vae" if read_facts(file).get("class") in AUTOENCODERS else "transformer": file}
    options = Options(count=COUNT, folder=folder, device=device, **told)
    return [figure.row() for name in job.evaluations for figure in evaluate(name, options).figures]


class Everything:
    """One session of `all`.

    Args:
        folder: the starter folder: what is shipped, and what is on its way in `next`.
        out: run folders, one a recipe; those of an earlier session on this machine are gone on with exactly.
        changes: recipe settings for all jobs (tests make everything small).
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        *,
        device: str = "cpu",
        workers: int = 1,
        changes: dict[str, object] | None = None,
        measured: Measure = measure,
    ) -> None:
        self.folder, self.out, self.device, self.workers = folder.resolve(), out.resolve(), device, workers
        self.changes, self.measured = changes or {}, measured
        self.state = State(self.folder)
        self.stopped = False

    def run(self, minutes: float | None) -> None:
        """Train for so many minutes of wall time, measuring included; None never ends by itself."""
        if minutes is None:
            while not self.stopped:
                possible = ready(JOBS, self.folder)
                self.step(max(possible, key=lambda job: gain(job, self.state.jobs[job.recipe])), SLICE)
            return
        ends, least, waiting = time.monotonic() + 60 * minutes, LEAST.get(self.device, 1.5), list(JOBS)
        while not self.stopped and waiting and (left := (ends - time.monotonic()) / 60) > 0.5 * least:
            plan = allotted(self.state, left, least=least, jobs=waiting)
            job, part = ([pair for pair in plan if pair[0] in ready(waiting, self.folder)] or plan)[0]
            waiting.remove(job)
            self.step(job, part * TRAINED)

    def step(self, job: Job, minutes: float) -> None:
        """Train one job for a while, measure the outcome, and ship it if it is better.

        What an interrupt stopped is not measured: it waits in `next`, and the following session goes on from there.
        """
        log.info("%s for %.1f minutes.", job.recipe, minutes)
        progress = self.state.jobs[job.recipe]
        trainer = self._train(job, minutes)
        self.stopped = trainer.stopping
        progress.step, progress.minutes = trainer.step, round(progress.minutes + trainer.clock.read()[0] / 60, 1)
        made = self.out / job.recipe / "export" / job.file
        if self.stopped:
            _replace(job, made, self.folder / NEXT)
        else:
            with _folder_with(self.folder, job, made) as folder:
                rows = self.measured(job, folder, made, self.device)
            progress.trained = round(score(rows), 4)
            progress.figures = {row["name"]: row["value"] for row in rows}
            self._ship(job, made)
        self.state.write()

    def _train(self, job: Job, minutes: float) -> Trainer:
        module, run = recipe_module(job.recipe), self.out / job.recipe
        recipe = self._recipe(module.RECIPE, minutes)
        source = newest(job, self.folder)
        with _parts(self.folder) as files:
            begun = (run / "state.pt").is_file()
            if begun or source is not None:
                recipe = dataclasses.replace(recipe, start="")
            recipe = dataclasses.replace(recipe, files=str(files), start=str(files) if recipe.start else "")
            torch.manual_seed(recipe.seed)
            trainer = Trainer(recipe, module.build(recipe), run, device=self.device, workers=self.workers)
            if begun:
                trainer.resume()
            elif source is not None:
                read = getattr(trainer.task, "weights_of", lambda path: _named(trainer, job, path))
                trainer.adopt(read(source), step=read_facts(source)["recipe"]["step"])
            trainer.begin_leg()
            trainer.run()
        return trainer

    def _recipe(self, recipe: Recipe, minutes: float) -> Recipe:
        larger = GPU_BATCH if self.device != "cpu" else 1
        stages = tuple(dataclasses.replace(stage, batch=stage.batch * larger) for stage in recipe.stages)
        return dataclasses.replace(recipe, **{"stages": stages, "steps": 10**9, "minutes": minutes, **self.changes})

    def _ship(self, job: Job, made: Path) -> None:
        progress, shipped = self.state.jobs[job.recipe], self.folder / job.file
        if progress.measured != digest(shipped):
            rows = self.measured(job, self.folder, shipped, self.device) if shipped.is_file() else []
            progress.shipped, progress.measured = round(score(rows), 4) if rows else None, digest(shipped)
        if progress.shipped is None or progress.trained > progress.shipped + MARGIN:
            _replace(job, made, self.folder)
            for name in job.files:
                (self.folder / NEXT / name).unlink(missing_ok=True)
            progress.shipped, progress.measured = progress.trained, digest(shipped)
            log.info("%s is better and ships: %.3f of its targets.", job.file, progress.trained)
            for path in superseded(self.folder):
                path.unlink()
        else:
            _replace(job, made, self.folder / NEXT)
            log.info("%s stays: %.3f against %.3f.", job.file, progress.shipped, progress.trained)


def _replace(job: Job, made: Path, folder: Path) -> None:
    """Copy all files of a job from beside `made` into a folder; each has its name only when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in job.files:
        with whole_file(folder / name) as part:
            shutil.copyfile(made.with_name(name), part)


def _named(trainer: Trainer, job: Job, source: Path) -> dict[str, torch.Tensor]:
    """The tensors of a job's files by the trainer's names: a file holds one network, compiled blocks' names are longer.

    Raises:
        ValueError: a file lacks a tensor.
    """
    files = {name: read_network(source.with_name(name))[0] for name in job.files}
    found = {}
    for name, _ in trainer.parameters:
        network, _, key = name.partition(".")
        tensors, key = files[job.parts.get(network, job.file)], key.replace("._orig_mod", "")
        if key not in tensors:
            raise ValueError(f"The file to go on from has no {key}.")
        found[name] = tensors[key]
    return found


@contextlib.contextmanager
def _parts(folder: Path):
    """A folder to build from: what is shipped, and in its place what waits in `next`."""
    with tempfile.TemporaryDirectory() as name:
        parts = Path(name) / "starter"
        parts.mkdir()
        for path in [*folder.iterdir(), *(folder / NEXT).glob("*.safetensors")]:
            if path.name not in (NEXT, STATE):
                (parts / path.name).unlink(missing_ok=True)
                (parts / path.name).symlink_to(path.resolve())
        yield parts


@contextlib.contextmanager
def _folder_with(folder: Path, job: Job, made: Path):
    """The same with a file that was just trained in its place, for measuring it."""
    with tempfile.TemporaryDirectory() as name, _parts(folder) as parts:
        starter = Path(name) / "starter"
        starter.mkdir()
        for path in parts.iterdir():
            if path.name not in job.files:
                (starter / path.name).symlink_to(path.resolve())
        for made_name in job.files:
            (starter / made_name).symlink_to(made.with_name(made_name).resolve())
        yield starter
