"""A worker that speaks the protocol and makes nothing: for tests of processes, which need no network and no torch.

The prompt says what it does: "steps=50" and "sleep=0.1" set its pace.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engines import events, messages


def say(message: Any) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


def work(job: str, request: dict[str, Any], folder: Path, cancelled: set[str]) -> Any:
    """Go through the steps; returns the last event."""
    words = dict(word.split("=") for word in request["prompt"].split() if "=" in word)
    total = int(words.get("steps", 3))
    for index in range(total):
        say(messages.JobEvent(job=job, event=events.Step(index=index + 1, total=total, eta_s=1.0)))
        time.sleep(float(words.get("sleep", 0.01)))
        if job in cancelled:
            return events.Cancelled()
    if "breaks" in request["prompt"]:
        return events.Failed(kind="StudioError", message="Something went wrong.", hint="See the log.")
    paths = {name: str(folder / f"{job}{suffix}") for name, suffix in SUFFIXES.items()}
    for path in paths.values():
        Path(path).write_bytes(b"")
    return events.Done(result=events.Result(**paths, request=request, seconds={"total": 1.0}, peak_bytes=0))


SUFFIXES = {"video": ".mp4", "sidecar": ".json", "poster": ".png"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device")
    parser.add_argument("--output", type=Path)
    options, _ = parser.parse_known_args()
    commands: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[str] = set()

    def read() -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["command"] == "cancel":
                cancelled.add(command["job"])
            elif command["command"] == "generate":
                commands.put(command)
            elif command["command"] == "shutdown":
                break
        commands.put({})

    threading.Thread(target=read, daemon=True).start()
    say(messages.Status(device=options.device, free_bytes=1 if options.device == "small" else 2, total_bytes=4))
    while command := commands.get():
        last = work(command["job"], command["request"], options.output, cancelled)
        say(messages.JobEvent(job=command["job"], event=last))


if __name__ == "__main__":
    main()
