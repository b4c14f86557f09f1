"""Clips made by worker processes of this machine, one per device."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines import registry
from engines.errors import StudioError
from engines.events import TERMINAL, Answer, Cancelled, Done, Failed, Words
from engines.media.output import check_room, remove_leftovers
from engines.memory.budget import Limits, limit_of
from engines.messages import Allow, Ask, AskEvent, Cancel, Free, Generate, Hold, JobEvent, LookIn, Status
from engines.parallel.choosing import AUTO, NONE, READING
from engines.prompting.tasks import TASKS
from engines.runtime.compiling import steps_alike
from studio import estimating
from studio.jobs import outputs
from studio.jobs.asking import PATIENCE_S, NoAnswer, pieces
from studio.jobs.assign import Candidate, Needs, Team, gather, kind
from studio.jobs.bounded_log import BoundedLog
from studio.jobs.crew import Crew
from studio.jobs.executor import OUR_FAULT
from studio.jobs.progress import ActiveJobs, Progress
from studio.jobs.store import Job, JobStore, WrongState
from studio.jobs.worker_process import WORKER, DeviceState, WorkerProcess, find_devices
from studio.paths import reason
from studio.settings import Settings

log = logging.getLogger(__name__)

_MOST_QUESTIONS = 16
_RETRY_S = 1.0


@dataclass
class Device:
    """A device, the process that owns it now, and what that said of it last."""

    state: DeviceState
    process: WorkerProcess | None = None
    status: Status | None = None

    @property
    def busy(self) -> bool:
        return self.process is not None and self.process.job is not None

    @property
    def held_bytes(self) -> int:
        return sum(held.size_bytes for held in self.status.components) if self.status is not None else 0

    @property
    def candidate(self) -> Candidate:
        warm: Counter[str] = Counter()
        for held in self.status.components if self.status is not None else ():
            if held.where != "ram":
                warm.update(dict.fromkeys(held.models, held.size_bytes))
        state = self.state
        return Candidate(state.name, state.free_bytes, state.total_bytes, self.busy, tuple(warm.items()))


@dataclass
class _Question:
    """A question that a process has: what it said to it comes through the inbox, None when the process ended."""

    process: WorkerProcess
    inbox: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)


class LocalExecutor:
    """One worker process per device. A worker that dies costs the job it ran and is started again when needed.

    Where workers are is for `_look`, `_words` and `_again` to say, which the executor of a cluster says otherwise.

    Args:
        command: the words that start a worker; tests give their own.
        find: the devices of these names, or of the machine; tests give their own.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        *,
        command: Sequence[str] = WORKER,
        find: Callable[[Sequence[str]], list[DeviceState]] = find_devices,
    ) -> None:
        self._settings, self._store, self._command, self._find = settings, store, command, find
        self._devices: dict[str, Device] = {}
        self._crews: dict[WorkerProcess, Crew] = {}
        self._questions: dict[str, _Question] = {}
        self._unheard: Counter[str] = Counter()
        self._active = ActiveJobs(store)
        self._condition = threading.Condition()
        self._pending = True
        self._closing = False
        self._recovered = False
        self._hindrance = ""
        self._changing = False
        self._thread = threading.Thread(target=self._dispatch, name="executor", daemon=True)

    def start(self) -> None:
        with suppress(StudioError):  # tried again before the first job begins
            self._recover()
        self._thread.start()

    def wake(self) -> None:
        with self._condition:
            self._pending = True
            self._condition.notify_all()

    def attend(self, jobs: Sequence[Job]) -> Generator[None, None, None]:
        yield from ()

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        with self._condition:
            crew = self._crew(job_id)
            known = self._active.progress(job_id)
            if crew is None:
                try:
                    self._store.move(job_id, "cancelled")
                except WrongState:
                    log.info("job %s was over before it could be cancelled", job_id)
            elif keep and not (known and known.keeping):
                self._active.keeping(job_id)
                crew.cancel(keep=True)
            elif not keep and self._active.cancelling(job_id):
                crew.leader.kill()
            elif not keep:
                crew.cancel()

    def hold(self, *, now: bool) -> None:
        paused = self._store.paused
        with self._condition:
            if now or not paused:
                for process in self._usable():
                    self._tell(process, Hold(held=paused))
                self._active.hold(paused)
            self.wake()

    def expected(self, job: Job) -> float | None:
        return self._active.plan(job).seconds

    def ask(self, question: Ask) -> Iterator[Words | Answer]:
        asked = self._put(question)
        known = TASKS.get(question.task)
        try:
            yield from pieces(asked.inbox, patience_s=known.patience_s if known else PATIENCE_S)
        except (GeneratorExit, NoAnswer):  # nobody waits for the rest
            self._tell(asked.process, Cancel(id=question.id))
            raise
        finally:
            with self._condition:
                self._questions.pop(question.id, None)

    def progress(self, job_id: str) -> Progress | None:
        return self._active.progress(job_id)

    def devices(self) -> list[DeviceState]:
        return [
            replace(device.state, busy=device.busy, held_bytes=device.held_bytes)
            for device in list(self._devices.values())
        ]

    def limits(self) -> Limits:
        return self._settings.memory_gb

    def allow(self, limits: Limits) -> None:
        with self._condition:
            self._settings = replace(self._settings, memory_gb=limits)
            for device in self._devices.values():
                if device.process is not None and device.process.usable:
                    self._tell(device.process, Allow(memory_bytes=limit_of(limits, device.state.name)))

    def describe(self, inside: bool) -> None:
        with self._condition:
            self._settings = replace(self._settings, metadata=inside)

    def look_in(self, folders: tuple[Path, ...]) -> None:
        with self._condition:
            self._settings = replace(self._settings, more_models=folders)
            for device in self._devices.values():
                if device.process is not None and device.process.usable:
                    self._tell(device.process, LookIn(folders=folders))

    def hindrance(self) -> str:
        return self._hindrance

    def free(self) -> None:
        with self._condition:
            for device in self._devices.values():
                if device.process is not None and device.process.usable and device.process.job is None:
                    self._tell(device.process, Free())

    def close(self) -> None:
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        for device in self._devices.values():
            if device.process is None:
                continue
            device.process.close()
            job, crew = device.process.job, self._crews.get(device.process)
            if job is None or crew is None or device.process is not crew.leader or crew.over:
                continue
            known = self._active.progress(job.id)
            if known is not None and known.cancelling:
                self._active.end(job.id, Cancelled())
                continue
            with suppress(StudioError):  # it cannot be written, and will be found running
                self._active.put_back(job.id, untried=not device.process.heard)

    def _recover(self) -> None:
        """Take up what an earlier studio left, once that can be written down."""
        for job in self._store.active():
            if job.state == "running" and (clip := outputs.whole_clip(self._settings.outputs, job)) is not None:
                self._store.move(job.id, "done", result=clip)
        self._store.recover()
        self._recovered = True
        outputs.clean(self._settings.outputs, self._store)

    def _running(self, job_id: str) -> WorkerProcess | None:
        """The process that speaks of a running job."""
        crew = self._crew(job_id)
        return crew.leader if crew is not None else None

    def _crew(self, job_id: str) -> Crew | None:
        return next((crew for crew in self._crews.values() if crew.job == job_id and not crew.over), None)

    @staticmethod
    def _tell(process: WorkerProcess, command: Any) -> None:
        with suppress(OSError):  # it just died, and its end is about to be noticed
            process.send(command)

    def _dispatch(self) -> None:
        """Hand waiting jobs to idle workers until closed. The only thread that begins jobs; nothing ends it."""
        while True:
            with self._condition:
                wait = _RETRY_S if self._hindrance or self._store.behind or self._changing else None
                self._condition.wait_for(lambda: self._pending or self._closing, timeout=wait)
                self._pending = False
                if self._closing:
                    return
            try:
                self._look()
                for device in list(self._devices.values()):
                    if not device.busy:
                        self._ensure_process(device)
                if self._store.behind:
                    self._store.catch_up()
                if not self._recovered:
                    self._recover()
                while self._begin_one():
                    continue
                self._hindrance = ""
            except StudioError as error:  # nothing can be written: the jobs wait until something can
                if self._hindrance != str(error):
                    log.warning("no job can begin: %s", error)
                self._hindrance = str(error)
            except Exception:
                log.exception("no job could begin")
                self._hindrance = OUR_FAULT

    def _look(self) -> None:
        """Find the devices; those of a machine stay the same."""
        if not self._devices:
            found = {state.name: Device(state) for state in self._find(self._settings.devices)}
            with self._condition:
                self._devices = found
                self._condition.notify_all()

    def _words(self, _device: str) -> Sequence[str]:
        """The words that start the worker of a device."""
        return self._command

    def _again(self, _job: Job, _process: WorkerProcess) -> bool:
        """Whether a job that its process began and did not end is to wait again."""
        return False

    def _candidates(self) -> list[Candidate]:
        return [device.candidate for device in self._devices.values()]

    def _begin_one(self) -> bool:
        """Begin the first waiting job that some idle device should make; False if there is none."""
        with self._condition:
            if self._closing or self._store.paused:
                return False
            candidates = self._candidates()
            if all(candidate.busy for candidate in candidates):
                return False
            queued = self._store.queued()
            found = self._first(queued, candidates)
            if found is None:
                return False
            check_room(self._settings.outputs)
            job, team = found
            devices = [self._devices[worker.name] for worker in team.workers]
            titles = [device.state.title for device in devices]
            try:
                cold = needs_of(job).model not in dict(team.workers[0].warm)
                job = self._active.begin(job, device=", ".join(titles), cold=cold)
            except WrongState:
                return True
            if job.starts > 1 and (clip := outputs.whole_clip(self._settings.outputs, job)) is not None:
                self._end(job, Done(result=clip))  # a worker that outlived its studio for a moment had finished it
                return True
            processes = [process for device in devices if (process := self._ensure_process(device)) is not None]
            if len(processes) < len(devices):
                message = f"No process could be started on the {', '.join(titles)}."
                self._end(job, Failed(kind="DeviceError", message=message))
                return True
            crew = Crew(job.id, processes, split=team.split, titles=titles)
            try:
                crew.meet()
            except OSError as error:
                message = f"The {', '.join(titles)} cannot work together: {reason(error)}."
                hint = "Look at the disk of the folder for temporary files."
                self._end(job, Failed(kind="DeviceError", message=message, hint=hint))
                return True
            for process in processes:
                process.job, process.heard, self._crews[process] = job, False, crew
            waiting = ((other.engine, other.request) for other in queued if other.id != job.id)
            ahead = steps_alike((job.engine, job.request), waiting)
            inside, asked = self._settings.metadata, dict(job.request)
            crew.begin(Generate(job=job.id, engine=job.engine, request=asked, metadata=inside, ahead=ahead))
        return True

    def _first(self, jobs: Sequence[Job], candidates: Sequence[Candidate]) -> tuple[Job, Team] | None:
        """The first waiting job that some idle devices should make, and these."""
        split = self._settings.split
        for number, job in enumerate(jobs):
            team = gather(self._needs(job), candidates, split=split, waiting=len(jobs) - number)
            if team is not None:
                return job, team if len(jobs) > 1 else self._with_reader(job, team, candidates)
            if split != NONE:  # those that need one device would keep it from ever getting all of its own
                return None
        return None

    def _with_reader(self, job: Job, team: Team, candidates: Sequence[Candidate]) -> Team:
        """An idle GPU that nobody else wants reads the prompts, where that leaves the text encoder on it for good."""
        spec, (first, *others) = registry.SPECS.get(job.engine), team.workers
        request = estimating.request_of(spec, job.request) if spec is not None else None
        here, files, limits = self._devices[first.name].state, self._settings.files(), self.limits()
        for one in candidates:
            if spec is None or request is None or others or one is first or one.busy or kind(one.name) != "cuda":
                continue
            there = self._devices[one.name].state
            if estimating.reads_elsewhere(spec, request, here, there, files=files, limits=limits):
                return Team((first, one), READING, team.why)
        return team

    def _needs(self, job: Job) -> Needs:
        """What a job asks; how many devices its weights take is asked only where that decides something."""
        needs, settings = needs_of(job), self._settings
        states = [device.state for device in self._devices.values()]
        spec = registry.SPECS.get(job.engine)
        if settings.split != AUTO or len(states) < 2 or spec is None:
            return needs
        request = estimating.request_of(spec, job.request)
        if request is None:
            return needs
        files, limits = settings.files(), settings.memory_gb
        return replace(needs, holders=estimating.holders(spec, request, states, files=files, limits=limits))

    def _ensure_process(self, device: Device) -> WorkerProcess | None:
        """The process of a device, a new one where there is none that takes commands; None if it cannot be started."""
        with self._condition:
            if device.process is not None and device.process.usable:
                return device.process
            name = f"logs/worker-{device.state.name.replace(':', '-')}.log"
            folder = self._settings.outputs
            try:
                device.process = WorkerProcess(
                    self._settings.runtime(device.state.name, outputs=folder, log=name, workers=len(self._devices)),
                    command=self._words(device.state.name),
                    log=BoundedLog(folder / name),
                    on_message=self._take,
                    on_exit=self._on_exit,
                )
            except OSError:
                log.exception("no worker could be started for %s", device.state.name)
                device.process = None
            device.status = None
            self._condition.notify_all()
            return device.process

    def _take(self, process: WorkerProcess, message: Any) -> None:
        """Something a process said. What it says about a job that is not its own is ignored."""
        match message:
            case JobEvent():
                self._take_event(process, message.job, message.event)
            case AskEvent():
                if (asked := self._questions.get(message.id)) is not None and asked.process is process:
                    asked.inbox.put(message.event)
            case Status():
                device = self._device(process)
                if device is not None and message.total_bytes:
                    device.status = message
                    half = message.half or device.state.half
                    free, total = message.free_bytes, message.total_bytes
                    device.state = replace(device.state, free_bytes=free, total_bytes=total, half=half)

    def _take_event(self, process: WorkerProcess, job_id: str, event: Any) -> None:
        with self._condition:
            job = process.job
            if job is None or job.id != job_id:
                log.warning("a process spoke of job %s, which is not its own", job_id)
                return
            process.heard = True
            crew = self._crews[process]
            if not isinstance(event, TERMINAL):
                if process is crew.leader and not crew.over:
                    self._active.take(job_id, event)
            elif isinstance(event, Done) or not self._closing:  # or the job did not end, the studio does
                process.job = None
                if (last := crew.ended(process, event)) is not None:
                    self._end(job, last)
                self.wake()

    def _on_exit(self, process: WorkerProcess) -> None:
        """A process ended by itself: its own job, if it still had one, is over, or waits again if it never began."""
        with self._condition:
            device = self._device(process)
            job, process.job = process.job, None
            crew = self._crews.pop(process, None)
            for asked in self._questions.values():
                if asked.process is process:
                    asked.inbox.put(None)
            if job is None or crew is None or self._closing:
                return
            if not crew.died(process):
                self.wake()
                return
            remove_leftovers(self._settings.outputs)
            outputs.withdraw(self._settings.outputs, job.id)
            heard = crew.leader.heard
            self._unheard[job.id] += not heard
            known = self._active.progress(job.id)
            if known is not None and known.cancelling:
                self._end(job, Cancelled())
            elif (not heard and self._unheard[job.id] < 2 + len(self._devices)) or self._again(job, process):
                with suppress(StudioError):
                    self._active.put_back(job.id, untried=not heard)
                self.wake()
            else:
                title = device.state.title if device is not None else "device"
                self._end(job, self._ended_unexpectedly(title, process))

    def _ended_unexpectedly(self, title: str, process: WorkerProcess) -> Failed:
        message = f"The process that made this clip on the {title} ended unexpectedly."
        hint = "Memory may have run out: try a smaller size or fewer frames."
        return Failed(kind="DeviceError", message=message, hint=hint, log=process.settings.log)

    def _end(self, job: Job, event: Any) -> None:
        """A job is over; written at once, or as soon as that is possible."""
        self._unheard.pop(job.id, None)
        self._active.end(job.id, event)
        self.wake()

    def _device(self, process: WorkerProcess) -> Device | None:
        return next((device for device in self._devices.values() if device.process is process), None)

    def _put(self, question: Ask) -> _Question:
        """Give a question to the process that will answer it soonest: an idle one, or one that may not be."""
        with self._condition:
            if not self._thread.is_alive():
                raise StudioError("This studio is not at work.")
            if len(self._questions) >= _MOST_QUESTIONS:
                raise StudioError("Too many questions at once.", hint="Try again in a moment.")
            self.wake()
            if not self._condition.wait_for(lambda: self._usable() or self._closing, timeout=PATIENCE_S):
                raise StudioError("This studio is still getting ready.", hint="Try again in a moment.")
            if self._closing:
                raise StudioError("This studio is about to end.")
            process = min(self._usable(), key=lambda one: one.job is not None)
            asked = self._questions[question.id] = _Question(process)
            self._tell(process, question)
            return asked

    def _usable(self) -> list[WorkerProcess]:
        processes = [device.process for device in self._devices.values()]
        return [process for process in processes if process is not None and process.usable]


def needs_of(job: Job) -> Needs:
    """What a job asks of a device; nothing where engine or model are gone, for its worker will say so."""
    name = str(job.request.get("model", ""))
    spec = registry.SPECS.get(job.engine)
    if spec is None or name not in [model.name for model in spec.models]:
        return Needs(f"{job.engine}/{name}")
    return Needs.of(spec, spec.request_type.model_construct(**job.request))
