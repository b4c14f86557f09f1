"""The process that owns one device: JSON commands on stdin, JSON messages on stdout, one line each.

The first line is its RuntimeSettings. What it is told and what it says: engines/messages.py. The process ends when
stdin closes or its parent dies, also in the middle of a job. torch is imported after it said that it is ready.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from pydantic import BaseModel

from engines.errors import StudioError
from engines.events import TERMINAL
from engines.media.output import remove_leftovers
from engines.messages import (
    Allow,
    Ask,
    AskEvent,
    Cancel,
    Free,
    Generate,
    Hold,
    JobEvent,
    Leaving,
    LookIn,
    Ready,
    Refused,
    Shutdown,
    parse_command,
)
from engines.prompting.tasks import TASKS
from engines.runtime import preload
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings

EXIT_DEVICE_LOST = 3
"""The device cannot be used by this process any more: start a new one."""

_GRACE_S = 2.0
_PARENT_EVERY_S = 1.0
_HELD_LOOK_S = 0.1
_MOST_ANSWERS = 8


class Worker:
    """Reads commands in one thread, makes clips in the main thread, answers what needs no device in a third.

    Args:
        out: where messages go, one JSON object a line.
    """

    def __init__(self, settings: RuntimeSettings, *, out: TextIO) -> None:
        self.settings, self.service = settings, DeviceService(settings)
        self._out, self._out_lock = out, threading.Lock()
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._quick: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._asked: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._kept: set[str] = set()
        self._stopping = threading.Event()
        self._held = False
        self._preload = preload.imports() if settings.preload else iter(())

    def serve(self, lines: Iterable[str]) -> int:
        """Work until the commands end; returns the exit code."""
        remove_leftovers(self.settings.outputs)
        parent = os.getppid()
        threads: dict[str, Callable[[], None]] = {
            "commands": lambda: self._read(lines),
            "parent": lambda: self._watch_parent(parent),
            "questions": self._answer_quick,
        }
        for name, watch in threads.items():
            threading.Thread(target=watch, name=name, daemon=True).start()
        self._send(Ready(device=self.settings.device, pid=os.getpid()))
        while (work := self._next()) is not None and not self._stopping.is_set():
            work()
            if self.service.lost:
                return EXIT_DEVICE_LOST
        return 0

    def stop(self, *_: Any) -> None:
        """End soon: the running job is cancelled at its next step, and the process ends in any case."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._commands.put(None)
        threading.Thread(target=self._end_after_grace, name="grace", daemon=True).start()

    def _next(self) -> Callable[[], None] | None:
        """The next command; while there is none, heavy imports are made, one by one."""
        while self._commands.empty() and next(self._preload, None) is not None:
            continue
        return self._commands.get()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            if not line.strip():
                continue
            try:
                command = parse_command(line)
            except ValueError:
                self._send(Refused(reason="This is no command that the worker knows."))
            else:
                self._accept(command)
            if self._stopping.is_set():
                return
        self.stop()

    def _accept(self, command: Any) -> None:
        match command:
            case Generate():
                self._commands.put(lambda: self._generate(command))
            case Ask() if command.task in TASKS and TASKS[command.task].needs_device:
                self._asked.put(command)
                self._commands.put(self._answer_asked)
            case Ask():
                self._quick.put(command)
            case Cancel():
                (self._kept if command.keep else self._cancelled).add(command.id)
            case Hold():
                self._held = command.held
            case Free():
                self._commands.put(self._free)
            case Allow():
                self._commands.put(lambda: self.service.allow(command.memory_bytes))
            case LookIn():
                self._commands.put(lambda: self.service.look_in(command.folders))
            case Shutdown():
                self.stop()

    def _generate(self, order: Generate) -> None:
        """Make one clip and send its events; questions for the device are answered between them."""
        for event in self.service.make(
            order, ended=lambda: self._asked_to_end(order.job), keep=lambda: order.job in self._kept
        ):
            if isinstance(event, TERMINAL):
                self._cancelled.discard(order.job)
                self._kept.discard(order.job)
                if self.service.lost:
                    self._send(Leaving())
            self._send(JobEvent(job=order.job, event=event))
            self._answer_asked()
            while self._held and not isinstance(event, TERMINAL) and not self._asked_to_end(order.job):
                time.sleep(_HELD_LOOK_S)
                self._answer_asked()
        self._send(self.service.status())

    def _answer_asked(self) -> None:
        while not self._asked.empty():
            self._answer(self._asked.get())

    def _answer_quick(self) -> None:
        """Answers what needs no device, several at a time: one may wait for another machine."""
        free = threading.Semaphore(_MOST_ANSWERS)

        def answer(question: Ask) -> None:
            try:
                self._answer(question)
            finally:
                free.release()

        while True:
            question = self._quick.get()
            free.acquire()
            threading.Thread(target=answer, args=(question,), name="answer", daemon=True).start()

    def _answer(self, question: Ask) -> None:
        for event in self.service.answer(question, ended=lambda: self._asked_to_end(question.id)):
            self._send(AskEvent(id=question.id, event=event))
        self._cancelled.discard(question.id)

    def _free(self) -> None:
        self.service.free()
        self._send(self.service.status())

    def _asked_to_end(self, name: str) -> bool:
        return name in self._cancelled or self._stopping.is_set()

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
        remove_leftovers(self.settings.outputs, including_own=True)
        os._exit(0)


def protected_stdout() -> TextIO:
    """The real stdout for messages alone: whatever libraries print goes to stderr from now on."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(descriptor, "w", encoding="utf-8")


def main() -> int:
    """Serve the studio at the other end of stdin and stdout; returns the exit code."""
    out = protected_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    first = sys.stdin.readline()
    if not first:
        return 0
    try:
        worker = Worker(RuntimeSettings.from_json(first), out=out)
    except StudioError as error:
        out.write(Refused(reason=str(error)).model_dump_json() + "\n")
        out.flush()
        return 2
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return worker.serve(sys.stdin)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)
