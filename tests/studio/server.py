"""A studio served in a process of its own, for tests that talk to it over the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """The studio of tests/studio/serve.py. A context manager; `restart` keeps its outputs."""

    def __init__(self, outputs: Path, **environment: str) -> None:
        self.outputs, self.environment = outputs, environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self, timeout_s: float = 90) -> None:
        """Start it and wait until it answers."""
        self.log = self.outputs.parent / "server.log"
        self._file = self.log.open("ab")
        config = self.outputs.parent / "kinora.toml"  # what the page changes stands there, and nowhere else
        config.touch()
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "KINORA_CONFIG": str(config)}
        env |= self.environment
        self.process = subprocess.Popen(self.command(), cwd=ROOT, env=env, stdout=self._file, stderr=self._file)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the studio did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def command(self) -> list[str]:
        """The words that start it."""
        return [sys.executable, "-m", "tests.studio.serve", str(self.port), str(self.outputs)]

    def stop(self) -> None:
        """End it as Ctrl-C would."""
        self.process.terminate()
        self.process.wait(timeout=30)
        self._file.close()

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait(timeout=30)
        self._file.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._file.close()
