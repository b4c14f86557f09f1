"""The file behind the job list: lists of earlier versions, a folder that moved, one that is full, one that is taken."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.errors import StudioError
from engines.events import Clip, Failed
from studio.jobs import schema
from studio.jobs.lock import FolderInUse
from studio.jobs.store import Job, JobStore, StoreError
from tests.studio.server import ROOT

# What version 0 wrote, to the letter: its table, and paths as they were on that machine.
VERSION_0 = """
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
OLD = "/srv-old/outputs"
PROMPT = f"{OLD} is no place for a fox"


def request_of_old(**more: object) -> dict:
    return {"prompt": PROMPT, "seed": 3, "frames": 9, "references": [{"path": f"{OLD}/pictures/a.png"}]} | more


def write_version_0(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(VERSION_0)
    result = {
        "type": "result",
        "video": f"{OLD}/done.mp4",
        "sidecar": f"{OLD}/done.json",
        "poster": f"{OLD}/done.png",
        "request": request_of_old(),
        "seconds": {"total": 1.5},
        "peak_bytes": 7,
        "frames": 9,
        "notes": ["Short."],
        "beside": [f"{OLD}/done.latents.safetensors"],
    }
    failure = {"type": "failed", "kind": "OutOfMemory", "message": "No room.", "hint": ""}
    rows = [
        ("done", "done", request_of_old(), 1, 20.0, result, None),
        ("failed", "failed", request_of_old(), 1, 30.0, None, failure),
        ("running", "running", request_of_old(continues=f"{OLD}/done.latents.safetensors"), 1, None, None, None),
        ("one", "queued", request_of_old(references=[{"path": "/elsewhere/b.png"}]), 0, None, None, None),
        ("two", "queued", request_of_old(references=[]), 0, None, None, None),
    ]
    with db:
        for name, state, request, starts, finished, made, failed in rows:
            given = [json.dumps(value) if value else None for value in (request, made, failed)]
            db.execute(
                "INSERT INTO jobs "
                "(id, batch, owner, engine, request, state, starts, created, finished, result, failure) "
                "VALUES (?, 'b', 'me', 'e', ?, ?, ?, 10.0, ?, ?, ?)",
                (name, given[0], state, starts, finished, given[1], given[2]),
            )
    db.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def store(folder: Path) -> Iterator[JobStore]:
    store = JobStore(folder / "studio.sqlite3")
    yield store
    store.close()


def test_a_list_of_version_0_opens_where_it_was_moved_to_and_keeps_every_job(folder: Path) -> None:
    write_version_0(folder / "studio.sqlite3")
    for _ in range(2):  # a migration happens once
        store = JobStore(folder / "studio.sqlite3")
        jobs = {name: store.get(name) for name in store.ids()}
        assert {name: job.state for name, job in jobs.items()} == {
            "done": "done", "failed": "failed", "running": "running", "one": "queued", "two": "queued",
        }  # fmt: skip
        assert [job.id for job in store.active()] == ["running", "one", "two"]
        done = jobs["done"]
        assert (done.owner, done.batch, done.starts, done.created, done.finished) == ("me", "b", 1, 10.0, 20.0)
        made = done.result
        assert made == Clip(
            video=f"{folder}/done.mp4",
            sidecar=f"{folder}/done.json",
            poster=f"{folder}/done.png",
            request=dict(done.request),
            seconds={"total": 1.5},
            peak_bytes=7,
            frames=9,
            notes=("Short.",),
            beside=(f"{folder}/done.latents.safetensors",),
        )
        assert done.request["references"] == [{"path": f"{folder}/pictures/a.png"}]
        assert jobs["running"].request["continues"] == f"{folder}/done.latents.safetensors"
        assert jobs["one"].request["references"] == [{"path": "/elsewhere/b.png"}], "none of the folder's own files"
        assert {job.request["prompt"] for job in jobs.values()} == {PROMPT}, "a prompt is no path"
        assert jobs["failed"].failure == Failed(kind="OutOfMemory", message="No room.")
        store.close()
    db = sqlite3.connect(folder / "studio.sqlite3")
    assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    db.close()


def test_a_list_of_a_later_version_is_left_alone(folder: Path) -> None:
    JobStore(folder / "studio.sqlite3").close()
    db = sqlite3.connect(folder / "studio.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (folder / "studio.sqlite3").read_bytes()
    with pytest.raises(StudioError, match="newer version"):
        JobStore(folder / "studio.sqlite3")
    assert (folder / "studio.sqlite3").read_bytes() == before


def test_a_folder_that_moved_brings_its_files_along(folder: Path, store: JobStore, tmp_path: Path) -> None:
    video = folder / "a.mp4"
    (job,) = store.add([Job(engine="e", request={"references": [{"path": str(folder / "pictures" / "p.png")}]})])
    store.move(job.id, "running")
    clip = Clip(video=str(video), sidecar=str(video), poster=str(video), request={}, seconds={}, peak_bytes=0)
    store.move(job.id, "done", result=clip)
    assert store.get(job.id).result == clip
    store.close()
    moved = folder.rename(tmp_path / "elsewhere")
    again = JobStore(moved / "studio.sqlite3")
    there = again.get(job.id)
    assert there.result.video == str(moved / "a.mp4")
    assert there.request["references"][0]["path"] == str(moved / "pictures" / "p.png")
    assert set(again.files_in_use()) == {moved / "pictures" / "p.png"}
    again.close()
    assert str(folder).encode() not in (moved / "studio.sqlite3").read_bytes()


def test_waiting_jobs_can_be_reordered(store: JobStore) -> None:
    running, a, b, c, d = store.add(Job(engine="e", request={}, owner=owner) for owner in "yyxyx")
    store.move(running.id, "running")
    names = {a.id: "a", b.id: "b", c.id: "c", d.id: "d"}

    def order() -> str:
        return "".join(names[job.id] for job in store.queued())

    for job, to, owner, expected in [
        (c, "up", None, "acbd"),
        (a, "down", None, "cabd"),
        (d, "top", None, "dcab"),
        (d, "up", None, "dcab"),
        (b, "down", None, "dcab"),
        (running, "top", None, "dcab"),
        (b, "top", "x", "bcad"),  # among those of x, the others keep their places
        (b, "top", "y", "bcad"),
    ]:
        store.reorder(job.id, to, owner=owner)
        assert order() == expected
    (e,) = store.add([Job(engine="e", request={})])
    names[e.id] = "e"
    assert order() == "bcade"
    assert [names.get(job.id) for job in store.active()] == [None, *"bcade"]


def _fill(store: JobStore) -> None:
    """No page more than the file has: SQLite then says what it says on a full disk."""
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")


def _free(store: JobStore) -> None:
    store._db.execute("PRAGMA max_page_count = 1000000")


LONG = {"prompt": "x" * 20_000}


def test_a_full_disk_is_said_and_the_end_of_a_job_is_never_lost(store: JobStore) -> None:
    first, second = store.add(Job(engine="e", request={}) for _ in range(2))
    store.move(first.id, "running")
    _fill(store)
    with pytest.raises(StoreError, match="disk is full"):
        store.add([Job(engine="e", request=LONG)])
    failure = Failed(kind="MediaError", message="The disk is full." + "x" * 20_000)
    assert store.move(first.id, "failed", failure=failure).state == "failed"
    assert store.get(first.id).failure == failure
    assert [job.id for job in store.active()] == [job.id for job in store.queued()] == [second.id]
    assert store.behind
    with pytest.raises(StoreError):
        store.catch_up()
    _free(store)
    store.catch_up()
    assert not store.behind
    (state,) = store._db.execute("SELECT state FROM jobs WHERE id = ?", (first.id,)).fetchone()
    assert state == "failed"
    assert store.move(second.id, "running").state == "running"


def test_a_list_that_another_program_holds_is_said(
    store: JobStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store._db.execute("PRAGMA busy_timeout = 50")
    (job,) = store.add([Job(engine="e", request={})])
    other = sqlite3.connect(folder / "studio.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="holds the job list"):
        store.move(job.id, "running")
    assert store.move(job.id, "cancelled").state == "cancelled"
    assert not store.queued()
    other.execute("ROLLBACK")
    other.close()
    store.catch_up()
    assert store.get(job.id).state == "cancelled" and not store.behind


@pytest.mark.parametrize(
    "content", [b"I am no database, whatever my name says." * 100, b"SQLite format 3\0" + b"\1" * 5000]
)
def test_a_damaged_list_is_a_sentence(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "studio.sqlite3").write_bytes(content)
    with pytest.raises(StoreError) as refused:
        JobStore(folder / "studio.sqlite3")
    assert "/" not in str(refused.value)
    (folder / "studio.sqlite3").unlink()
    JobStore(folder / "studio.sqlite3").close()  # the refusal has left the folder free


def _with_rows_of_old(path: Path) -> None:
    db = sqlite3.connect(path)
    schema._first(db)
    db.execute(
        "INSERT INTO jobs (id, batch, owner, engine, request, state, created) VALUES ('a', '', '', 'e', '{', 'done', 0)"
    )
    db.commit()
    db.close()


def _with(statements: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        db = sqlite3.connect(path)
        db.executescript(statements)
        db.close()

    return write


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.mkdir, "is a folder"),
        (_with("CREATE TABLE jobs (a)"), "is damaged"),
        (_with("CREATE TABLE notes (a); PRAGMA user_version = 3"), "is damaged"),
        (_with("CREATE TABLE jobs (a); PRAGMA user_version = 3"), "is damaged"),
        (_with("PRAGMA user_version = 99"), "newer version"),
        (_with_rows_of_old, "is damaged"),
    ],
)
def test_a_list_that_is_none_is_a_sentence_and_is_left_there(make: Any, says: str, folder: Path) -> None:
    folder.mkdir()
    make(folder / "studio.sqlite3")
    with pytest.raises(StudioError, match=says) as refused:
        JobStore(folder / "studio.sqlite3")
    assert "/" not in str(refused.value) and refused.value.hint
    assert (folder / "studio.sqlite3").exists()
    (folder / "studio.sqlite3").rename(folder / "old")
    JobStore(folder / "studio.sqlite3").close()


HOLDER = """
import sys, time
from pathlib import Path
from studio.jobs.store import JobStore
store = JobStore(Path(sys.argv[1]))
print("mine", flush=True)
time.sleep(600)
"""


def test_a_folder_belongs_to_one_studio_until_its_process_ends(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "studio.sqlite3")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        before = sorted(folder.iterdir())
        with pytest.raises(FolderInUse, match=r"^This outputs folder is in use"):
            JobStore(folder / "studio.sqlite3")
        assert sorted(folder.iterdir()) == before
        other.send_signal(signal.SIGKILL)
    JobStore(folder / "studio.sqlite3").close()
