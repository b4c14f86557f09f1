"""What the studio can do, whoever asks: the page, the API and tests all go through here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engines import registry
from engines.adapters.fast import fast_values
from engines.errors import InvalidRequest, Problem, StudioError
from engines.events import Answer, Words
from engines.loading.store import Store
from engines.media.output import check_room, media_error
from engines.request import Request, seeds
from engines.types import EngineSpec, ModelSpec
from engines.validation import build_request, usable_files
from engines.wording import either, given, printable
from studio import adapters, browser_files, continuing, estimating, kept_files, models, presets, refining
from studio.downloads import Downloads
from studio.estimating import Outlook
from studio.jobs.assign import Candidate, Needs, assign
from studio.jobs.executor import Executor
from studio.jobs.shelf import Shelf
from studio.jobs.store import Job, JobStore
from studio.language import Language
from studio.limits import KEPT_S, Limits
from studio.paths import reason
from studio.settings import Settings

MAX_VARIATIONS = 8
_FREE_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Studio:
    """The settings, jobs and executor of one running studio."""

    settings: Settings
    store: JobStore
    executor: Executor
    specs: Mapping[str, EngineSpec]
    files: Store
    downloads: Downloads
    limits: Limits = field(default_factory=Limits)
    language: Language = field(default_factory=Language)

    def __post_init__(self) -> None:
        self.language.setting = self.settings.language

    def submit(
        self, engine: str, values: Mapping[str, Any], *, owner: str = "", connection: str = "", variations: int = 1
    ) -> list[Job]:
        """Queue a clip, or several that differ in their seed, and return at once.

        A clip to be continued is named by the id of its job, which must be this owner's.

        Raises:
            InvalidRequest: with every problem; nothing was queued.
        """
        if type(variations) is not int or not 1 <= variations <= MAX_VARIATIONS:
            words = f"Choose 1 to {MAX_VARIATIONS} variations; you gave {given(variations)}."
            raise InvalidRequest([Problem("seed", words)])
        self.check_limits(variations, owner=owner, connection=connection)
        spec = self.spec(engine)
        request = self.prepared(engine, continuing.resolved(self, spec, values, owner=owner))
        wanted = [request.model_copy(update={"seed": seed}) for seed in seeds(request.seed, variations)]
        parents = continuing.parents(self, spec, values, owner=owner)
        return self.queue(engine, wanted, parents=parents, owner=owner, connection=connection)

    def prepared(self, engine: str, values: Mapping[str, Any]) -> Request:
        """The checked request of these values, its files kept; every file is named by its path.

        Raises:
            InvalidRequest: with every problem, or the reason why the model cannot run.
            StudioError: the disk is full, or a file cannot be kept.
        """
        spec = self.spec(engine)
        request = build_request(spec, adapters.resolved(self.settings.adapter_folder, spec, values))
        if reason := self.availability(spec, request.model).reason:
            raise InvalidRequest([Problem("model", reason)])
        usable_files(spec, request, self.files)
        check_room(self.settings.outputs)
        try:
            return kept_files.keep(request, self.settings.pictures)
        except OSError as error:
            raise media_error(error) from error

    def queue(
        self,
        engine: str,
        requests: Sequence[Request],
        *,
        parents: Sequence[str] = (),
        owner: str = "",
        connection: str = "",
    ) -> list[Job]:
        """Queue prepared requests as one batch, all or none of them; `parents` are the jobs that they come from."""
        values = [request.model_dump(mode="json") for request in requests]
        return self.queue_values(engine, values, parents=parents, owner=owner, connection=connection)

    def queue_values(
        self,
        engine: str,
        requests: Sequence[Mapping[str, Any]],
        *,
        parents: Sequence[str] = (),
        owner: str = "",
        connection: str = "",
    ) -> list[Job]:
        """The same with requests as JSON values."""
        batch = secrets.token_hex(8)
        with self.admitted(len(requests), owner=owner, connection=connection) as noted:
            jobs = self.store.add(
                Job(engine=engine, request=request, id=_new_id(), batch=batch, owner=owner) for request in requests
            )
            noted.extend(jobs)
        if parents:
            Shelf(self.store).born([job.id for job in jobs], parents)
        self.executor.wake()
        return jobs

    @contextmanager
    def admitted(self, count: int, *, owner: str, connection: str) -> Iterator[list[Job]]:
        """Within it a visitor's `count` jobs may be queued, and nobody else's; those that were go into the list.

        Raises:
            StudioError: there are too many by now.
        """
        with self.limits.queueing:
            self.check_limits(count, owner=owner, connection=connection)
            queued: list[Job] = []
            yield queued
            self.limits.note(queued, connection=connection)

    def cancel(self, job_id: str, *, owner: str = "", keep: bool = False) -> None:
        """End a job that waits or runs; with `keep`, what it has finished becomes its clip, if its engine can do so."""
        job = self.job(job_id, owner=owner)
        if job is not None:
            spec = self.specs.get(job.engine)
            self.executor.cancel(job_id, keep=keep and spec is not None and spec.keeps_parts)

    def job(self, job_id: str, *, owner: str = "") -> Job | None:
        """The job, if there is one and this visitor may see it."""
        job = self.store.get(job_id) if job_id.isascii() else None
        return job if job is not None and job.owner == owner else None

    def delete(self, job_id: str, *, owner: str = "") -> None:
        """Remove a job that is over, its files, and its pictures where no other job needs them.

        Raises:
            StudioError: a job that waits or runs needs its clip, or a file cannot be removed; the job is still there.
        """
        if (job := self.job(job_id, owner=owner)) is not None:
            self.delete_all([job])

    def delete_all(self, jobs: Sequence[Job]) -> None:
        """The same for several: all that can go does, then the first reason is raised why one could not."""
        users, refused = self.store.files_in_use(), []
        for job in jobs:
            try:
                self._delete(job.id, users)
            except StudioError as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def forget_old(self, *, now: float) -> int:
        """Remove everybody's jobs that were over KEPT_S before `now`, with their files; returns how many.

        A clip that somebody still makes another one of goes later. What visitors kept as presets and did not change
        since goes too.
        """
        presets.forget_old(self.settings, before=now - KEPT_S)
        needed = self.store.files_in_use(active=True)
        jobs = [job for job in self.store.over(before=now - KEPT_S) if needed.keys().isdisjoint(job.files)]
        self.delete_all(jobs)
        return len(jobs)

    def refine(self, engine: str, prompt: str, *, model: str = "", pictures: Sequence[Path] = ()) -> Answer:
        """A better prompt with the reasons for it, also while a clip is made; waits a bounded time for it.

        Raises:
            InvalidRequest: Generate would not take such a prompt, or there is no such engine or model.
            StudioError: there is no answer; says why.
        """
        return refining.whole(self.refining(engine, prompt, model=model, pictures=pictures))

    def refiners(self) -> list[tuple[str, str]]:
        """(title, name) of those who can refine prompts here; the first does where nobody else is chosen."""
        return refining.choices(self.settings, self.files)

    def refining(
        self, engine: str, prompt: str, *, model: str = "", pictures: Sequence[Path] = (), refiner: str = ""
    ) -> Iterator[Words | Answer]:
        """The same as it is written: Words as they come, the whole Answer last. Closing it ends the writing.

        Args:
            refiner: one of `refiners`, by default the one of the settings.

        Raises:
            InvalidRequest, StudioError: as refine, and for a refiner that cannot be used here.
        """
        refiner = refiner or self.settings.refiner
        if refiner not in (known := [name for _, name in self.refiners()]):
            sentence = f'Prompts cannot be refined by "{printable(refiner)}" here.'
            raise StudioError(sentence, hint=f"Choose {either(known)}.")
        asked = refining.question(self.spec(engine), prompt, model=model, pictures=pictures, refiner=refiner)
        return self.executor.ask(asked)

    def reorder(self, job_id: str, to: Literal["up", "down", "top"], *, owner: str = "") -> None:
        """Move a waiting job; where strangers share the studio, among this visitor's own only."""
        if self.job(job_id, owner=owner) is not None:
            self.store.reorder(job_id, to, owner=owner if self.settings.public else None)

    def remove_model(self, spec: EngineSpec, model: ModelSpec) -> int:
        """Delete a model's files but those that another installed model needs; returns the bytes given back.

        Raises:
            StudioError: a clip that waits or is made needs it, it is being downloaded, or a file cannot be deleted.
        """
        now = self.downloads.current()
        if now is not None and now.state == "running":
            raise StudioError("A model is being downloaded:", hint="wait for it, or stop it first.")
        if any(job.engine == spec.name and job.request.get("model") == model.name for job in self.store.active()):
            raise StudioError(f"A clip that waits or is made needs {model.title}:", hint="cancel it first.")
        self.free()
        others = [(one.name, other) for one in self.specs.values() for other in one.models]
        return self.files.remove(spec.name, model, others=others)

    def free(self) -> dict[str, int]:
        """Let idle devices give back what they keep warm: name of each -> bytes given back; busy ones are left out.

        Waits until they have done so, or for a few seconds at most.
        """
        before = [state for state in self.executor.devices() if not state.busy]
        self.executor.free()
        end = time.monotonic() + _FREE_PATIENCE_S
        while any(self._held().get(state.name) for state in before) and time.monotonic() < end:
            time.sleep(0.05)
        now = self._held()
        return {state.name: max(0, state.held_bytes - now.get(state.name, 0)) for state in before}

    def _held(self) -> dict[str, int]:
        return {state.name: state.held_bytes for state in self.executor.devices()}

    def spec(self, engine: str) -> EngineSpec:
        """The engine of this name; raises InvalidRequest."""
        return registry.find(engine, self.specs)

    def fast(self, spec: EngineSpec, model: str) -> dict[str, Any] | None:
        """What the Fast quality sets for a model: an adapter at hand, few steps, no guidance; None without one."""
        weights = next((one for one in spec.model(model).weights if one.role == "transformer"), None)
        if weights is None:
            return None
        override = self.files.overrides.get((spec.name, model, weights.role))
        found = self.files.find(weights, override=override)
        return fast_values(spec, found[0] if found else None, self.settings.adapter_folder)

    def file_choices(self, spec: EngineSpec, model: str, field: str) -> list[str]:
        """The choices of a field that the model's checkpoint has beside the default: see FileChoice."""
        rule = spec.file_choices[field]
        weights = next((one for one in spec.model(model).weights if one.role == rule.role), None)
        if weights is None:
            return []
        found = self.files.find(weights, override=self.files.overrides.get((spec.name, model, rule.role)))
        return [*rule.taken([path for path in found if path is not None])]

    def availability(self, spec: EngineSpec, model: str) -> models.Availability:
        """Whether a model can run here, and why not."""
        return models.availability(
            spec,
            spec.model(model),
            files=self.files,
            devices=self.executor.devices(),
            public=self.settings.public,
        )

    def outlook(self, spec: EngineSpec, request: Request) -> Outlook | None:
        """What a clip of this request will take on the device that would make it; None while none is known."""
        devices = self.executor.devices()
        model = spec.model(request.model)
        wanted = Needs(f"{spec.name}/{model.name}", model.device_bytes)
        found = assign(wanted, [Candidate(one.name, one.free_bytes, one.total_bytes) for one in devices])
        if found is None:
            return None
        device = next(one for one in devices if one.name == found.name)
        store, limits = None if self.settings.public else self.store, self.executor.limits()
        beside = [one for one in devices if one.name.partition("@")[2] == device.name.partition("@")[2]]
        told = {"files": self.files, "limits": limits, "workers": len(beside), "store": store}
        split = self.settings.split
        sharing = estimating.sharing(spec, request, device, devices, split=split, files=self.files, limits=limits)
        return estimating.outlook(spec, request, device, **told, sharing=sharing, wanted=self.settings.precision)

    def check_limits(self, count: int, *, owner: str = "", connection: str = "") -> None:
        """Raise StudioError where a visitor's next `count` clips are too many for the queue."""
        active = self.store.active()
        if len(active) + count > self.settings.queue_limit:
            raise StudioError("The queue is full.", hint="Try again when some clips are done.")
        if self.settings.public:
            self.limits.check(active, owner=owner, connection=connection, count=count)

    def _delete(self, job_id: str, users: Mapping[Path, set[str]]) -> None:
        """Remove a job as `delete` does; `users` are who needs which file, without this job afterwards."""
        job = self.store.get(job_id)
        if job is None or job.active:
            return
        waited_for = self.store.files_in_use(active=True)  # also by jobs that were queued since
        if not waited_for.keys().isdisjoint(job.files):
            raise StudioError("A clip that waits or is made needs what is to be deleted:", hint="cancel it first.")
        # A clip that an edit was made from is another job's own.
        given = [path for path in kept_files.paths(dict(job.request)) if path.parent == self.settings.pictures]
        own = (path for path in given if path not in waited_for and users.get(path, set()) <= {job_id})
        for path in (*job.files, *own):
            self._remove(path)
        self.store.delete(job_id)  # last: on a full disk there is room for it only now
        for path in given:
            users.get(path, set()).discard(job_id)

    def _remove(self, path: Path) -> None:
        """Delete a file, if it is one of the studio's own; raises StudioError."""
        if not path.is_relative_to(self.settings.outputs):
            return
        try:
            browser_files.take_back(path, self.settings.for_browsers)
            path.unlink(missing_ok=True)
        except OSError as error:
            words = f"A file of this clip cannot be removed: {reason(error)}."
            raise StudioError(words, hint="Look at the permissions of the outputs folder.") from error


def open_studio(settings: Settings, executor_type: Any, **options: Any) -> Studio:
    """A studio over its outputs folder, not yet started."""
    files = settings.files()
    store = JobStore(settings.database)
    executor = executor_type(settings, store, **options)
    return Studio(settings, store, executor, registry.SPECS, files, Downloads(files))


def _new_id() -> str:
    """Sorts by time and cannot be guessed."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(8)}"
