"""How much one visitor may ask of a studio that strangers share, and how long it is kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from engines.errors import StudioError
from studio.jobs.store import Job

MOST_OF_VISITOR = 2
KEPT_S = 3600.0
"""How long a shared studio keeps what is over: its disk is small, and nobody comes back to it."""
MOST_OF_CONNECTION = 4
"""More than of a visitor, for people share connections; bounded all the same, for visitors can be invented."""


class Limits:
    """Who has how many jobs. Connections are kept in memory only, and only while a job of theirs is active."""

    def __init__(self) -> None:
        self._connections: dict[str, str] = {}
        self.queueing = threading.RLock()
        """Held from the last look at the queue until the jobs are in it."""

    def check(self, active: Sequence[Job], *, owner: str, connection: str, count: int) -> None:
        """Raise StudioError where `count` more jobs are too many; `active` are everybody's."""
        there = {job.id for job in active}
        self._connections = {job: whose for job, whose in self._connections.items() if job in there}
        mine = sum(job.owner == owner for job in active)
        here = sum(whose == connection for whose in self._connections.values())
        if mine + count > MOST_OF_VISITOR or (connection and here + count > MOST_OF_CONNECTION):
            raise StudioError(
                f"This shared studio makes at most {MOST_OF_VISITOR} clips at a time for each visitor.",
                hint="Wait for yours, or run your own studio.",
            )

    def note(self, jobs: Sequence[Job], *, connection: str) -> None:
        """These jobs came over this connection."""
        if connection:
            self._connections |= {job.id: connection for job in jobs}
