"""The process that owns one device: JSON commands on stdin, JSON events on stdout, one line each.

Commands: {"command": "generate", "job", "engine", "request"}, {"command": "cancel", "job", "keep"},
{"command": "free"}, {"command": "status"}, {"command": "shutdown"}. A job cancelled with "keep": true ends with the
clip of the frames it has. What it says: engines/messages.py. The process ends when stdin closes or its parent dies,
also in the middle of a job. torch is imported by the first generation, not before.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engines import registry
from engines.errors import DeviceError, OutOfMemory, StudioError
from engines.events import Cancelled, Failed
from engines.loading.store import Store, parse_override
from engines.media.output import remove_leftovers
from engines.messages import JobEvent, Ready, Refused, Status
from engines.validation import build_request

if TYPE_CHECKING:
    from pydantic import BaseModel

    from engines.runtime.session import Session

log = logging.getLogger(__name__)

EXIT_DEVICE_LOST = 3
"""The device cannot be used by this process any more: start a new one."""

_GRACE_S = 2.0
_PARENT_EVERY_S = 1.0


class Worker:
    """Reads commands in one thread and does the work in the main thread.

    Args:
        device: "cpu", "cuda:0", "mps".
        output_dir: folder of the finished clips.
        memory_bytes: the most that may be used of the device; None for most of what is free.
        out: where messages go, one JSON object a line.
    """

    def __init__(
        self, *, device: str, output_dir: Path, store: Store, out: TextIO, memory_bytes: int | None = None
    ) -> None:
        self.device, self.output_dir, self.store, self.memory_bytes = device, output_dir, store, memory_bytes
        self._out, self._out_lock = out, threading.Lock()
        self._commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._kept: set[str] = set()
        self._stopping = threading.Event()
        self._session: Session | None = None
        self._lost = False

    def serve(self, lines: Any) -> int:
        """Work until the commands end; returns the exit code."""
        remove_leftovers(self.output_dir)
        threading.Thread(target=self._read, args=(lines,), name="commands", daemon=True).start()
        threading.Thread(target=self._watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()
        self._send(Ready(device=self.device, pid=os.getpid()))
        while (command := self._commands.get()) is not None and not self._stopping.is_set():
            match command["command"]:
                case "generate":
                    try:
                        self._generate(command["job"], command["engine"], command["request"])
                    finally:
                        self._cancelled.discard(command["job"])
                        self._kept.discard(command["job"])
                        self._send_status()
                    if self._lost:
                        return EXIT_DEVICE_LOST
                case "free":
                    if self._session is not None:
                        self._session.free()
                    self._send_status()
        return 0

    def stop(self, *_: Any) -> None:
        """End soon: the running job is cancelled at its next step, and the process ends in any case."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._commands.put(None)
        threading.Thread(target=self._end_after_grace, name="grace", daemon=True).start()

    def _read(self, lines: Any) -> None:
        for line in lines:
            if not line.strip():
                continue
            try:
                self._accept(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                self._send(Refused(reason="This is no command that the worker knows."))
            if self._stopping.is_set():
                return
        self.stop()

    def _accept(self, command: dict[str, Any]) -> None:
        match command["command"]:
            case "generate":
                self._commands.put({key: command[key] for key in ("command", "job", "engine", "request")})
            case "cancel":
                (self._kept if command.get("keep") else self._cancelled).add(str(command["job"]))
            case "status":
                self._send_status()
            case "free":
                self._commands.put({"command": "free"})
            case "shutdown":
                self.stop()
            case _:
                raise ValueError("unknown command")

    def _generate(self, job: str, engine: str, values: dict[str, Any]) -> None:
        """Run one job and send its events; the last one is Done, Failed or Cancelled."""
        short_of_memory = False
        try:
            if self._asked_to_end(job):
                self._send_event(job, Cancelled())
                return
            spec = registry.find(engine)
            request = build_request(spec, values, pixels=False)  # the engine decodes them
            from engines.runtime.runner import run

            session = self._session or self._open_session()
            context = session.context(spec.name, spec.model(request.model))
            events = run(
                spec,
                request,
                context,
                output_dir=self.output_dir,
                job_id=job,
                pace=session.pace,
                keep=lambda: job in self._kept,
            )
            with closing(events):
                for event in events:
                    self._send_event(job, event)
                    if event.type not in ("done", "cancelled") and self._asked_to_end(job):
                        events.close()
                        self._send_event(job, Cancelled())
                        return
        except StudioError as error:
            self._lost = isinstance(error, DeviceError) and self._session is not None
            self._send_event(job, Failed(kind=type(error).__name__, message=error.message, hint=error.hint))
            short_of_memory = isinstance(error, OutOfMemory)
        except Exception as error:
            log.error("the worker could not run job %s", job, exc_info=error)
            self._send_event(job, Failed(kind="StudioError", message="Something went wrong.", hint="See the log."))
        if short_of_memory and self._session is not None:
            self._session.free()

    def _asked_to_end(self, job: str) -> bool:
        return job in self._cancelled or self._stopping.is_set()

    def _open_session(self) -> Session:
        from engines.runtime.session import Session

        self._session = Session(self.device, store=self.store, memory_bytes=self.memory_bytes)
        return self._session

    def _send_event(self, job: str, event: Any) -> None:
        self._send(JobEvent(job=job, event=event))

    def _send_status(self) -> None:
        self._send(Status(device=self.device) if self._session is None else self._session.status())

    def _send(self, message: BaseModel) -> None:
        line = message.model_dump_json() + "\n"
        with self._out_lock:
            try:
                self._out.write(line)
                self._out.flush()
            except (BrokenPipeError, ValueError):
                self.stop()

    def _watch_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        self.stop()

    def _end_after_grace(self) -> None:
        """A step can outlast anybody's patience: after the grace the process ends where it stands."""
        time.sleep(_GRACE_S)
        remove_leftovers(self.output_dir, including_own=True)
        os._exit(0)


def _protected_stdout() -> TextIO:
    """The real stdout for messages alone: whatever libraries print goes to stderr from now on."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(descriptor, "w", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """The command line of a worker; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engines.runtime.worker", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", type=Path, metavar="DIR")
    parser.add_argument("--memory-gb", type=float, metavar="X", help="use at most X GB of the device")
    parser.add_argument("--override", action="append", default=[], metavar="ENGINE/MODEL/ROLE=PATH")
    options = parser.parse_args(arguments)
    try:
        overrides = dict(parse_override(text) for text in options.override)
    except StudioError as error:
        parser.error(str(error))
    out = _protected_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    worker = Worker(
        device=options.device,
        output_dir=options.output,
        store=Store(models=options.models, overrides=overrides),
        out=out,
        memory_bytes=int(options.memory_gb * 1e9) if options.memory_gb else None,
    )
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return worker.serve(sys.stdin)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)
