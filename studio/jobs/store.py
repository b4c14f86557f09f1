"""Jobs and the one place that keeps them: a SQLite file that outlives pages, events and restarts."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from engines.errors import StudioError
from engines.events import Clip, Failed
from studio.jobs import schema
from studio.jobs.lock import FolderLock

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]

TRANSITIONS: dict[State, tuple[State, ...]] = {
    "queued": ("running", "failed", "cancelled"),
    "running": ("done", "failed", "cancelled", "queued"),
    "done": (),
    "failed": (),
    "cancelled": (),
}
ACTIVE: tuple[State, ...] = tuple(state for state, following in TRANSITIONS.items() if following)
ENDED: tuple[State, ...] = ("failed", "cancelled")
"""Over without a clip: such a job can be queued again."""
MAX_STARTS = 2

_COLUMNS = "number, id, batch, owner, engine, request, state, starts, created, finished, result, failure, position"
_PATIENCE_S = 5.0
NOT_TRASHED = " AND id NOT IN (SELECT job FROM shelf WHERE trashed IS NOT NULL)"


@dataclass(frozen=True)
class Job:
    """One clip to be made, being made or made.

    Attributes:
        batch: jobs submitted together (variations) share it.
        owner: whose job it is on a public studio; "" on a private one.
        request: the request's fields as JSON values.
        starts: how often a worker has begun it.
        position: waiting jobs run in this order.
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
    result: Clip | None = None
    failure: Failed | None = None
    position: int = 0

    @property
    def active(self) -> bool:
        """Whether the job still waits or runs."""
        return self.state in ACTIVE

    @property
    def frames(self) -> int:
        """Frames of its clip, as made if it is made, else as asked for."""
        made = self.result.frames if self.result else None
        return int(made or self.request["frames"])

    @property
    def files(self) -> list[Path]:
        """The clip and what stands beside it; nothing where none was made."""
        made = self.result
        return [Path(name) for name in (made.video, made.sidecar, made.poster, *made.beside)] if made else []


class WrongState(Exception):
    """A job cannot go from the state it is in to the one asked for."""


class StoreError(StudioError):
    """The job list cannot be read or written: the disk is full, or somebody holds it."""


