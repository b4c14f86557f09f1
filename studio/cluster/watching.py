"""The process that watches a Ray cluster: one JSON line with its machines, again every second, until stdin closes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from engines.errors import StudioError
from engines.runtime.worker import protected_stdout
from studio.cluster.joining import join, machines

EVERY_S = 1.0


def main(address: str) -> int:
    """Watch until nobody listens; returns the exit code. What hinders it is said as {"error": ..., "hint": ...}."""
    out = protected_stdout()

    def say(value: object) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    def listen() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    try:
        ray = join(address)
    except StudioError as error:
        say({"error": error.message, "hint": error.hint})
        return 1
    try:
        while True:
            say(machines(ray))
            time.sleep(EVERY_S)
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    os._exit(code)
