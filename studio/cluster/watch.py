"""Which machines a cluster has, as a process that knows Ray tells it; begun again when it ends."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from engines.errors import DeviceError
from studio.jobs.worker_process import ROOT, environment

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
_FRESH_S = 15.0
_PAUSE_S = 5.0
_KNOCK_S = 5.0


class Watch:
    """The machines of the cluster whose head is at `address`.

    Raises:
        DeviceError: Ray is not installed, no cluster answers, or this machine is none of its nodes.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._machines: list[dict[str, Any]] = []
        self._seen = 0.0
        self._refused: DeviceError | None = None
        self._first = threading.Event()
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        if find_spec("ray") is None:
            hint = "install it with pip install -r requirements-cluster.txt."
            raise DeviceError("A cluster needs Ray, which is not installed:", hint=hint)
        _knock(address)
        self._thread = threading.Thread(target=self._follow, name="cluster", daemon=True)
        self._thread.start()
        answered = self._first.wait(_PATIENCE_S)
        if not answered or self._refused is not None:
            self.close()
            raise self._refused or _silent(address)

    @property
    def trouble(self) -> str:
        """Why it is not known which machines there are; "" where it is."""
        return "" if time.monotonic() - self._seen < _FRESH_S else f"The cluster at {self.address} does not answer."

    def machines(self) -> list[dict[str, Any]]:
        """As joining.machines; none where nobody knows."""
        return [] if self.trouble else self._machines

    def close(self) -> None:
        """Watch no more."""
        self._closing.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(timeout=5)

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except (OSError, ValueError):
                log.exception("the cluster at %s cannot be watched", self.address)
            self._first.set()
            self._closing.wait(_PAUSE_S)

    def _listen(self) -> None:
        """What one process tells until it ends."""
        command = [sys.executable, "-m", "studio.cluster.watching", self.address]
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(
            command, cwd=ROOT, text=True, env=environment(), start_new_session=True, **streams
        ) as one:
            self._process = one
            assert one.stdout is not None
            for line in one.stdout:
                told = json.loads(line)
                if isinstance(told, dict):
                    self._refused = DeviceError(told["error"], hint=told["hint"])
                else:
                    self._machines, self._seen, self._refused = told, time.monotonic(), None
                self._first.set()
            with suppress(OSError):
                one.kill()


def _knock(address: str) -> None:
    """Raise DeviceError at once where nothing listens, which Ray itself needs a minute for."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except OSError:
        raise _silent(address) from None


def _silent(address: str) -> DeviceError:
    return DeviceError(f"No Ray cluster answers at {address}.", hint="Check the address, and that its head runs.")
