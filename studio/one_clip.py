"""One clip for the command line: a worker process of its own, its progress on stderr, the file under its name last."""

from __future__ import annotations

import os
import queue
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from tqdm import tqdm

from engines.editing.spec import EditSpec
from engines.errors import MediaError, StudioError
from engines.events import TERMINAL, Cancelled, Clip, Done, Failed, Note, Stage, Step
from engines.media import metadata
from engines.media.output import media_error
from engines.messages import Generate, JobEvent
from engines.parallel.choosing import AUTO
from engines.pyramid_flow.spec import LATENTS_SUFFIX
from engines.types import EngineSpec
from engines.wording import printable
from studio import estimating, speech
from studio.jobs.assign import Candidate, Needs, gather
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.crew import Crew
from studio.jobs.worker_process import WORKER, DeviceState, WorkerProcess
from studio.paths import absolute
from studio.settings import Settings

_PATIENCE_S = 10.0
_HIDDEN, _LOG = ".kinora-", "worker.log"
_ALL = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SIGNALS = [number for number in _ALL if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup has it
# What may stand beside a clip, under its name; those of an earlier clip go with it.
_BESIDE = (LATENTS_SUFFIX, metadata.VIEW_SUFFIX, ".log")
_MOST_NAME_BYTES = 255 - len(LATENTS_SUFFIX) - len("-99")
_DEAD = Failed(
    kind="DeviceError",
    message="The process that made the clip ended unexpectedly.",
    hint="Memory may have run out.",
    log=_LOG,
)


# What a worker said, None for its end; of nobody for a signal.
_Said = queue.SimpleQueue[tuple[WorkerProcess | None, Any]]


class BadOutput(MediaError):
    """The clip cannot be written where it was asked for."""


class JobFailed(StudioError):
    """The worker said why there is no clip; `kind` is the class of its error, `logged` whether its log tells more."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, hint=failed.hint)
        self.kind, self.logged = failed.kind, bool(failed.log)


class Target:
    """The file a clip will be, and a hidden folder beside it for what is not finished. Removed on exit.

    Args:
        suffix: of the file.
        inputs: files that it is made from; none of them is replaced.

    Attributes:
        notes: what the user should know of the names that were given.

    Raises:
        BadOutput: there can be no such file, or it is one of the inputs.
    """

    def __init__(self, path: Path, *, suffix: str = ".mp4", inputs: Iterable[Path] = ()) -> None:
        self.path, self.notes, self._inputs = absolute(path), list[str](), tuple(inputs)
        self._links: Path | None = None
        self._aside: dict[Path, Path] = {}
        name, parent = printable(self.path.name), printable(self.path.parent.name)
        if self.path.stem in ("", suffix):
            raise BadOutput(f"The clip needs a name of its own, such as clip{suffix}.")
        if self.path.suffix.lower() != suffix:
            raise BadOutput(f'The clip is an {suffix[1:]} file: end the name "{name}" with {suffix}.')
        if len(os.fsencode(self.path.stem)) > _MOST_NAME_BYTES:
            raise BadOutput(
                "The name of the clip is too long:", hint=f"give it another name, of at most {_MOST_NAME_BYTES} bytes."
            )
        if self._is_input(self.path):
            raise BadOutput(f'The clip is made from "{name}", which would be lost:', hint="give it another name.")
        try:
            if self.path.is_dir():
                raise BadOutput(f'"{name}" is a folder: give the clip another name.')
            if not self.path.parent.is_dir():
                raise BadOutput(f'There is no folder "{parent}" for the clip: make it first.')
            _remove_abandoned(self.path.parent)
            self.folder = Path(tempfile.mkdtemp(prefix=f"{_HIDDEN}{os.getpid()}-", dir=self.path.parent))
        except OSError as error:
            known = media_error(error)
            raise BadOutput(known.message, hint=known.hint) from error

    @property
    def log(self) -> Path:
        """Where the worker writes what only a developer wants to read."""
        return self.folder / _LOG

    def as_text(self, value: Any) -> Any:
        """`value` with a link in place of every path whose name is no text, which no JSON could carry."""
        if isinstance(value, dict):
            return {name: self.as_text(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.as_text(part) for part in value]
        if not isinstance(value, str) or value.isprintable() or "\0" in value or not os.path.lexists(value):
            return value
        self._links = self._links or Path(tempfile.mkdtemp(prefix="kinora-"))
        link = self._links / f"{len(list(self._links.iterdir()))}{printable(Path(value).suffix)}"
        link.symlink_to(value)
        return str(link)

    def take(self, result: Clip) -> Clip:
        """Give the finished clip and what stands beside it their names. The clip's own is the last."""
        stem = Path(result.video).stem
        made = [Path(result.sidecar), *map(Path, result.beside)]
        names: list[Path] = []
        try:
            if not self._named_after:
                self._set_aside()
            for file in made:
                names.append(self._place(file, self._named_after + file.name.removeprefix(stem)))
            Path(result.video).replace(self.path)
        except OSError as error:
            for place in names:
                place.unlink(missing_ok=True)
            for place, earlier in self._aside.items():
                earlier.replace(place)
            raise media_error(error) from error
        sidecar, *beside = map(str, names)
        notes = (*result.notes, *self.notes)
        changes = {"video": str(self.path), "sidecar": sidecar, "beside": tuple(beside), "notes": notes}
        return result.model_copy(update=changes)

    def keep_log(self, log: Path) -> str:
        """Put the worker's log beside the clip that is not to be; returns its name, "" where it could not be kept."""
        try:
            self.log.write_bytes(metadata.LOG_MARK + log.read_bytes())
            return self._place(self.log, ".log").name
        except OSError:
            return ""

    def _place(self, file: Path, suffix: str) -> Path:
        """Move `file` beside the clip: under its name and `suffix`, or under a free one where a foreign file has it."""
        wanted = self.path.with_name(self.path.stem + suffix)
        others = (self.path.with_name(f"{self.path.stem}-{number}{suffix}") for number in count(2))
        place = next(path for path in chain([wanted], others) if not os.path.lexists(path) or self._replaces(path))
        if place != wanted:
            kept, new = printable(wanted.name), printable(place.name)
            self.notes.append(f"There was a file {kept} of another kind: it was kept, and the clip's own is {new}.")
        if os.path.lexists(place):
            self._put_aside(place)
        file.replace(place)
        return place

    @property
    def _named_after(self) -> str:
        """What stands between the clip's name and that of its settings: ".gif", for star.mp4 has a star.json too."""
        return "" if self.path.suffix.lower() == ".mp4" else self.path.suffix

    def _set_aside(self) -> None:
        """Take away what stands beside the clip that is replaced: the new one may have nothing of the kind."""
        for suffix in _BESIDE:
            path = self.path.with_name(self.path.stem + suffix)
            if os.path.lexists(path) and self._replaces(path):
                self._put_aside(path)

    def _put_aside(self, path: Path) -> None:
        self._aside[path] = path.replace(self.folder / f"earlier-{len(self._aside)}")

    def _replaces(self, path: Path) -> bool:
        return metadata.is_ours(path) and not self._is_input(path)

    def _is_input(self, path: Path) -> bool:
        with suppress(OSError):
            return any(one.exists() and one.samefile(path) for one in self._inputs)
        return False

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in (self.folder, self._links):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove hidden folders of commands that were killed."""
    for left in folder.glob(f"{_HIDDEN}*-*"):
        owner = left.name.removeprefix(_HIDDEN).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


class Workshop:
    """Worker processes that make clips one after the other, and are started again when they died. A context manager.

    Args:
        devices: one of them makes a clip, or several together, as the settings have it.
        folder: where they write what is not finished, as text; on the file system of the clips.
        log: where they write what only a developer wants to read.
    """

    def __init__(self, settings: Settings, devices: Sequence[DeviceState], *, folder: str, log: Path) -> None:
        self._settings, self._folder, self._log = settings, Path(folder), BoundedLog(log)
        self._devices = {device.name: device for device in devices}
        self._events: _Said = queue.SimpleQueue()
        self._workers: dict[str, WorkerProcess] = {}

    def make(self, spec: EngineSpec | EditSpec, request: Any, *, target: Target, quiet: bool) -> Clip:
        """The clip of `request`, under its name.

        Raises:
            StudioError: there is no clip; says why.
            KeyboardInterrupt: the user pressed Ctrl-C; the workers have ended and nothing is left behind.
        """
        # An exception out of a signal can be lost inside a callback of some library; an entry in the queue cannot.
        for number in SIGNALS:
            signal.signal(number, lambda *_: self._events.put((None, Cancelled())))
        job, values = secrets.token_hex(8), target.as_text(request.model_dump(mode="json"))
        crew = self._gathered(spec, request, job)
        try:
            inside = self._settings.metadata
            crew.begin(Generate(job=job, engine=_engine(spec), request=values, metadata=inside))
            result = target.take(_follow(crew, self._events, quiet=quiet))
        except KeyboardInterrupt:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            _cancel(crew, self._events)
            raise
        except JobFailed as failed:
            self.close()
            if failed.logged and (name := target.keep_log(self._log.path)):
                failed.hint = f"{failed.hint} The details are in {name}.".strip()
            raise
        if not crew.idle:
            self.close()
        for note in target.notes:
            speech.say(f"Note: {note}", sys.stderr)
        return result

    def close(self) -> None:
        """End the processes; what they still say is of no clip."""
        for worker in self._workers.values():
            worker.close()
        self._workers, self._events = {}, queue.SimpleQueue()

    def _gathered(self, spec: EngineSpec | EditSpec, request: Any, job: str) -> Crew:
        """The workers that make a clip, those started that are not there."""
        if not all(worker.usable for worker in self._workers.values()):
            self.close()
        states = self._devices.values()
        candidates = [Candidate(state.name, state.free_bytes, state.total_bytes) for state in states]
        needs = Needs(spec.engine) if isinstance(spec, EditSpec) else self._needs(spec, request)
        team = gather(needs, candidates, split=self._settings.split)
        assert team is not None, "nobody is busy"
        if team.why:
            speech.say(f"Note: {team.why}", sys.stderr)
        names = [worker.name for worker in team.workers]
        for name in names:
            if name not in self._workers:
                self._workers[name] = self._started(name)
        workers, titles = [self._workers[name] for name in names], [self._devices[name].title for name in names]
        return Crew(job, workers, split=team.split, titles=titles)

    def _needs(self, spec: EngineSpec, request: Any) -> Needs:
        """What a clip asks; how many devices its weights take is asked only where that decides something."""
        states, settings = [*self._devices.values()], self._settings
        if settings.split != AUTO or len(states) < 2:
            return Needs.of(spec, request)
        told = {"files": settings.files(), "limits": settings.memory_gb}
        return Needs.of(spec, request, holders=estimating.holders(spec, request, states, **told))

    def _started(self, device: str) -> WorkerProcess:
        events = self._events

        def take(worker: WorkerProcess, message: Any) -> None:
            if isinstance(message, JobEvent):
                events.put((worker, message.event))

        return WorkerProcess(
            self._settings.runtime(device, outputs=self._folder, log=_LOG),
            command=WORKER,
            log=self._log,
            on_message=take,
            on_exit=lambda worker: events.put((worker, None)),
        )

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _engine(spec: EngineSpec | EditSpec) -> str:
    return spec.engine if isinstance(spec, EditSpec) else spec.name


def make(
    spec: EngineSpec | EditSpec,
    request: Any,
    *,
    target: Target,
    settings: Settings,
    devices: Sequence[DeviceState],
    quiet: bool,
) -> Clip:
    """One clip by workers of its own, as `Workshop.make` makes it."""
    with Workshop(settings, devices, folder=target.as_text(str(target.folder)), log=target.log) as workshop:
        return workshop.make(spec, request, target=target, quiet=quiet)


def _follow(crew: Crew, events: _Said, *, quiet: bool) -> Clip:
    """Show what happens until there is a result."""
    with tqdm(disable=True if quiet else None, file=sys.stderr, leave=False, unit="step") as bar:
        while True:
            match _next(crew, events):
                case Stage(name=name):
                    bar.reset(total=None)
                    bar.set_description(name)
                case Step(index=index, total=total):
                    bar.total, bar.n = total, index
                    bar.refresh()
                case Note(message=message):
                    with bar.external_write_mode(file=sys.stderr):
                        speech.say(f"Note: {message}", sys.stderr)
                case Done(result=result):
                    return result
                case Failed() as failed:
                    raise JobFailed(failed)
                case Cancelled():
                    raise KeyboardInterrupt


def _next(crew: Crew, events: _Said) -> Any:
    """The next event of the job; the end of a process is one too."""
    while True:
        try:
            worker, event = events.get(timeout=_PATIENCE_S)
        except queue.Empty:
            if not crew.leader.usable:
                return _DEAD
            continue
        if worker is None:
            return event
        if event is None:
            if crew.died(worker):
                return _DEAD
        elif isinstance(event, TERMINAL):
            if (last := crew.ended(worker, event)) is not None:
                return last
        elif worker is crew.leader:
            return event


def _cancel(crew: Crew, events: _Said) -> None:
    """Ask the workers to stop, and end them when they take too long."""
    end = time.monotonic() + _PATIENCE_S
    crew.cancel()
    with suppress(queue.Empty):
        while not crew.over:
            worker, event = events.get(timeout=max(0.0, end - time.monotonic()))
            if worker is not None and event is None:
                crew.died(worker)
            elif worker is not None and isinstance(event, TERMINAL):
                crew.ended(worker, event)
    crew.dissolve()
