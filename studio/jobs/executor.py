"""Who makes the clips. The studio asks through one protocol and does not know whether processes or events do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from engines.events import Answer, Words
from engines.memory.budget import Limits
from engines.messages import Ask
from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.jobs.worker_process import DeviceState

OUR_FAULT = "Something went wrong in the studio; its log has the details."


class Attendance(Protocol):
    """The work on some jobs inside an event, look by look."""

    def __iter__(self) -> Iterator[None]:
        """Whenever there is something new to see."""
        ...

    def close(self) -> None:
        """Nobody looks any more: none of the jobs may wait for somebody who is gone."""
        ...


class Executor(Protocol):
    """Runs the jobs of a store."""

    def start(self) -> None:
        """Begin taking jobs."""
        ...

    def wake(self) -> None:
        """There may be new jobs in the store."""
        ...

    def attend(self, jobs: Sequence[Job]) -> Attendance:
        """Work that has to happen inside the event that submitted `jobs`; yields when there is something new to see.

        To be closed by who asked for it, whatever happens.
        """
        ...

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        """End a job. What runs stops at its next step, and with `keep` the frames it has become its clip.

        Asked a second time without `keep`, its worker is ended at once.
        """
        ...

    def hold(self, *, now: bool) -> None:
        """The store says that jobs are paused, or no longer: obey it. With `now` running ones wait between two steps.

        What is held keeps its work and its memory; it goes on once jobs are no longer paused.
        """
        ...

    def expected(self, job: Job) -> float | None:
        """Seconds that a waiting job will take by what was measured; None where nobody knows."""
        ...

    def ask(self, question: Ask) -> Iterator[Words | Answer]:
        """Words of an answer as they are written and the whole Answer last, also while a clip is made.

        Closing the iterator cancels the question.

        Raises:
            StudioError: there is no answer within bounded time; says why.
        """
        ...

    def progress(self, job_id: str) -> Progress | None:
        """What a running job last said."""
        ...

    def devices(self) -> list[DeviceState]:
        """The devices that make clips, as far as they are known by now."""
        ...

    def limits(self) -> Limits:
        """The most GB of each device that may be used, as it was stated."""
        ...

    def allow(self, limits: Limits) -> None:
        """From the next job on, use at most so much of each device."""
        ...

    def describe(self, inside: bool) -> None:
        """From the next job on, clips carry the settings that made them inside, or not."""
        ...

    def look_in(self, folders: tuple[Path, ...]) -> None:
        """From the next job on, files of models may lie in these folders too."""
        ...

    def hindrance(self) -> str:
        """Why no job can begin now, in a sentence; "" where nothing is in the way."""
        ...

    def free(self) -> None:
        """Let idle workers give back the memory that weights hold."""
        ...

    def close(self) -> None:
        """End all work; what ran is queued again."""
        ...
