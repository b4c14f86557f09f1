"""python -m benchmarks.queue: many clients at once, jobs cancelled at random, and kill -9 of page and worker meanwhile.

A real page with its API, real worker processes, and the tests' tiny real engine. In the end every job must be in one
final state, none lost, none made twice, and no file or process may be left that belongs to none. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from engines import registry
from engines.request import Request, parameter
from tests.engines.tiny import TINY, write_checkpoint
from tests.studio.server import Server

FINAL = ("done", "failed", "cancelled")
START_S = 900.0
GONE_S = 10.0
"""How long a worker may live on after its page was killed."""


class TinyRequest(Request):
    """A clip of coloured noise that takes its time."""

    pause_s: float = parameter(0.0, label="Pause", help="Seconds a step takes.", group="quality")
    fault: str = parameter("", label="Fault", help="What goes wrong.", group="quality")


SPEC = replace(TINY, request_type=TinyRequest)


class Page(Server):
    """A page with the tiny engine alone."""

    def command(self) -> list[str]:
        """The words that start it."""
        return [sys.executable, "-m", "benchmarks.queue", "page", str(self.port), str(self.outputs)]

    def start(self, timeout_s: float = START_S) -> None:
        """Start it and wait until it answers, however busy the machine is: how long that takes is not asked here."""
        super().start(timeout_s)

    def stop(self) -> None:
        """End it as Ctrl-C would, and wait as long for that."""
        self.process.terminate()
        self.process.wait(timeout=START_S)
        self._file.close()

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        with suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


@dataclass
class Book:
    """What the clients and the watcher have seen.

    Attributes:
        known: ids that the page has given out, and what they were asked for.
        tries: how often each prompt was sent without an answer: the page may have taken it or not.
        files: the clip of each job as it was first seen, by its number in the file system.
    """

    known: dict[str, str] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    cancelled: set[str] = field(default_factory=set)
    files: dict[str, int] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, outputs: Path, ended: threading.Event) -> None:
        """Note every clip that gets its name, and those that get it twice."""
        while not ended.wait(0.1):
            self.look(outputs)

    def look(self, outputs: Path) -> None:
        """One look at the clips that are there."""
        for path in outputs.glob("[!.]*.mp4"):
            with suppress(OSError):
                number = path.stat().st_ino
                if self.files.setdefault(path.stem, number) != number:
                    self.again.add(path.stem)


class Client:
    """Somebody who asks for clips, changes their mind, and finds the page gone from time to time."""

    def __init__(self, page: Page, book: Book, name: str, count: int, seed: int) -> None:
        self.page, self.book, self.name, self.count = page, book, name, count
        self.random = random.Random(seed)

    def run(self) -> None:
        """Ask for all clips, and cancel some."""
        for index in range(self.count):
            prompt = f"{self.name} asks for clip {index}"
            job_id = self._submit(prompt)
            time.sleep(self.random.uniform(0.0, 1.5))
            if self.random.random() < 0.3:
                for _ in range(self.random.choice((1, 1, 2))):  # impatient people press twice
                    self._call("cancel", job_id, False)
                with self.book.lock:
                    self.book.cancelled.add(job_id)

    def _submit(self, prompt: str) -> str:
        settings = {"steps": self.random.randint(2, 8), "pause_s": self.random.choice((0.0, 0.02, 0.08))}
        while True:
            answer = self._call("generate", "tiny", prompt, [], settings, 1, once=True)
            if answer is not None:
                break
            with self.book.lock:
                self.book.tries[prompt] += 1
            time.sleep(self.random.uniform(0.1, 0.5))
        with self.book.lock:
            self.book.known[answer[0]] = prompt
        return str(answer[0])

    def _call(self, name: str, *data: Any, once: bool = False) -> Any:
        """What a function of the API returns; None where `once` was asked for and nothing came back."""
        body = json.dumps({"data": data, "session_hash": self.name}).encode()
        while True:
            request = urllib.request.Request(
                f"{self.page.url}/gradio_api/run/{name}", body, {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read())["data"][0]
            except (OSError, ValueError, urllib.error.HTTPError):
                if once:
                    return None
                time.sleep(self.random.uniform(0.1, 0.5))


def torment(
    page: Page, kills: int, chance: random.Random, orphans: list[int], busy: Callable[[], bool]
) -> Counter[str]:
    """Kill the page and its workers at random moments, and now and then restart it as people do."""
    done: Counter[str] = Counter()
    for _ in range(kills):
        if not busy():
            break
        time.sleep(chance.uniform(0.0, 3.0))
        what = chance.choice(("page", "worker", "worker", "page", "restart"))
        workers = page.workers()
        if what == "worker" and workers:
            with suppress(psutil.Error):
                chance.choice(workers).kill()
        elif what == "page":
            page.kill()
        else:
            what = "restart"
            page.stop()
        if what != "worker":
            _, alive = psutil.wait_procs(workers, timeout=GONE_S)
            orphans += [process.pid for process in alive]
            page.start()
        done[what] += 1
    return done


def rows(outputs: Path) -> list[tuple[str, str, str]]:
    """(id, state, prompt) of every job in the list."""
    with closing(sqlite3.connect(f"file:{outputs / 'studio.sqlite3'}?mode=ro", uri=True)) as db:
        return [(i, s, json.loads(r)["prompt"]) for i, s, r in db.execute("SELECT id, state, request FROM jobs")]


def verdict(outputs: Path, book: Book, orphans: list[int]) -> dict[str, int]:
    """How often each promise was broken."""
    jobs = rows(outputs)
    states = {job_id: state for job_id, state, _ in jobs}
    asked = Counter(prompt for _, _, prompt in jobs)
    given = Counter(book.known.values())
    done = {job_id for job_id, state in states.items() if state == "done"}
    whole = {job for job in done if all((outputs / f"{job}{end}").is_file() for end in (".mp4", ".json", ".png"))}
    files = [path for path in outputs.iterdir() if path.is_file() and path.name not in _OWN]
    stray = [path.name for path in files if path.name.split(".")[0] not in done]
    for name in stray:
        print(f"  belongs to nobody: {name}")
    return {
        "jobs in no final state": sum(state not in FINAL for state in states.values()),
        "jobs lost": sum(job_id not in states for job_id in book.known),
        "jobs nobody asked for": sum((asked - given - book.tries).values()),
        "jobs listed twice": len(jobs) - len(states),
        "clips made twice": len(book.again),
        "done without all files": len(done - whole),
        "files of no job": len(stray),
        "workers without a page": len(orphans),
    }


_OWN = ("studio.sqlite3", "studio.sqlite3-wal", "studio.sqlite3-shm", ".studio.lock")


def run(options: argparse.Namespace) -> int:
    """Everything, once; returns the exit code."""
    chance = random.Random(options.seed)
    book, orphans, ended = Book(), list[int](), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        outputs, models = Path(folder) / "outputs", Path(folder) / "models"
        write_checkpoint(models)
        began = time.monotonic()
        with Page(outputs, KINORA_MODELS=str(models), KINORA_PRELOAD="0") as page:
            share = -(-options.jobs // options.clients)
            counts = [min(share, options.jobs - share * index) for index in range(options.clients)]
            clients = [
                threading.Thread(target=Client(page, book, f"client {index}", count, chance.randrange(2**30)).run)
                for index, count in enumerate(counts)
                if count > 0
            ]
            watcher = threading.Thread(target=book.watch, args=(outputs, ended))
            for thread in (*clients, watcher):
                thread.start()
            killed = torment(
                page, options.kills, chance, orphans,
                lambda: any(one.is_alive() for one in clients) or any(s not in FINAL for _, s, _ in rows(outputs)),
            )  # fmt: skip
            for thread in clients:
                thread.join()
            until = time.monotonic() + options.patience
            while any(state not in FINAL for _, state, _ in rows(outputs)) and time.monotonic() < until:
                time.sleep(0.5)
            workers = page.workers()
            page.stop()
            _, alive = psutil.wait_procs(workers, timeout=GONE_S)
            orphans += [process.pid for process in alive]
        ended.set()
        watcher.join()
        book.look(outputs)
        states = Counter(state for _, state, _ in rows(outputs))
        broken = verdict(outputs, book, orphans)
    print(f"{options.jobs} jobs of {options.clients} clients in {time.monotonic() - began:.0f} s: {_words(states)}")
    print(f"killed or restarted: {_words(killed)}; asked without an answer: {sum(book.tries.values())}")
    for name, count in broken.items():
        print(f"{name:28} {count:4}  {'' if not count else 'MISSED'}".rstrip())
    return int(any(broken.values()))


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"


def serve(port: int, outputs: Path) -> None:
    """The page in this process, with the tiny engine alone."""
    from studio import serving
    from studio.jobs import local
    from studio.settings import from_environment

    class Executor(local.LocalExecutor):
        """One whose workers know the tiny engine."""

        def __init__(self, settings: Any, store: Any) -> None:
            super().__init__(settings, store, command=(sys.executable, "-m", "benchmarks.queue", "worker"))

    local.LocalExecutor = Executor  # type: ignore[misc]
    serving.run(from_environment(port=port, outputs=outputs, devices=("cpu",), queue_limit=10_000))


def main(arguments: list[str]) -> int:
    """Run the benchmark, or one of its processes."""
    if arguments[:1] in (["page"], ["worker"]):
        registry.SPECS.clear()
        registry.SPECS["tiny"] = SPEC
    if arguments[:1] == ["page"]:
        serve(int(arguments[1]), Path(arguments[2]))
        return 0
    if arguments[:1] == ["worker"]:
        from engines.runtime import worker

        os._exit(worker.main())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50, help="kills and restarts of page and worker")
    parser.add_argument("--seed", type=int, default=0, help="which random moments")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds for the rest once all is asked for")
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
