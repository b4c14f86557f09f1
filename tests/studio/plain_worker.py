"""A worker that speaks the protocol and makes nothing: for tests of processes, which need no network and no torch.

The prompt says what it does: "steps=50" and "sleep=0.1" set its pace, "shows" that it shows something, "breaks" and
"leaves" how it ends. The poster of its clip is the first picture that it was given.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from engines import events, messages
from engines.runtime.settings import RuntimeSettings


def say(message: Any) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


def help_with(group: messages.Membership) -> Any:
    """Be a member of a group that is parted by the first one's end; returns the last event."""
    mark = Path(group.meeting.removeprefix("file://"))
    while mark.parent.exists() and not mark.exists():
        time.sleep(0.01)
    return events.Helped()


def work(
    job: str,
    request: dict[str, Any],
    settings: RuntimeSettings,
    cancelled: set[str],
    kept: set[str],
    stopping: threading.Event,
) -> Any:
    """Go through the steps; returns the last event. As in the true worker, an end of all cancels what is being made."""
    words = dict(word.split("=") for word in request["prompt"].split() if "=" in word)
    total = int(words.get("steps", 3))
    for index in range(total):
        say(messages.JobEvent(job=job, event=events.Step(index=index + 1, total=total, eta_s=1.0)))
        if "shows" in request["prompt"]:
            say(messages.JobEvent(job=job, event=events.Preview(image=b"RIFF")))
        time.sleep(float(words.get("sleep", 0.01)))
        if job in kept:
            break
        if job in cancelled or stopping.is_set():
            return events.Cancelled()
    if "breaks" in request["prompt"]:
        return events.Failed(kind="StudioError", message="Something went wrong.", log=settings.log)
    paths = {name: str(settings.outputs / f"{job}{suffix}") for name, suffix in SUFFIXES.items()}
    for path in paths.values():
        Path(path).write_bytes(b"")
    if given := request.get("references"):
        shutil.copyfile(given[0]["path"], paths["poster"])
    return events.Done(result=events.Clip(**paths, request=request, seconds={"total": 1.0}, peak_bytes=0))


SUFFIXES = {"video": ".mp4", "sidecar": ".json", "poster": ".png"}


def main() -> None:
    settings = RuntimeSettings.from_json(sys.stdin.readline())
    commands: queue.Queue[Any] = queue.Queue()
    cancelled: set[str] = set()
    kept: set[str] = set()
    stopping = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            match messages.parse_command(line):
                case messages.Cancel(id=job, keep=keep):
                    (kept if keep else cancelled).add(job)
                case messages.Generate() as order:
                    commands.put(order)
                case messages.Shutdown():
                    break
        stopping.set()
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    free_bytes = 1 if settings.device == "small" else 2
    say(messages.Status(device=settings.device, free_bytes=free_bytes, total_bytes=4))
    while (order := commands.get()) is not None:
        if order.group is not None and order.group.rank:
            say(messages.JobEvent(job=order.job, event=help_with(order.group)))
            continue
        last = work(order.job, order.request, settings, cancelled, kept, stopping)
        if order.group is not None:
            Path(order.group.meeting.removeprefix("file://")).touch()
        say(messages.JobEvent(job=order.job, event=last))
        if "leaves" in order.request["prompt"]:  # as after a lost device, but without saying so
            time.sleep(0.05)
            os._exit(3)


if __name__ == "__main__":
    main()
