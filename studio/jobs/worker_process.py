"""One worker process of the engine layer: started, spoken to in JSON lines, watched until its end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ValidationError

from engines import messages
from engines.errors import InvalidRequest, Problem
from engines.memory.devices import processor_half, ram
from engines.runtime.settings import RuntimeSettings
from engines.wording import either, printable
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.store import Job

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "engines.runtime.worker")
_GRACE_S = 5.0
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class DeviceState:
    """A device that makes clips, as the page shows it; memory in bytes, 0 where it is not known.

    `held_bytes` is the size of the networks that its worker keeps warm, `half` as in planning.Abilities.
    """

    name: str
    title: str
    free_bytes: int = 0
    total_bytes: int = 0
    busy: bool = False
    held_bytes: int = 0
    half: str = ""


def find_devices(names: Sequence[str]) -> list[DeviceState]:
    """The named devices, or the machine's GPUs, or its CPU. Where there may be a GPU another process asks torch."""
    states = _ask_torch() if _may_have_gpu() else []
    states = states or [DeviceState("cpu", "CPU", *ram(), half=processor_half())]
    if names:
        known = {state.name: state for state in states}
        known |= {name: replace(known["cpu"], name=name) for name in names if name.startswith("cpu:")}
        return [known.get(name, DeviceState(name, name.upper() if name == "cpu" else name)) for name in names]
    return [state for state in states if state.name != "cpu"] or states


def require_devices(names: Sequence[str]) -> list[DeviceState]:
    """As `find_devices`; raises InvalidRequest for a name that this machine does not have."""
    states = find_devices(names)
    if missing := next((state.name for state in states if not state.total_bytes), None):
        there = dict.fromkeys(["cpu", *(state.name for state in find_devices(()))])
        words = f'There is no device "{printable(missing)}" on this machine: choose {either([*there])}.'
        raise InvalidRequest([Problem("device", words)])
    return states


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any(Path(node).exists() for node in _GPU_NODES)


def _ask_torch() -> list[DeviceState]:
    try:
        command = [sys.executable, "-m", "engines.memory.devices"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=True)
        return [DeviceState(**json.loads(line)) for line in found.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        log.exception("the devices of this machine could not be listed")
        return []


class WorkerProcess:
    """One life of a worker, begun by the constructor. A worker that ended is followed by another one.

    Args:
        command: the words that start it; tests give their own.
        log: where its stderr goes.
        on_message: called with (this, message) for everything it says, from the reading thread.
        on_exit: called with (this) when the process has ended by itself, after its last message.

    Attributes:
        job: what it makes now; kept by the executor. No event of another process ends it.
        heard: whether the process has said a word about `job`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        log: BoundedLog,
        on_message: Callable[[WorkerProcess, Any], None],
        on_exit: Callable[[WorkerProcess], None],
        command: Sequence[str] = WORKER,
    ) -> None:
        self.job: Job | None = None
        self.heard = False
        self.settings, self._name, self._log = settings, settings.device, log
        self._on_message, self._on_exit = on_message, on_exit
        self._writing = threading.Lock()
        self._closing = self._leaving = False
        self._process = subprocess.Popen(
            list(command),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # it does not receive this terminal's Ctrl-C; it ends with its stdin
        )
        log.write(f"{time.strftime('%F %T')} process {self.pid} begins\n".encode())
        self._readers = [
            threading.Thread(target=work, name=f"{name} of {self._name}", daemon=True)
            for name, work in (("messages", self._read), ("log", self._keep_log))
        ]
        for reader in self._readers:
            reader.start()
        with suppress(OSError):  # it ended at once, which is about to be noticed
            self._write(settings.to_json())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code of a process that has ended."""
        return self._process.poll()

    @property
    def usable(self) -> bool:
        """Whether it lives and takes commands."""
        return not self._leaving and self._process.poll() is None

    def send(self, command: BaseModel) -> None:
        """Give the process one command; raises OSError if it is not there to take it."""
        self._write(json.dumps(command.model_dump(mode="json")))

    def kill(self) -> None:
        """End the process at once."""
        self._leaving = True
        self._process.kill()

    def close(self) -> None:
        """End the process, kindly first; what it still has to say is taken."""
        self._closing = True
        with suppress(OSError):
            self.send(messages.Shutdown())
        self._close_stdin()
        self._wait()
        for reader in self._readers:
            reader.join(timeout=_GRACE_S)

    def _wait(self) -> None:
        """Until the process has ended, which it is made to after a while."""
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # the system itself does not let go of it
                self._process.wait(timeout=_GRACE_S)

    def _write(self, line: str) -> None:
        stdin = self._pipe(self._process.stdin)
        with self._writing:
            if stdin.closed:
                raise BrokenPipeError("the worker is not running")
            stdin.write(line.encode() + b"\n")
            stdin.flush()

    def _close_stdin(self) -> None:
        with self._writing, suppress(OSError):
            self._pipe(self._process.stdin).close()

    def _read(self) -> None:
        """Pass on what the process says until it ends."""
        with self._pipe(self._process.stdout) as stdout:
            for line in stdout:
                self._take(line)
        self._wait()
        self._close_stdin()
        if not self._closing:
            ended = f"process {self.pid} ended by itself with code {self._process.returncode}"
            self._log.write(f"{time.strftime('%F %T')} {ended}\n".encode())
            log.warning("the worker of %s: %s", self._name, ended)
            self._on_exit(self)

    def _keep_log(self) -> None:
        with self._pipe(self._process.stderr) as stderr:
            while some := stderr.read1(2**16):  # type: ignore[attr-defined]
                self._log.write(some)

    def _take(self, line: bytes) -> None:
        try:
            message = messages.parse(line)
        except ValidationError:
            log.warning("the worker of %s said something unexpected: %.200r", self._name, line)
            return
        match message:
            case messages.Leaving():
                self._leaving = True
            case messages.Refused():
                log.error("the worker of %s refused a command: %s", self._name, message.reason)
        try:
            self._on_message(self, message)
        except Exception:  # whatever goes wrong with one message, the next one is read
            log.exception("a message of the worker of %s was lost", self._name)

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


def environment() -> dict[str, str]:
    """The variables of a worker. Unless a person has decided otherwise, its threads sleep while they wait.

    OpenMP's threads wait by spinning, which takes the processor from the page, the browser and each other: beside one
    busy process a clip took up to thirteen times as long.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
