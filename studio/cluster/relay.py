"""A worker on another machine. To the studio this is a worker process like any other, one JSON line each way; behind it
an actor of Ray's owns the worker, and files travel by content, a megabyte at a time.

It ends with MACHINE_LOST where the actor is gone, as when its machine died, and with NO_ROOM where it never began.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, TextIO

from pydantic import BaseModel

from engines.errors import StudioError
from engines.events import TERMINAL, Cancelled, Done, Failed
from engines.media.output import Output, media_error
from engines.messages import Ask, AskEvent, Cancel, Generate, JobEvent, Shutdown, parse, parse_command
from engines.prompting.tasks import TASKS
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings
from engines.runtime.worker import protected_stdout
from studio.cluster.joining import join
from studio.cluster.luggage import Luggage, chunks
from studio.cluster.place import MACHINE_LOST, NO_ROOM, Place
from studio.cluster.slot import Slot

_PATIENCE_S = 60.0
_GRACE_S = 4.0


class Relay:
    """Commands go out by a thread of their own, what the slot says comes in by the main one.

    Args:
        slot: the actor, and `given` the folder in which it expects files.
        out: where messages go, one JSON object a line.
    """

    def __init__(self, ray: Any, slot: Any, given: str, settings: RuntimeSettings, *, out: TextIO) -> None:
        self._ray, self._slot, self._given, self._settings = ray, slot, PurePosixPath(given), settings
        self._out, self._lock = out, threading.Lock()
        self._here = DeviceService(settings)  # answers what needs no device; a key for it never leaves this machine
        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._luggage = Luggage(self._given)
        self._output: Output | None = None
        self._trouble: StudioError | None = None

    def read(self, lines: Iterable[str]) -> None:
        """Take what the studio says until it ends; then the worker has a moment to end too."""
        threading.Thread(target=self._work, name="commands", daemon=True).start()
        for line in lines:
            command = parse_command(line)
            if isinstance(command, Cancel) and not command.keep:
                self._cancelled.add(command.id)  # also while its files are still on their way
            if isinstance(command, Shutdown):
                break
            self._commands.put(command)
        self._tell(Shutdown())
        time.sleep(_GRACE_S)
        os._exit(0)

    def listen(self) -> int:
        """Pass on what the slot says until it ends; returns the exit code."""
        from ray.exceptions import RayError

        said = self._slot.listen.options(num_returns="streaming", concurrency_group="ears").remote()
        try:
            for piece in said:
                kind, content, name = self._ray.get(piece)
                if kind == "log":
                    sys.stderr.buffer.write(content)
                    sys.stderr.buffer.flush()
                elif kind == "file":
                    self._keep(name, content)
                else:
                    self._pass_on(parse(content))
        except RayError as error:
            sys.stderr.write(f"the machine is gone: {type(error).__name__}\n")
            return MACHINE_LOST
        finally:
            self._forget()
        return 1

    def _work(self) -> None:
        """Carry out one command after the other. Where the machine is gone, `listen` ends this process."""
        while True:
            command = self._commands.get()
            try:
                match command:
                    case Generate():
                        self._order(command)
                    case Ask() if command.task in TASKS and TASKS[command.task].needs_device:
                        luggage = Luggage(self._given)
                        packed = luggage.question(command)
                        self._send(luggage, [*luggage.files], command.id)
                        self._tell(packed)
                    case Ask():
                        threading.Thread(target=self._answer, args=(command,), daemon=True).start()
                    case _:
                        self._tell(command)
            except OSError:
                failed = Failed(kind="MediaError", message="A file cannot be read any more.", hint="Choose it again.")
                if isinstance(command, Ask):
                    self._say(AskEvent(id=command.id, event=failed))
                else:
                    self._say(JobEvent(job=command.job, event=failed))

    def _order(self, order: Generate) -> None:
        """The files of a job, those that are not there yet, then the job."""
        luggage = Luggage(self._given)
        packed = luggage.order(order)
        lacking = self._ray.get(self._call("lacks", [*luggage.files]))
        if self._send(luggage, lacking, order.job):
            self._luggage = luggage
            self._tell(packed)
        else:
            self._cancelled.discard(order.job)
            self._say(JobEvent(job=order.job, event=Cancelled()))

    def _send(self, luggage: Luggage, names: Iterable[str], owner: str) -> bool:
        """Files, a piece at a time; False if their owner was cancelled meanwhile."""
        for name in names:
            for number, piece in enumerate(chunks(luggage.files[name])):
                if owner in self._cancelled:
                    return False
                self._ray.get(self._call("receive", name, piece, number))
            self._call("whole", name)
        return True

    def _answer(self, question: Ask) -> None:
        for event in self._here.answer(question, ended=lambda: question.id in self._cancelled):
            self._say(AskEvent(id=question.id, event=event))
        self._cancelled.discard(question.id)

    def _keep(self, name: str, piece: bytes) -> None:
        """The next piece of a clip's file, under a hidden name until all of them are here."""
        job, dot, suffix = name.partition(".")
        try:
            if self._output is None:
                self._output = Output(self._settings.outputs, job)
            with self._output.part(f"{dot}{suffix}").open("ab") as file:
                file.write(piece)
        except StudioError as error:
            self._trouble = error
        except OSError as error:
            self._trouble = media_error(error)

    def _pass_on(self, message: Any) -> None:
        if isinstance(message, JobEvent) and isinstance(message.event, TERMINAL):
            self._cancelled.discard(message.job)
            last = self._home(message.event) if isinstance(message.event, Done) else message.event
            message = message.model_copy(update={"event": last})
            self._forget()
        self._say(message)

    def _home(self, done: Done) -> Done | Failed:
        """A clip whose files are here, by the names that they have here; or why it could not be kept."""
        try:
            if self._trouble is not None:
                raise self._trouble
            if self._output is not None:
                self._output.publish()
        except StudioError as error:
            return Failed(kind=type(error).__name__, message=error.message, hint=error.hint)
        clip = done.result

        def here(name: str) -> str:
            return str(self._settings.outputs / PurePosixPath(name).name) if name else ""

        changes: dict[str, Any] = {name: here(getattr(clip, name)) for name in ("video", "sidecar", "poster")}
        changes["beside"] = tuple(here(name) for name in clip.beside)
        changes["request"] = self._luggage.home(clip.request)
        return Done(result=clip.model_copy(update=changes))

    def _forget(self) -> None:
        if self._output is not None:
            self._output.discard()
        self._output = self._trouble = None

    def _tell(self, command: BaseModel) -> None:
        self._call("tell", json.dumps(command.model_dump(mode="json")))

    def _call(self, name: str, *given: Any) -> Any:
        return getattr(self._slot, name).options(concurrency_group="mouth").remote(*given)

    def _say(self, message: BaseModel) -> None:
        with self._lock:
            self._out.write(message.model_dump_json() + "\n")
            self._out.flush()


def main(word: str) -> int:
    """Be the worker at this place until it ends or the studio does; returns the exit code."""
    out, place = protected_stdout(), Place.from_json(word)
    line = sys.stdin.readline()
    if not line:
        return 0
    try:
        ray = join(place.address)
    except StudioError as error:
        sys.stderr.write(f"{error}\n")
        return NO_ROOM
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor = ray.remote(concurrency_groups={"ears": 1, "mouth": 1})(Slot).options(
        num_gpus=int(place.gpu),
        num_cpus=0 if place.gpu else 1,
        max_restarts=0,
        max_task_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
    )
    try:
        slot = actor.remote(line, place.workers, place.command)
        given = ray.get(slot.open.remote(), timeout=_PATIENCE_S)
    except (RayError, GetTimeoutError) as error:
        sys.stderr.write(f"the machine gave no place within {_PATIENCE_S:.0f} s: {type(error).__name__}: {error}\n")
        return NO_ROOM
    relay = Relay(ray, slot, given, RuntimeSettings.from_json(line), out=out)
    threading.Thread(target=relay.read, args=(sys.stdin,), daemon=True).start()
    return relay.listen()


if __name__ == "__main__":
    code = main(sys.argv[1])
    os._exit(code)
