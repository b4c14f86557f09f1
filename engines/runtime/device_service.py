"""What one process does with its device: clips and answers, from the line that asks for them to their last event.

A worker process and an event of the page (ZeroGPU) run the same functions. torch is imported by the first job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import registry
from engines.editing import spec as editing
from engines.errors import DeviceError, OutOfMemory, StudioError
from engines.events import TERMINAL, Answer, Cancelled, Failed, Helped, Stage
from engines.messages import Ask, Generate, Membership, Status
from engines.parallel.choosing import READING
from engines.prompting.tasks import TASKS
from engines.request import Request, seeds
from engines.runtime.settings import RuntimeSettings
from engines.types import EngineSpec
from engines.validation import build_request

if TYPE_CHECKING:
    from engines.runtime.session import Session

log = logging.getLogger(__name__)


def _never() -> bool:
    return False


class DeviceService:
    """One device as its process serves it. Only one thread may make clips and answer what needs the device.

    Attributes:
        lost: whether the device cannot be used by this process any more.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self.settings = settings
        self.lost = False
        self._session: Session | None = None

    def make(
        self, order: Generate, *, ended: Callable[[], bool] = _never, keep: Callable[[], bool] = _never
    ) -> Generator[Any, None, None]:
        """Make a clip and yield its events; the last one is Done, Failed or Cancelled, or Helped. Raises nothing.

        Closing the generator cancels the job, and nothing of it stays on the disk.

        Args:
            ended: whether the job is to be cancelled; asked after every event.
            keep: whether to stop and keep what there is, likewise.
        """
        if ended():
            yield Cancelled()
            return
        yield Stage(name="Starting")  # the process has the job: what happens from here on is the job's own doing
        error: type[Exception] | None = None
        last: Any = Cancelled()
        try:
            with closing(self._events(order, keep)) as events:
                for event in events:
                    if not isinstance(event, TERMINAL) and ended():
                        break
                    yield event
                    if isinstance(event, TERMINAL):
                        return
        except Exception as caught:
            last, error = self._failure(caught, f"job {order.job}"), type(caught)
        # Only here, where no traceback holds the frames of the run any more, can its memory be given back.
        if error is not None and issubclass(error, OutOfMemory):
            self.free()
        if error is not None and issubclass(error, DeviceError):
            self.lost = self._session is not None
        yield last

    def answer(self, question: Ask, *, ended: Callable[[], bool] = _never) -> Generator[Any, None, None]:
        """Answer a question: Words as they are written, then Answer, Failed or Cancelled. Raises nothing."""
        try:
            task = TASKS.get(question.task)
            if task is None:
                raise StudioError(f'This studio cannot be asked for "{question.task}".')
            session = self.session if task.needs_device else None
            pieces = task.answering()(question, session)
            with closing(pieces):
                for piece in pieces:
                    if ended():
                        break
                    yield piece
                    if isinstance(piece, Answer):
                        return
            last: Any = Cancelled() if ended() else Failed(kind="StudioError", message="There was no answer.")
        except Exception as error:
            last = self._failure(error, f"question {question.id}")
        yield last

    @property
    def session(self) -> Session:
        """The device with what it keeps warm, opened on first use; raises DeviceError."""
        if self._session is None:
            from engines.runtime.session import Session

            settings = self.settings
            self._session = Session(
                settings.device,
                store=settings.files(),
                memory_bytes=settings.memory_bytes,
                workers=settings.workers,
                kernel=settings.attention,
                precision=settings.precision,
                compile=settings.compile,
            )
        return self._session

    def free(self) -> None:
        """Give back the memory that idle networks hold."""
        if self._session is not None:
            self._session.free()

    def allow(self, memory_bytes: int | None) -> None:
        """From the next job on, use at most so much of the device; None for what is free, less a reserve."""
        limits = {} if memory_bytes is None else {self.settings.device: memory_bytes / 1e9}
        self.settings = replace(self.settings, memory_gb=limits)
        if self._session is not None:
            self._session.allow(memory_bytes)

    def look_in(self, folders: tuple[Path, ...]) -> None:
        """From the next job on, files of models may lie in these folders too."""
        self.settings = replace(self.settings, more_models=folders)
        if self._session is not None:
            self._session.store.more = folders

    def status(self) -> Status:
        """Who is where and how big; zeros before the device was first used."""
        return Status(device=self.settings.device) if self._session is None else self._session.status()

    def _events(self, order: Generate, keep: Callable[[], bool]) -> Generator[Any, None, None]:
        if (edit := editing.of_job(order.engine)) is not None:
            from engines.editing import runner

            asked = editing.build(edit, order.request)
            told: dict[str, Any] = {"output_dir": self.settings.outputs, "job_id": order.job, "inside": order.metadata}
            told["certificate"] = self.settings.certificate
            yield from runner.run(edit, asked, **told, session=lambda: self.session)
            return
        spec = registry.find(order.engine)
        request = build_request(spec, order.request, pixels=False)  # the engine decodes them
        request = request.model_copy(update={"seed": seeds(request.seed)[0]})
        from engines.runtime.second_try import second_try

        within: Callable[[Any], Any] = nullcontext
        if order.group is not None and order.group.split == READING:
            from engines.parallel import reading

            if order.group.rank:
                context = self.session.context(spec.name, spec.model(request.model))
                reading.read(order.group, registry.implementation(spec), request, context)
                yield Helped()
                return
            within = partial(reading.read_by_another, order.group)
        elif order.group is not None:
            yield from self._together(order, order.group, spec, request, keep)
            return
        yield from second_try(
            self.session,
            spec,
            request,
            output_dir=self.settings.outputs,
            job_id=order.job,
            keep=keep,
            inside=order.metadata,
            certificate=self.settings.certificate,
            ahead=order.ahead,
            within=within,
        )

    def _together(
        self, order: Generate, group: Membership, spec: EngineSpec, request: Request, keep: Callable[[], bool]
    ) -> Generator[Any, None, None]:
        """This process's part of a job that several devices make. What runs out of memory is not tried again."""
        from engines.parallel import member
        from engines.runtime.runner import run

        session, engine, model = self.session, registry.implementation(spec), spec.model(request.model)
        context = session.context(spec.name, model, split=group.split != "guidance")
        with member.part(group, engine, request, context) as part:
            if group.rank:
                member.follow(part)
                yield Helped()
                return
            yield from run(
                spec,
                part.request,
                part.context,
                output_dir=self.settings.outputs,
                job_id=order.job,
                pace=session.pace,
                keep=keep,
                engine=part.engine,
                inside=order.metadata,
                certificate=self.settings.certificate,
            )

    def _failure(self, error: Exception, what: str) -> Failed:
        """An error as the last event; what nobody foresaw goes to the log, with its cause."""
        if not isinstance(error, StudioError):
            error = _unforeseen(error)
        if error.unforeseen or error.__cause__ is not None:
            log.error("%s failed", what, exc_info=error)
        file = self.settings.log if error.unforeseen else ""
        return Failed(kind=type(error).__name__, message=error.message, hint=error.hint, log=file)


def _unforeseen(cause: Exception) -> StudioError:
    error = StudioError("Something went wrong.", unforeseen=True)
    error.__cause__ = cause
    return error
