"""The layout of the job list and its numbered migrations: a list written by any earlier version opens and keeps all.

`PRAGMA user_version` tells how many of the migrations a file has had; each runs in one transaction with its number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from engines.errors import StudioError

IN_OUTPUTS = "in_outputs"
"""A file of the outputs folder stands in the list as {"in_outputs": name relative to the folder}."""


def migrate(db: sqlite3.Connection) -> None:
    """Bring the file behind `db` to the newest layout; raises StudioError for one of a version yet to come."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StudioError(
            "The job list in this outputs folder was written by a newer version.", hint="Update, or choose another one."
        )
    for number, change in enumerate(MIGRATIONS[version:], start=version + 1):
        with db:
            db.execute("BEGIN IMMEDIATE")
            change(db)
            db.execute(f"PRAGMA user_version = {number}")


def packed(value: Any, folder: Path) -> str:
    """JSON in which the files of `folder` are named relative to it."""
    return json.dumps(_replaced(value, lambda text: _relative(text, folder)))


def unpacked(text: str, folder: Path) -> Any:
    """The value of `packed`, its files where `folder` is now."""
    return json.loads(
        text, object_hook=lambda item: str(folder / item[IN_OUTPUTS]) if set(item) == {IN_OUTPUTS} else item
    )


def _relative(text: str, folder: Path) -> Any:
    start = f"{folder}/"
    return {IN_OUTPUTS: text.removeprefix(start)} if text.startswith(start) else text


def _replaced(value: Any, change: Callable[[str], Any]) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {name: _replaced(item, change) for name, item in value.items()}
        case list() | tuple():
            return [_replaced(item, change) for item in value]
    return value


def _first(db: sqlite3.Connection) -> None:
    """Version 0 had no number: its table may be there, then this changes nothing."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS jobs ("
        "number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, batch TEXT NOT NULL, owner TEXT NOT NULL, "
        "engine TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL, starts INTEGER NOT NULL DEFAULT 0, "
        "created REAL NOT NULL, finished REAL, result TEXT, failure TEXT)"
    )
    db.execute("CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number)")


def _positions(db: sqlite3.Connection) -> None:
    """Waiting jobs can be reordered: they run by position, in the beginning as they came."""
    db.execute("ALTER TABLE jobs ADD COLUMN position INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE jobs SET position = number")
    db.execute("DROP INDEX jobs_by_state")
    db.execute("CREATE INDEX jobs_by_state ON jobs (state, position)")


def _relative_names(db: sqlite3.Connection) -> None:
    """Paths of old begin with the outputs folder as it was called then, which the results and kept pictures tell."""
    rows = db.execute("SELECT number, request, result FROM jobs").fetchall()
    values = [(number, json.loads(request), json.loads(result or "null")) for number, request, result in rows]
    folders = {PurePath(result["video"]).parent for _, _, result in values if result}
    folders |= {
        path.parent.parent for _, request, _ in values for path in _paths(request) if path.parent.name == "pictures"
    }

    def change(text: str) -> Any:
        found = (_relative(text, Path(folder)) for folder in folders)
        return next((name for name in found if isinstance(name, dict)), text)

    for number, request, result in values:
        new = [json.dumps(_replaced(value, change)) if value else None for value in (request, result)]
        db.execute("UPDATE jobs SET request = ?, result = ? WHERE number = ?", (new[0] or "{}", new[1], number))


def _paths(values: Any) -> list[PurePath]:
    """Every "path" in a request of old."""
    if isinstance(values, dict):
        here = [PurePath(values["path"])] if isinstance(values.get("path"), str) else []
        return here + [path for value in values.values() for path in _paths(value)]
    return [path for value in values for path in _paths(value)] if isinstance(values, list) else []


def _shelf(db: sqlite3.Connection) -> None:
    """What people say of jobs, and what they were made from: see studio/jobs/shelf.py."""
    db.execute(
        "CREATE TABLE shelf (job TEXT PRIMARY KEY, starred INTEGER NOT NULL DEFAULT 0, "
        "tags TEXT NOT NULL DEFAULT '[]', trashed REAL, parents TEXT NOT NULL DEFAULT '[]')"
    )


def _paces_and_switches(db: sqlite3.Connection) -> None:
    """What clips took, stage by stage; and what somebody switched on for all jobs."""
    db.execute(
        "CREATE TABLE paces (engine TEXT NOT NULL, model TEXT NOT NULL, device TEXT NOT NULL, cold INTEGER NOT NULL, "
        "spans TEXT NOT NULL, volume INTEGER NOT NULL, steps INTEGER NOT NULL, noted REAL NOT NULL, "
        "PRIMARY KEY (engine, model, device, cold))"
    )
    db.execute("CREATE TABLE switches (name TEXT PRIMARY KEY)")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _first,
    _positions,
    _relative_names,
    _shelf,
    _paces_and_switches,
)
