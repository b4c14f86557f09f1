"""python -m benchmarks.page: what the page's process takes to start, and what many callers leave in it.

Every caller has a session of its own, as strangers do. Exits with 1 where a limit is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from tests.studio.server import ROOT, Server

WARM, CALLS = 100, 300
MOST_MB = 30
MOST_STARTS = 1.6
"""How often the page's start may last as long as importing gradio alone does."""


def growth_mb(server: Server, calls: int) -> float:
    """Megabytes by which the process grows over so many calls of the API, each in a session of its own.

    What is made once, threads and tables that the first callers need, is there before.
    """

    def call(session: str) -> None:
        body = json.dumps({"data": [], "session_hash": session}).encode()
        address = f"{server.url}/gradio_api/run/models"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()

    process = psutil.Process(server.process.pid)
    for index in range(WARM):
        call(f"earlier caller {index}")
    before = process.memory_info().rss
    for index in range(calls):
        call(f"caller {index}")
    return (process.memory_info().rss - before) / 1e6


def main() -> int:
    """Print both figures beside their limits; returns the exit code."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import gradio"], cwd=ROOT, check=True, timeout=300)
    alone_s = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "outputs")
        began = time.monotonic()
        with server:
            starts = (time.monotonic() - began) / alone_s
            grown = growth_mb(server, CALLS)
    rows = [
        (f"start, as often as import gradio ({alone_s:.1f} s)", starts, MOST_STARTS),
        (f"MB after {CALLS} further calls", grown, MOST_MB),
    ]
    for name, figure, most in rows:
        print(f"{name:48} {figure:6.2f}  at most {most:5.1f}  {'' if figure <= most else 'MISSED'}".rstrip())
    return int(any(figure > most for _, figure, most in rows))


if __name__ == "__main__":
    sys.exit(main())
