"""One worker process of the engine layer: started when needed, spoken to in JSON lines, watched for its end."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engines import messages
from engines.errors import InvalidRequest, Problem
from engines.memory.devices import ram
from engines.wording import either, printable
from studio.jobs.store import Job

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 5.0
_GPU_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class DeviceState:
    """A device that makes clips, as the page shows it; memory in bytes, 0 where it is not known."""

    name: str
    title: str
    free_bytes: int = 0
    total_bytes: int = 0
    busy: bool = False


def find_devices(names: Sequence[str]) -> list[DeviceState]:
    """The named devices, or the machine's GPUs, or its CPU. Where there may be a GPU another process asks torch."""
    states = _ask_torch() if _may_have_gpu() else []
    states = states or [DeviceState("cpu", "CPU", *ram())]
    if names:
        known = {state.name: state for state in states}
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
    """The worker of one device.

    Args:
        command: the words that start it.
        log_path: where its stderr goes.
        on_event: called with (worker, job id, event) for each event, from the reading thread.
        on_exit: called when the process has ended by itself.

    Attributes:
        job: what it makes now; kept by the executor.
    """

    def __init__(
        self,
        state: DeviceState,
        command: Sequence[str],
        *,
        log_path: Path,
        on_event: Callable[[WorkerProcess, str, Any], None],
        on_exit: Callable[[WorkerProcess], None],
    ) -> None:
        self.job: Job | None = None
        self._state, self._command, self._log_path = state, list(command), log_path
        self._on_event, self._on_exit = on_event, on_exit
        self._process: subprocess.Popen[bytes] | None = None
        self._writing = threading.Lock()
        self._closing = False

    @property
    def state(self) -> DeviceState:
        """The device as last reported, and whether it is at work."""
        return replace(self._state, busy=self.job is not None)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def ensure_started(self) -> None:
        """Start the process unless it runs. It does not receive this terminal's Ctrl-C and ends with its stdin."""
        if self.alive:
            return
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as errors:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,
            )
        threading.Thread(
            target=self._read, args=(self._process,), name=f"worker {self._state.name}", daemon=True
        ).start()

    def send(self, **message: Any) -> None:
        """Give the process one command; raises OSError if it is not there to take it."""
        with self._writing:
            if self._process is None or self._process.stdin is None or self._process.stdin.closed:
                raise BrokenPipeError("the worker is not running")
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process, kindly first."""
        self._closing = True
        process = self._process
        if process is None:
            return
        with suppress(OSError):
            self.send(command="shutdown")
        with self._writing, suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on what the process says until it ends."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._take(line)
        process.wait()
        with self._writing, suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        if not self._closing:
            log.warning("the worker of %s ended with code %s", self._state.name, process.returncode)
            self._on_exit(self)

    def _take(self, line: bytes) -> None:
        try:
            message = messages.parse(line)
        except ValidationError:
            log.warning("the worker of %s said something unexpected: %.200r", self._state.name, line)
            return
        match message:
            case messages.JobEvent():
                self._on_event(self, message.job, message.event)
            case messages.Status() if message.total_bytes:
                self._state = replace(self._state, free_bytes=message.free_bytes, total_bytes=message.total_bytes)
            case messages.Refused():
                log.error("the worker of %s refused a command: %s", self._state.name, message.reason)
