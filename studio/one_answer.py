"""One answer for the command line, from a worker process of its own."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.events import Answer, Words
from engines.messages import Ask, AskEvent
from engines.prompting.tasks import TASKS
from studio.jobs.asking import pieces
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.worker_process import WORKER, WorkerProcess, require_devices
from studio.settings import Settings

_PATIENCE_S = 300.0  # nobody else waits for this process


def ask(question: Ask, *, settings: Settings) -> Iterator[Words | Answer]:
    """Words as they come and the whole Answer last; raises StudioError where there is none."""
    device = require_devices(settings.devices)[0].name if TASKS[question.task].needs_device else "cpu"
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take(_worker: WorkerProcess, message: Any) -> None:
        if isinstance(message, AskEvent):
            inbox.put(message.event)

    with tempfile.TemporaryDirectory(prefix="kinora-") as name:
        worker = WorkerProcess(
            replace(settings, preload=False).runtime(device, outputs=Path(name)),
            command=WORKER,
            log=BoundedLog(Path(name) / "worker.log"),
            on_message=take,
            on_exit=lambda _worker: inbox.put(None),
        )
        try:
            with suppress(OSError):  # it ended at once, which is about to be said
                worker.send(question)
            yield from pieces(inbox, patience_s=_PATIENCE_S)
        finally:
            worker.close()
