"""What people say of their jobs (a star, tags, the trash), and which clips a job was made from; found again by search.

Rows of their own in the file of the job list: a job without one has no star, no tag, no parent and is not in the trash.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.jobs.store import Job, JobStore

Show = Literal["clips", "starred", "unsuccessful", "trash"]
MOST_TAGS, MOST_TAG_CHARACTERS = 20, 40

_SHOWN: dict[Show, str] = {
    "clips": "state = 'done' AND NOT trashed_",
    "starred": "state = 'done' AND NOT trashed_ AND starred_",
    "unsuccessful": "state IN ('failed', 'cancelled') AND NOT trashed_",
    "trash": "trashed_",
}


@dataclass(frozen=True)
class Mark:
    """What is noted of one job.

    Attributes:
        trashed: when it was put into the trash; None if it is not there.
        parents: ids of the jobs whose clips it was made from.
    """

    starred: bool = False
    tags: tuple[str, ...] = ()
    trashed: float | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """What somebody looks for.

    Attributes:
        words: every one of them must be in a text of the job, in a tag or the engine's name, or be its seed; "#word"
            is a whole tag.
        texts: the request's fields that are searched.
        engines: only jobs of these; empty for all.
        since: only jobs finished after this moment, in seconds of time.time().
    """

    words: str = ""
    texts: tuple[str, ...] = ("prompt",)
    engines: tuple[str, ...] = ()
    since: float = 0.0
    show: Show = "clips"


class Shelf:
    """The marks of a job list. Every method is one transaction and raises StoreError as JobStore does."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def mark(self, job_id: str) -> Mark:
        """What is noted of a job."""
        with self._store.transaction() as db:
            row = db.execute("SELECT starred, tags, trashed, parents FROM shelf WHERE job = ?", (job_id,)).fetchone()
        return Mark() if row is None else Mark(bool(row[0]), tuple(json.loads(row[1])), row[2], _ids(row[3]))

    def star(self, job_id: str, on: bool) -> None:
        """Put a star on a job, or take it off."""
        self._set("starred", int(on), [job_id])

    def tag(self, job_id: str, tags: Iterable[str]) -> tuple[str, ...]:
        """Give a job these tags in place of its own; returns them as they are kept: trimmed, once each, in order."""
        plain = (" ".join(tag.replace("#", " ").replace(",", " ").split())[:MOST_TAG_CHARACTERS] for tag in tags)
        kept = tuple(dict.fromkeys(tag for tag in plain if tag))[:MOST_TAGS]
        self._set("tags", json.dumps(kept, ensure_ascii=False), [job_id])
        return kept

    def trash(self, job_ids: Sequence[str]) -> None:
        """Put jobs into the trash."""
        self._set("trashed", time.time(), job_ids)

    def restore(self, job_ids: Sequence[str]) -> None:
        """Take jobs out of the trash."""
        self._set("trashed", None, job_ids)

    def born(self, job_ids: Sequence[str], parents: Sequence[str]) -> None:
        """Note which clips some jobs are made from, in place of what was noted before."""
        self._set("parents", json.dumps(list(dict.fromkeys(parents))), job_ids)

    def children(self, job_id: str) -> list[str]:
        """Ids of the jobs that were made from the clip of this one, the oldest first."""
        query = (
            "SELECT jobs.id FROM shelf JOIN jobs ON jobs.id = shelf.job, json_each(shelf.parents) AS parent "
            "WHERE parent.value = ? ORDER BY jobs.number"
        )
        with self._store.transaction() as db:
            return [str(found) for (found,) in db.execute(query, (job_id,))]

    def search(self, query: Query, *, owner: str | None = None) -> list[tuple[str, ...]]:
        """Ids of the jobs that fit, newest first; those that were submitted together stand together, in their order."""
        conditions, values = [_shown(query.show), "COALESCE(finished, created) >= ?"], [query.since]
        for column, chosen in (("owner", () if owner is None else (owner,)), ("engine", query.engines)):
            if chosen:
                conditions.append(f"{column} IN ({', '.join('?' * len(chosen))})")
                values += chosen
        for word in query.words.split():
            condition, wanted = _word(word, query.texts)
            conditions.append(condition)
            values += wanted
        where = " AND ".join(conditions)
        order = "ORDER BY COALESCE(finished, created) DESC, number DESC"
        groups: dict[str, list[tuple[int, str]]] = {}
        with self._store.transaction() as db:
            rows = db.execute(f"SELECT number, id, batch FROM jobs WHERE {where} {order}", values)
            for number, job_id, batch in rows:
                groups.setdefault(batch or job_id, []).append((number, job_id))
        return [tuple(job_id for _, job_id in sorted(group)) for group in groups.values()]

    def tags(self, *, owner: str | None = None) -> list[str]:
        """Every tag that a job outside of the trash has, in the order of letters."""
        query = (
            "SELECT DISTINCT tag.value FROM shelf JOIN jobs ON jobs.id = shelf.job, json_each(shelf.tags) AS tag "
            "WHERE trashed IS NULL AND (? IS NULL OR owner = ?)"
        )
        with self._store.transaction() as db:
            return sorted((str(tag) for (tag,) in db.execute(query, (owner, owner))), key=str.casefold)

    def trashed(self, *, owner: str | None = None, before: float | None = None) -> list[Job]:
        """Jobs in the trash, or those that went there before a moment."""
        query = "SELECT job FROM shelf WHERE trashed IS NOT NULL AND (? IS NULL OR trashed < ?)"
        with self._store.transaction() as db:
            ids = [str(job_id) for (job_id,) in db.execute(query, (before, before))]
        return [job for job in self._store.several(ids) if owner is None or job.owner == owner]

    def _set(self, column: str, value: Any, job_ids: Sequence[str]) -> None:
        with self._store.transaction() as db:
            for job_id in job_ids:
                _row(db, job_id)
                db.execute(f"UPDATE shelf SET {column} = ? WHERE job = ?", (value, job_id))


