"""The worker processes that make one clip: the first speaks of it, the others help. One process alone is a crew too.

What a member says or suffers becomes at most one end of the job: the first member's, or that of a member without whom
there is no clip. Whoever has not let go of a job a while after its end is ended.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engines.events import Failed
from engines.messages import Cancel, Generate, Membership
from engines.parallel.choosing import Split
from studio.jobs.worker_process import WorkerProcess

_GRACE_S = 10.0
_PARTED = "Parted"  # the class of the error of a member that only says that another one is gone


class Crew:
    """One job and its processes.

    Args:
        job: its name.
        members: the one that speaks first.
        split: what they share; None where there is one.
        titles: of the members' devices, as people know them.

    Attributes:
        over: whether the job has ended, for whoever asked for it.
    """

    def __init__(
        self, job: str, members: Sequence[WorkerProcess], *, split: Split | None, titles: Sequence[str]
    ) -> None:
        self.job = job
        self.members, self.titles = tuple(members), tuple(titles)
        self.over = False
        self._split = split
        self._at_it = set(self.members)
        self._unexplained: Failed | None = None
        self._meeting: Path | None = None
        self._patience: threading.Timer | None = None

    @property
    def leader(self) -> WorkerProcess:
        """The member that speaks, decodes and writes."""
        return self.members[0]

    @property
    def idle(self) -> bool:
        """Whether every member has let go of the job."""
        return not self._at_it

    @property
    def title(self) -> str:
        """Its devices, as people know them."""
        return ", ".join(self.titles)

    def meet(self) -> None:
        """Make the place where several members find each other; raises OSError."""
        if self._split is not None:
            self._meeting = Path(tempfile.mkdtemp(prefix="kinora-"))

    def begin(self, order: Generate) -> None:
        """Give every member its part of the job, once they can meet."""
        for rank, member in enumerate(self.members):
            with suppress(OSError):  # it just died, and its end is about to be noticed
                member.send(order if self._meeting is None else order.model_copy(update={"group": self._place(rank)}))

    def _place(self, rank: int) -> Membership:
        assert self._meeting is not None and self._split is not None
        return Membership(
            rank=rank,
            size=len(self.members),
            meeting=(self._meeting / "members").as_uri(),
            split=self._split,
            devices=self.titles,
        )

    def ended(self, member: WorkerProcess, event: Any) -> Any:
        """A member said the last word of its part: how the job ends by that, None if it does not."""
        self._at_it.discard(member)
        try:
            if self.over:
                return None
            if member is not self.leader:
                return self._end(event) if isinstance(event, Failed) and event.kind != _PARTED else self._settled()
            if isinstance(event, Failed) and event.kind == _PARTED and self._at_it:
                self._unexplained = event  # the one that is gone tells more
                self._have_patience()
                return None
            return self._end(event)
        finally:
            self._clean()

    def died(self, member: WorkerProcess) -> bool:
        """The process of a member ended by itself; says whether the job had still to be made by it."""
        missed = member in self._at_it and not self.over
        self._at_it.discard(member)
        if missed:
            self._end(None)
        self._clean()
        return missed

    def cancel(self, *, keep: bool = False) -> None:
        """Ask the crew to stop: the others do so when the first one has."""
        with suppress(OSError):  # it just died, and its end is about to be noticed
            self.leader.send(Cancel(id=self.job, keep=keep))

    def dissolve(self) -> None:
        """End the processes that still are at the job: without the others they could only wait."""
        for member in self._at_it:
            member.kill()

    def _settled(self) -> Any:
        """What the first member failed with, once nobody is left who could explain it."""
        return self._end(self._unexplained) if self._unexplained is not None and not self._at_it else None

    def _end(self, event: Any) -> Any:
        self.over = True
        self._have_patience()
        return event

    def _have_patience(self) -> None:
        if self._at_it and self._patience is None:
            self._patience = threading.Timer(_GRACE_S, self.dissolve)
            self._patience.daemon = True
            self._patience.start()

    def _clean(self) -> None:
        if self._at_it:
            return
        if self._patience is not None:
            self._patience.cancel()
        if self._meeting is not None:
            shutil.rmtree(self._meeting, ignore_errors=True)
