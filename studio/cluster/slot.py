"""What runs on a machine of the cluster for one of its GPUs, or for its CPU: a worker process like any other.

Files for it come by content, and its clips go the same way. Imports no Ray: the relay makes an actor of it.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil

from engines import registry
from engines.events import Done
from engines.messages import JobEvent, Ready, Status, parse_command
from engines.runtime.settings import RuntimeSettings
from studio.cluster.luggage import chunks
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.worker_process import WORKER, DeviceState, WorkerProcess, find_devices

_LOOK_S = 30.0


class Said(NamedTuple):
    """On its way to the studio: a "line" of the worker's, a piece of its "log", or one of the "file" `name`."""

    kind: Literal["line", "log", "file"]
    content: bytes
    name: str = ""


class Slot:
    """One worker process on this machine.

    Args:
        settings: the line that the studio has for its worker. Where the models are, KINORA_MODELS says here.
        workers: how many slots this machine has.
        command: the words that start a worker; tests give their own.
    """

    def __init__(self, settings: str, workers: int, command: Sequence[str] = ()) -> None:
        told = RuntimeSettings.from_json(settings)
        _let_threads_be()
        _clean()
        self._folder = Path(tempfile.mkdtemp(prefix=f"kinora-{os.getpid()}-"))
        self.device = _device()
        limit = told.memory_bytes
        models = os.environ.get("KINORA_MODELS", "")
        self._settings = replace(
            told,
            device=self.device.name,
            outputs=self._folder,
            workers=workers,
            memory_gb={} if limit is None else {"": limit / 1e9},
            models=Path(models) if models else told.models,
        )
        self._said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        self._worker: WorkerProcess | None = None
        self._command = tuple(command) or WORKER

    def open(self) -> str:
        """Begin the worker; returns where files for it are expected."""
        self._worker = WorkerProcess(
            self._settings,
            command=self._command,
            log=_Log(self._said),
            on_message=self._take,
            on_exit=lambda _: self._said.put(None),
        )
        state = self.device
        known = Status(device=state.name, free_bytes=state.free_bytes, total_bytes=state.total_bytes, half=state.half)
        self._said.put(_line(known))
        return str(self._given)

    def listen(self) -> Iterator[Said]:
        """All that it says until it ends, and from time to time which models are not here, if that changed."""
        told: tuple[str, ...] | None = None
        while True:
            if (lacking := self._lacking()) != told:
                told = lacking
                yield _line(Ready(device=self.device.name, pid=self._process.pid, lacking=lacking))
            try:
                said = self._said.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if said is None:
                return
            yield said

    def lacks(self, names: Sequence[str]) -> list[str]:
        """Which of these files are not here yet; those of earlier orders are given up, for theirs are done."""
        if self._given.exists():
            kept = {name.partition("/")[0] for name in names}
            for folder in self._given.iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)
        return [name for name in names if not (self._given / name).exists()]

    def receive(self, name: str, piece: bytes, number: int) -> None:
        """The next piece of a file, the first of which is number 0."""
        part = self._part(name)
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if number else "wb") as file:
            file.write(piece)

    def whole(self, name: str) -> None:
        """All pieces of a file are here."""
        self._part(name).replace(self._given / name)

    def tell(self, line: str) -> None:
        """A command for the worker."""
        try:
            self._process.send(parse_command(line))
        except OSError:  # it just died, and its end is about to be noticed
            return

    def _part(self, name: str) -> Path:
        target = self._given / name
        return target.with_name(f".{target.name}.part")

    @property
    def _given(self) -> Path:
        return self._folder / "given"

    @property
    def _process(self) -> WorkerProcess:
        assert self._worker is not None
        return self._worker

    def _take(self, _process: WorkerProcess, message: Any) -> None:
        """Something the worker said: before it says that a clip is done, the clip itself goes."""
        if isinstance(message, Ready):
            return
        if isinstance(message, JobEvent) and isinstance(message.event, Done):
            clip = message.event.result
            for path in map(Path, dict.fromkeys((clip.video, clip.sidecar, clip.poster, *clip.beside))):
                if path.is_file():
                    for piece in chunks(path):
                        self._said.put(Said("file", piece, path.name))
                    path.unlink()
        self._said.put(_line(message))

    def _lacking(self) -> tuple[str, ...]:
        files = self._settings.files()
        return tuple(
            f"{spec.name}/{model.name}"
            for spec in registry.SPECS.values()
            for model in spec.models
            if files.state(spec.name, model).state in ("missing", "partial")
        )


class _Log(BoundedLog):
    """What a worker writes to stderr goes into the log at the studio."""

    def __init__(self, said: queue.SimpleQueue[Said | None]) -> None:
        self._said = said

    def write(self, text: bytes) -> None:
        self._said.put(Said("log", text))


def _line(message: Any) -> Said:
    return Said("line", json.dumps(message.model_dump(mode="json")).encode())


def _device() -> DeviceState:
    """What Ray gave this actor: the one GPU that it may see, else the CPU."""
    return find_devices(() if os.environ.get("CUDA_VISIBLE_DEVICES") else ("cpu",))[0]


def _let_threads_be() -> None:
    """Ray sets one thread where nobody has decided: as many as the machine's owner wants."""
    os.environ.pop("OMP_NUM_THREADS", None)
    if chosen := psutil.Process(os.getppid()).environ().get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = chosen


def _clean() -> None:
    """Remove the folders of slots that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("kinora-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
