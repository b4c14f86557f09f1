"""Who makes the clips. The studio asks through one protocol and does not know whether processes or events do it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from studio.jobs.progress import Progress
from studio.jobs.store import Job
from studio.jobs.worker_process import DeviceState

log = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs the jobs of a store."""

    def start(self) -> None:
        """Begin taking jobs."""
        ...

    def wake(self) -> None:
        """There may be new jobs in the store."""
        ...

    def attend(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Work that has to happen inside the event that submitted `jobs`; yields when there is something new to see."""
        ...

    def cancel(self, job_id: str, *, keep: bool = False) -> None:
        """End a job. What runs stops at its next step, and with `keep` the frames it has become its clip.

        Asked a second time without `keep`, its worker is ended at once.
        """
        ...

    def progress(self, job_id: str) -> Progress | None:
        """What a running job last said."""
        ...

    def devices(self) -> list[DeviceState]:
        """The devices that make clips, as far as they are known by now."""
        ...

    def free(self) -> None:
        """Let idle workers give back the memory that weights hold."""
        ...

    def close(self) -> None:
        """End all work; what ran is queued again."""
        ...
