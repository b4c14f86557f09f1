"""Jobs and the one place that keeps them: a SQLite file that outlives pages, events and restarts."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engines.events import Failed, Result

State = Literal["queued", "running", "done", "failed", "cancelled"]

TRANSITIONS: dict[State, tuple[State, ...]] = {
    "queued": ("running", "failed", "cancelled"),
    "running": ("done", "failed", "cancelled", "queued"),
    "done": (),
    "failed": (),
    "cancelled": (),
}
ACTIVE: tuple[State, ...] = tuple(state for state, following in TRANSITIONS.items() if following)
MAX_STARTS = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    batch TEXT NOT NULL,
    owner TEXT NOT NULL,
    engine TEXT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    finished REAL,
    result TEXT,
    failure TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""
_COLUMNS = "number, id, batch, owner, engine, request, state, starts, created, finished, result, failure"


@dataclass(frozen=True)
class Job:
    """One clip to be made, being made or made.

    Attributes:
        batch: jobs submitted together (variations) share it.
        owner: whose job it is on a public studio; "" on a private one.
        request: the request's fields as JSON values.
        starts: how often a worker has begun it.
    """

    engine: str
    request: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    batch: str = ""
    owner: str = ""
    state: State = "queued"
    number: int = 0
    starts: int = 0
    created: float = field(default_factory=time.time)
    finished: float | None = None
    result: Result | None = None
    failure: Failed | None = None

    @property
    def active(self) -> bool:
        """Whether the job still waits or runs."""
        return self.state in ACTIVE

    @property
    def frames(self) -> int:
        """Frames of its clip, as made if it is made, else as asked for."""
        made = self.result.frames if self.result else None
        return int(made or self.request["frames"])


class WrongState(Exception):
    """A job cannot go from the state it is in to the one asked for."""


class JobStore:
    """The jobs of one studio. Every method is one transaction and safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._transaction() as db:
            db.executescript(_SCHEMA)

    def add(self, jobs: Iterable[Job]) -> list[Job]:
        """Queue new jobs, in order."""
        added = []
        with self._transaction() as db:
            for job in jobs:
                cursor = db.execute(
                    "INSERT INTO jobs (id, batch, owner, engine, request, state, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (job.id, job.batch, job.owner, job.engine, json.dumps(dict(job.request)), job.state, job.created),
                )
                added.append(replace(job, number=cursor.lastrowid or 0))
        return added

    def get(self, job_id: str) -> Job | None:
        """The job with this id, if there is one."""
        return next(iter(self._select("WHERE id = ?", job_id)), None)

    def batch(self, batch: str) -> list[Job]:
        """The jobs submitted together, in order."""
        return self._select("WHERE batch = ? ORDER BY number", batch)

    def active(self, *, owner: str | None = None) -> list[Job]:
        """Waiting and running jobs, oldest first; of one owner or of everybody."""
        places = ", ".join("?" * len(ACTIVE))
        mine = "" if owner is None else " AND owner = ?"
        return self._select(f"WHERE state IN ({places}){mine} ORDER BY number", *ACTIVE, *_given(owner))

    def finished(self, *, owner: str | None = None, limit: int = 200) -> list[Job]:
        """Jobs with a clip, newest first."""
        mine = "" if owner is None else " AND owner = ?"
        return self._select(f"WHERE state = 'done'{mine} ORDER BY finished DESC LIMIT ?", *_given(owner), limit)

    def next_queued(self) -> Job | None:
        """The job that should run next."""
        return next(iter(self._select("WHERE state = 'queued' ORDER BY number LIMIT 1")), None)

    def move(self, job_id: str, state: State, *, result: Result | None = None, failure: Failed | None = None) -> Job:
        """Bring a job into another state; raises WrongState where the transition table has no such step."""
        before = [name for name, following in TRANSITIONS.items() if state in following]
        ended = state not in ACTIVE
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, starts = starts + ?, finished = ?, result = ?, failure = ? "
                f"WHERE id = ? AND state IN ({', '.join('?' * len(before))})",
                (
                    state,
                    int(state == "running"),
                    time.time() if ended else None,
                    result.model_dump_json() if result else None,
                    failure.model_dump_json() if failure else None,
                    job_id,
                    *before,
                ),
            ).rowcount
        job = self.get(job_id)
        if job is None or not changed:
            raise WrongState(f"a job that is {job.state if job else 'unknown'} cannot become {state}")
        return job

    def recover(self) -> None:
        """After a restart: what ran is queued again, and given up where it had its second chance."""
        for job in self._select("WHERE state = 'running' ORDER BY number"):
            if job.starts < MAX_STARTS:
                self.move(job.id, "queued")
            else:
                message = "The studio stopped twice while making this clip, so it was given up."
                hint = "Try a smaller size or fewer frames."
                self.move(job.id, "failed", failure=Failed(kind="DeviceError", message=message, hint=hint))

    def delete(self, job_id: str) -> None:
        """Forget a job that is over; raises WrongState for one that is not."""
        job = self.get(job_id)
        if job is not None and job.active:
            raise WrongState("a job that waits or runs cannot be deleted")
        with self._transaction() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def pictures_in_use(self) -> set[str]:
        """Paths of the pictures that some job refers to."""
        query = "SELECT tree.value FROM jobs, json_tree(jobs.request) AS tree WHERE tree.key = 'path'"
        with self._transaction() as db:
            return {path for (path,) in db.execute(query)}

    def close(self) -> None:
        """Close the file; the store is of no use afterwards."""
        with self._lock:
            self._db.close()

    def _select(self, where: str, *values: Any) -> list[Job]:
        with self._transaction() as db:
            return [_job(row) for row in db.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values)]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            yield self._db


def _given(owner: str | None) -> tuple[str, ...]:
    return () if owner is None else (owner,)


def _job(row: tuple[Any, ...]) -> Job:
    number, id_, batch, owner, engine, request, state, starts, created, finished, result, failure = row
    return Job(
        number=number,
        id=id_,
        batch=batch,
        owner=owner,
        engine=engine,
        request=json.loads(request),
        state=state,
        starts=starts,
        created=created,
        finished=finished,
        result=Result.model_validate_json(result) if result else None,
        failure=Failed.model_validate_json(failure) if failure else None,
    )
