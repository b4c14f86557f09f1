"""One clip for the command line: a worker process of its own, its progress on stderr, the file under its name last."""

from __future__ import annotations

import queue
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from engines.errors import MediaError, StudioError
from engines.events import Cancelled, Done, Failed, Note, Result, Stage, Step
from engines.media import metadata
from engines.media.output import media_error
from engines.request import Request
from engines.types import EngineSpec
from studio.jobs.local import worker_command
from studio.jobs.worker_process import DeviceState, WorkerProcess
from studio.settings import Settings

_PATIENCE_S = 10.0


class BadOutput(MediaError):
    """The clip cannot be written where it was asked for."""


class JobFailed(StudioError):
    """The worker said why there is no clip; `kind` is the class of its error."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, hint=failed.hint)
        self.kind = failed.kind


class Target:
    """The file a clip will be, and a hidden folder beside it for what is not finished. Removed on exit."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()
        if self.path.suffix.lower() != ".mp4":
            raise BadOutput(f'The clip is an mp4 file: end the name "{self.path.name}" with .mp4.')
        if self.path.is_dir():
            raise BadOutput(f'"{self.path.name}" is a folder: give the clip another name.')
        if not self.path.parent.is_dir():
            raise BadOutput(f'There is no folder "{self.path.parent.name}" for the clip: make it first.')
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=".kinora-", dir=self.path.parent))
        except OSError as error:
            known = media_error(error)
            raise BadOutput(known.message, hint=known.hint) from error

    def take(self, result: Result) -> Result:
        """Give the finished clip and what stands beside it their names; the sidecar overwrites no foreign file."""
        sidecar = self.path.with_suffix(".json")
        try:
            if not sidecar.exists() or metadata.parse(sidecar.read_text(encoding="utf-8", errors="replace")):
                Path(result.sidecar).replace(sidecar)
            stem = Path(result.video).stem
            beside = {Path(name): self.path.with_name(self.path.stem + Path(name).name.removeprefix(stem))
                      for name in result.beside}  # fmt: skip
            for made, named in beside.items():
                made.replace(named)
            Path(result.video).replace(self.path)
        except OSError as error:
            raise media_error(error) from error
        names = tuple(str(name) for name in beside.values())
        return result.model_copy(update={"video": str(self.path), "sidecar": str(sidecar), "beside": names})

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def make(
    spec: EngineSpec, request: Request, *, target: Target, settings: Settings, device: DeviceState, quiet: bool
) -> Result:
    """The clip of `request`, under its name.

    Raises:
        StudioError: there is no clip; says why.
        KeyboardInterrupt: the user pressed Ctrl-C; the worker has ended and nothing is left behind.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    dead = Failed(kind="DeviceError", message="The process that made the clip ended unexpectedly.")
    worker = WorkerProcess(
        device,
        worker_command(settings, device.name, output=target.folder),
        log_path=target.folder / "worker.log",
        on_event=lambda _worker, _job, event: events.put(event),
        on_exit=lambda _worker: events.put(dead),
    )
    # An exception out of a signal can be lost inside a callback of some library; an entry in the queue cannot.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: events.put(Cancelled()))
    job = secrets.token_hex(8)
    try:
        worker.ensure_started()
        worker.send(command="generate", job=job, engine=spec.name, request=request.model_dump(mode="json"))
        return target.take(_follow(events, quiet=quiet))
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _cancel(worker, job, events)
        raise
    finally:
        worker.close()


def _follow(events: queue.SimpleQueue[Any], *, quiet: bool) -> Result:
    """Show what happens until there is a result."""
    with tqdm(disable=True if quiet else None, file=sys.stderr, leave=False, unit="step") as bar:
        while True:
            match events.get():
                case Stage(name=name):
                    bar.reset(total=None)
                    bar.set_description(name)
                case Step(index=index, total=total):
                    bar.total, bar.n = total, index
                    bar.refresh()
                case Note(message=message):
                    tqdm.write(f"Note: {message}", file=sys.stderr)
                case Done(result=result):
                    return result
                case Failed() as failed:
                    raise JobFailed(failed)
                case Cancelled():
                    raise KeyboardInterrupt


def _cancel(worker: WorkerProcess, job: str, events: queue.SimpleQueue[Any]) -> None:
    """Ask the worker to stop, and end it when it takes too long."""
    try:
        worker.send(command="cancel", job=job)
        while not isinstance(events.get(timeout=_PATIENCE_S), Cancelled | Failed | Done):
            continue
    except (OSError, queue.Empty):
        worker.kill()