class JobStore:
    """The jobs of one studio, in a folder that is its own as long as it is open.

    Every method is one transaction and safe to call from any thread. Files of the folder are kept by their names
    relative to it, so the folder may be moved while it is closed.

    Raises:
        FolderInUse: another studio works in the folder.
        OSError: it is no folder, or cannot be written to.
        StoreError: from every method, where the file cannot be read or written; nothing was changed then.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent.absolute()
        self._folder_lock = FolderLock(self._folder)
        self._lock = threading.RLock()
        self._unwritten: dict[str, tuple[State, Clip | None, Failed | None]] = {}
        try:
            if path.is_dir():
                raise StoreError(f"{path.name} in the outputs folder is a folder.", hint="Move it elsewhere.")
            with _told():
                self._db = sqlite3.connect(path, timeout=_PATIENCE_S, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.create_function("folded", 1, lambda text: str(text).casefold(), deterministic=True)
                schema.migrate(self._db)
                self._db.execute(f"SELECT {_COLUMNS} FROM jobs LIMIT 0")
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # rows of old that hold something else
            self._folder_lock.release()
            raise _damaged() from error
        except BaseException:
            self._folder_lock.release()
            raise

    def add(self, jobs: Iterable[Job]) -> list[Job]:
        """Queue new jobs, in order, behind all others."""
        added = []
        with self.transaction() as db:
            (last,) = db.execute("SELECT COALESCE(MAX(position), 0) FROM jobs").fetchone()
            for position, job in enumerate(jobs, start=last + 1):
                request = schema.packed(dict(job.request), self._folder)
                cursor = db.execute(
                    "INSERT INTO jobs (id, batch, owner, engine, request, state, created, position) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (job.id, job.batch, job.owner, job.engine, request, job.state, job.created, position),
                )
                added.append(replace(job, number=cursor.lastrowid or 0, position=position))
        return added

    def get(self, job_id: str) -> Job | None:
        """The job with this id, if there is one."""
        return next(iter(self._select("WHERE id = ?", job_id)), None)

    def batch(self, batch: str) -> list[Job]:
        """The jobs submitted together, in order, without those in the trash."""
        return self._select(f"WHERE batch = ?{NOT_TRASHED} ORDER BY number", batch)

    def active(self, *, owner: str | None = None) -> list[Job]:
        """Running jobs, then waiting ones in the order in which they will run; of one owner or of everybody."""
        places = ", ".join("?" * len(ACTIVE))
        where = f"WHERE state IN ({places}){_of(owner)} ORDER BY state = 'queued', position"
        return [job for job in self._select(where, *ACTIVE, *_given(owner)) if job.active]

    def queued(self, *, owner: str | None = None) -> list[Job]:
        """Waiting jobs in the order in which they will run."""
        where = f"WHERE state = 'queued'{_of(owner)} ORDER BY position"
        return [job for job in self._select(where, *_given(owner)) if job.state == "queued"]

    def finished(self, *, owner: str | None = None, limit: int = 200) -> list[Job]:
        """Jobs with a clip that is not in the trash, newest first."""
        where = f"WHERE state = 'done'{_of(owner)}{NOT_TRASHED} ORDER BY finished DESC LIMIT ?"
        return self._select(where, *_given(owner), limit)

    def unsuccessful(self, *, owner: str | None = None, limit: int = 200) -> list[Job]:
        """Failed and cancelled jobs, newest first. They keep their prompt and pictures until they are deleted."""
        where = f"WHERE state IN (?, ?){_of(owner)}{NOT_TRASHED} ORDER BY finished DESC LIMIT ?"
        return self._select(where, *ENDED, *_given(owner), limit)

    def over(self, *, before: float) -> list[Job]:
        """Jobs that were over before a moment, in whatever way."""
        return self._select("WHERE finished < ?", before)

    def reorder(self, job_id: str, to: Literal["up", "down", "top"], *, owner: str | None = None) -> None:
        """Move a waiting job among the waiting ones, or among those of its owner alone; others keep their places."""
        with self.transaction() as db:
            where = f"WHERE state = 'queued'{_of(owner)} ORDER BY position"
            waiting = db.execute(f"SELECT id, position FROM jobs {where}", _given(owner)).fetchall()
            order, places = [name for name, _ in waiting], [place for _, place in waiting]
            if job_id not in order:
                return
            before = order.index(job_id)
            order.insert({"up": max(0, before - 1), "down": before + 1, "top": 0}[to], order.pop(before))
            db.executemany("UPDATE jobs SET position = ? WHERE id = ?", zip(places, order, strict=True))

    def rewrite(self, job_id: str, *, engine: str, request: Mapping[str, Any]) -> Job:
        """Make a waiting job another one, in its place; raises WrongState for one that does not wait."""
        return self._change(
            "UPDATE jobs SET engine = ?, request = ? WHERE id = ? AND state = 'queued'",
            engine,
            schema.packed(dict(request), self._folder),
            job_id,
        )

    def again(self, job_id: str, *, request: Mapping[str, Any]) -> Job:
        """Queue a job that ended without a clip once more, behind all others; raises WrongState for any other."""
        self.catch_up()
        return self._change(
            "UPDATE jobs SET state = 'queued', starts = 0, finished = NULL, failure = NULL, request = ?, "
            "position = (SELECT MAX(position) + 1 FROM jobs) WHERE id = ? AND state IN (?, ?)",
            schema.packed(dict(request), self._folder),
            job_id,
            *ENDED,
        )

    @property
    def paused(self) -> bool:
        """Whether no waiting job may begin; kept over restarts."""
        with self.transaction() as db:
            return bool(db.execute("SELECT 1 FROM switches WHERE name = 'paused'").fetchone())

    def pause(self, paused: bool) -> None:
        """Let no waiting job begin, or let them."""
        change = "INSERT OR IGNORE INTO" if paused else "DELETE FROM"
        rest = "(name) VALUES ('paused')" if paused else "WHERE name = 'paused'"
        with self.transaction() as db:
            db.execute(f"{change} switches {rest}")

    def move(
        self,
        job_id: str,
        state: State,
        *,
        result: Clip | None = None,
        failure: Failed | None = None,
        untried: bool = False,
    ) -> Job:
        """Bring a job into another state; `untried` takes back a start that no worker has noticed.

        The end of a job is never lost: while it cannot be written, it is kept in memory and shown, and written as soon
        as that is possible.

        Raises:
            WrongState: the transition table has no such step.
        """
        try:
            return self._write(job_id, state, result, failure, started=-1 if untried else int(state == "running"))
        except StoreError:
            if state in ACTIVE:
                raise
            log.warning("the end of job %s cannot be written yet", job_id)
            with self._lock:
                self._unwritten.setdefault(job_id, (state, result, failure))
        job = self.get(job_id)
        if job is None:
            raise WrongState("there is no such job")
        return job

    @property
    def behind(self) -> bool:
        """Whether ends of jobs wait to be written; `catch_up` writes them."""
        return bool(self._unwritten)

    def catch_up(self) -> None:
        """Write the ends of jobs that could not be written before; raises StoreError if they still cannot."""
        with self._lock:
            for job_id, end in list(self._unwritten.items()):
                try:
                    self._write(job_id, *end)
                except WrongState:
                    log.warning("job %s ended twice", job_id)
                self._unwritten.pop(job_id, None)

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
        with self.transaction() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            db.execute("DELETE FROM shelf WHERE job = ?", (job_id,))
            self._unwritten.pop(job_id, None)

    def files_in_use(self, *, active: bool = False) -> dict[Path, set[str]]:
        """Files of the folder that jobs are made from (their pictures, the clips they continue) -> ids of those jobs.

        With `active` only jobs that wait or run count.
        """
        query = (
            "SELECT tree.value, jobs.id FROM jobs, json_tree(jobs.request) AS tree "
            "WHERE tree.key = ? AND (NOT ? OR jobs.state IN ('queued', 'running'))"
        )
        found: dict[Path, set[str]] = {}
        with self.transaction() as db:
            for name, job_id in db.execute(query, (schema.IN_OUTPUTS, active)):
                found.setdefault(self._folder / name, set()).add(job_id)
        return found

    def ids(self) -> dict[str, State]:
        """Every job's id and state."""
        with self.transaction() as db:
            known: dict[str, State] = dict(db.execute("SELECT id, state FROM jobs"))
        return known | {job_id: end[0] for job_id, end in self._unwritten.items()}

    def close(self) -> None:
        """Close the file and leave the folder to others; the store is of no use afterwards."""
        with self._lock:
            self._db.close()
            self._folder_lock.release()

    def _write(
        self, job_id: str, state: State, result: Clip | None, failure: Failed | None, *, started: int = 0
    ) -> Job:
        before = [name for name, following in TRANSITIONS.items() if state in following]
        with self.transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, starts = starts + ?, finished = ?, result = ?, failure = ? "
                f"WHERE id = ? AND state IN ({', '.join('?' * len(before))})",
                (
                    state,
                    started,
                    None if state in ACTIVE else time.time(),
                    schema.packed(result.model_dump(mode="json"), self._folder) if result else None,
                    failure.model_dump_json() if failure else None,
                    job_id,
                    *before,
                ),
            ).rowcount
        job = self.get(job_id)
        if job is None or not changed:
            raise WrongState(f"a job that is {job.state if job else 'unknown'} cannot become {state}")
        return job

    def _change(self, statement: str, *values: Any) -> Job:
        """One job changed, where it is in the state that the statement asks for; raises WrongState."""
        with self.transaction() as db:
            row = db.execute(f"{statement} RETURNING id", values).fetchone()
        job = self.get(row[0]) if row else None
        if job is None:
            raise WrongState("this clip does not wait any more")
        return job

    def _select(self, where: str, *values: Any) -> list[Job]:
        with self.transaction() as db:
            return [self._job(row) for row in db.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values)]

    def several(self, ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that there are, in the order of the ids."""
        places = ", ".join("?" * len(ids))
        found = {job.id: job for job in self._select(f"WHERE id IN ({places})", *ids)}
        return [found[job_id] for job_id in ids if job_id in found]

    def _job(self, row: tuple[Any, ...]) -> Job:
        number, id_, batch, owner, engine, request, state, starts, created, finished, result, failure, position = row
        job = Job(
            number=number,
            id=id_,
            batch=batch,
            owner=owner,
            engine=engine,
            request=schema.unpacked(request, self._folder),
            state=state,
            starts=starts,
            created=created,
            finished=finished,
            result=Clip.model_validate(schema.unpacked(result, self._folder)) if result else None,
            failure=Failed.model_validate_json(failure) if failure else None,
            position=position,
        )
        if id_ not in self._unwritten:
            return job
        state, clip, failed = self._unwritten[id_]
        return replace(job, state=state, result=clip, failure=failed)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, also of neighbours that keep their rows in the same file; raises StoreError."""
        with self._lock, _told():
            if self._db.in_transaction:  # one that failed so badly that it could not even be taken back
                self._db.rollback()
            with self._db:
                yield self._db


@contextmanager
def _told() -> Iterator[None]:
    """What SQLite has to say as a sentence for people."""
    try:
        yield
    except sqlite3.Error as error:
        log.warning("the job list: %s", error)
        raise _sentence(error) from error


def _sentence(error: sqlite3.Error) -> StoreError:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StoreError("The disk is full, so the job list cannot be written.", hint="Free some space.")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError("Another program holds the job list.", hint="Close it and try again.")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(
                "The outputs folder cannot be written to.", hint="Change its permissions or choose another."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return _damaged()  # the last is an unknown table or column
    return StoreError("The job list cannot be read or written.", hint="Check the disk of the outputs folder.")


def _damaged() -> StoreError:
    return StoreError("The job list in the outputs folder is damaged.", hint="Move studio.sqlite3 elsewhere.")


def _of(owner: str | None) -> str:
    return "" if owner is None else " AND owner = ?"


def _given(owner: str | None) -> tuple[str, ...]:
    return () if owner is None else (owner,)