def _row(db: sqlite3.Connection, job_id: str) -> None:
    """A row for a job that has none yet; nothing for what is no job."""
    db.execute("INSERT OR IGNORE INTO shelf (job) SELECT id FROM jobs WHERE id = ?", (job_id,))


def _ids(text: str) -> tuple[str, ...]:
    return tuple(str(job_id) for job_id in json.loads(text))


def _shown(show: Show) -> str:
    return (
        _SHOWN[show]
        .replace("trashed_", "id IN (SELECT job FROM shelf WHERE trashed IS NOT NULL)")
        .replace("starred_", "id IN (SELECT job FROM shelf WHERE starred)")
    )


def _word(word: str, texts: Sequence[str]) -> tuple[str, list[Any]]:
    """A condition on jobs for one word that somebody looks for, and its values."""
    of_tag = "EXISTS (SELECT 1 FROM shelf, json_each(shelf.tags) AS tag WHERE shelf.job = jobs.id AND "
    if word.startswith("#") and len(word) > 1:
        return f"{of_tag}folded(tag.value) = ?)", [word[1:].casefold()]
    folded = word.casefold()
    inside = "%" + "".join(f"\\{letter}" if letter in "%_\\" else letter for letter in folded) + "%"
    field = "EXISTS (SELECT 1 FROM json_each(jobs.request) AS field WHERE field.key IN ({}) AND folded(field.value) {})"
    like = "LIKE ? ESCAPE '\\'"
    ways = [
        field.format(", ".join("?" * len(texts)), like),
        f"{of_tag}folded(tag.value) {like})",
        f"engine {like}",
        "CAST(json_extract(jobs.request, '$.seed') AS TEXT) = ?",
    ]
    return f"({' OR '.join(ways)})", [*texts, inside, inside, inside, folded]
