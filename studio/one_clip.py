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
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from tqdm import tqdm

from engines.errors import MediaError, StudioError
from engines.events import Cancelled, Clip, Done, Failed, Note, Stage, Step
from engines.media import metadata
from engines.media.output import media_error
from engines.messages import Cancel, Generate, JobEvent
from engines.request import Request
from engines.types import EngineSpec
from engines.wording import printable
from studio import speech
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.worker_process import WORKER, DeviceState, WorkerProcess
from studio.paths import absolute
from studio.settings import Settings

_PATIENCE_S = 10.0
_HIDDEN, _LOG = ".kinora-", "worker.log"
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_DEAD = Failed(
    kind="DeviceError",
    message="The process that made the clip ended unexpectedly.",
    hint="Memory may have run out.",
    log=_LOG,
)


class BadOutput(MediaError):
    """The clip cannot be written where it was asked for."""


class JobFailed(StudioError):
    """The worker said why there is no clip; `kind` is the class of its error, `logged` whether its log tells more."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, hint=failed.hint)
        self.kind, self.logged = failed.kind, bool(failed.log)


class Target:
    """The file a clip will be, and a hidden folder beside it for what is not finished. Removed on exit.

    Attributes:
        notes: what the user should know of the names that were given.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = absolute(path), list[str]()
        self._links: Path | None = None
        name, parent = printable(self.path.name), printable(self.path.parent.name)
        if self.path.suffix.lower() != ".mp4":
            raise BadOutput(f'The clip is an mp4 file: end the name "{name}" with .mp4.')
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
        try:
            names = [self._place(file, file.name.removeprefix(stem)) for file in made]
            Path(result.video).replace(self.path)
        except OSError as error:
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
        place = next(path for path in chain([wanted], others) if not os.path.lexists(path) or metadata.is_ours(path))
        if place != wanted:
            kept, new = printable(wanted.name), printable(place.name)
            self.notes.append(f"There was a file {kept} of another kind: it was kept, and the clip's own is {new}.")
        file.replace(place)
        return place

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
    """A worker process that makes clips one after the other, and is started again when it died. A context manager.

    Args:
        folder: where it writes what is not finished, as text; on the file system of the clips.
        log: where it writes what only a developer wants to read.
    """

    def __init__(self, settings: Settings, device: DeviceState, *, folder: str, log: Path) -> None:
        self._settings, self._log = settings.runtime(device.name, outputs=Path(folder), log=_LOG), log
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._worker: WorkerProcess | None = None

    def make(self, spec: EngineSpec, request: Request, *, target: Target, quiet: bool) -> Clip:
        """The clip of `request`, under its name.

        Raises:
            StudioError: there is no clip; says why.
            KeyboardInterrupt: the user pressed Ctrl-C; the worker has ended and nothing is left behind.
        """
        # An exception out of a signal can be lost inside a callback of some library; an entry in the queue cannot.
        for number in _SIGNALS:
            signal.signal(number, lambda *_: self._events.put(Cancelled()))
        worker = self._started()
        job, values = secrets.token_hex(8), target.as_text(request.model_dump(mode="json"))
        try:
            with suppress(OSError):  # it ended at once, which is about to be said
                worker.send(Generate(job=job, engine=spec.name, request=values))
            result = target.take(_follow(worker, self._events, quiet=quiet))
        except KeyboardInterrupt:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            _cancel(worker, job, self._events)
            raise
        except JobFailed as failed:
            self.close()
            if failed.logged and (name := target.keep_log(self._log)):
                failed.hint = f"{failed.hint} The details are in {name}.".strip()
            raise
        for note in target.notes:
            speech.say(f"Note: {note}", sys.stderr)
        return result

    def close(self) -> None:
        """End the process; what it still says is of no clip."""
        if self._worker is not None:
            self._worker.close()
            self._worker, self._events = None, queue.SimpleQueue()

    def _started(self) -> WorkerProcess:
        if self._worker is not None and self._worker.usable:
            return self._worker
        self.close()
        events = self._events

        def take(_worker: WorkerProcess, message: Any) -> None:
            if isinstance(message, JobEvent):
                events.put(message.event)

        self._worker = WorkerProcess(
            self._settings,
            command=WORKER,
            log=BoundedLog(self._log),
            on_message=take,
            on_exit=lambda _worker: events.put(_DEAD),
        )
        return self._worker

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make(
    spec: EngineSpec, request: Request, *, target: Target, settings: Settings, device: DeviceState, quiet: bool
) -> Clip:
    """One clip by a worker of its own, as `Workshop.make` makes it."""
    with Workshop(settings, device, folder=target.as_text(str(target.folder)), log=target.log) as workshop:
        return workshop.make(spec, request, target=target, quiet=quiet)


def _follow(worker: WorkerProcess, events: queue.SimpleQueue[Any], *, quiet: bool) -> Clip:
    """Show what happens until there is a result."""
    with tqdm(disable=True if quiet else None, file=sys.stderr, leave=False, unit="step") as bar:
        while True:
            match _next(worker, events):
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


def _next(worker: WorkerProcess, events: queue.SimpleQueue[Any]) -> Any:
    """The next event; the end of the process is one too."""
    while True:
        try:
            return events.get(timeout=_PATIENCE_S)
        except queue.Empty:
            if not worker.usable:
                return _DEAD


def _cancel(worker: WorkerProcess, job: str, events: queue.SimpleQueue[Any]) -> None:
    """Ask the worker to stop, and end it when it takes too long."""
    end = time.monotonic() + _PATIENCE_S
    try:
        worker.send(Cancel(id=job))
        while not isinstance(events.get(timeout=max(0.0, end - time.monotonic())), Cancelled | Failed | Done):
            continue
    except (OSError, queue.Empty):
        worker.kill()
