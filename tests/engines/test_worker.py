"""The worker as the studio meets it: a real process, spoken to through its pipes."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines import messages
from engines.runtime.settings import RuntimeSettings
from tests.engines.tiny import write_checkpoint

ROOT = Path(__file__).parents[2]


class Process:
    """A worker process and what it has said."""

    def __init__(self, folder: Path, *, device: str = "cpu", models: Path | None = None, preload: bool = False) -> None:
        self.output = folder / "out"
        self.errors = (folder / "errors.txt").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.tiny"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        settings = RuntimeSettings(device=device, outputs=self.output, models=models, preload=preload, log="errors.txt")
        self.write(settings.to_json())
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def write(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def send(self, command: Any) -> None:
        self.write(command.model_dump_json())

    def generate(self, job: str, *, engine: str = "tiny", **values: Any) -> None:
        self.send(messages.Generate(job=job, engine=engine, request={"prompt": "a bear", **values}))

    def ask(self, name: str, task: str, text: str) -> None:
        self.send(messages.Ask(id=name, task=task, text=text))

    def next(self) -> Any:
        line = self.lines.get(timeout=40)
        assert line is not None, "the worker ended"
        return messages.parse(line)

    def until(self, kind: str) -> list[Any]:
        """Messages up to the first status, ready or event of a kind, that one included."""
        said = [self.next()]
        while kind not in (said[-1].message, getattr(getattr(said[-1], "event", None), "type", "")):
            said.append(self.next())
        return said

    def files(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir()) if self.output.exists() else []

    def exit_code(self, *, within_s: float) -> int:
        return self.process.wait(timeout=within_s)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)
        self.process.stdin.close()
        self.errors.close()
        while self.lines.get(timeout=60) is not None:
            continue
        self.process.stdout.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_checkpoint(folder)
    return folder


@pytest.fixture
def worker(tmp_path, models) -> Iterator[Process]:
    process = Process(tmp_path, models=models)
    yield process
    process.close()


@pytest.fixture(scope="module")
def warm(tmp_path_factory, models) -> Iterator[Process]:
    """One worker for all tests that leave it usable, as the studio keeps it."""
    process = Process(tmp_path_factory.mktemp("warm"), models=models)
    process.until("ready")
    yield process
    process.close()


def last_of(said: list[Any]) -> Any:
    return [message.event for message in said if message.message == "event"][-1]


def test_it_is_ready_at_once_and_without_torch(worker):
    (ready,) = worker.until("ready")
    assert ready.device == "cpu"
    worker.send(messages.Free())
    assert worker.until("status")[-1].components == ()
    maps = Path(f"/proc/{ready.pid}/maps")
    assert not maps.exists() or "torch" not in maps.read_text(encoding="utf-8")


def test_a_job_goes_round_and_the_network_stays_warm(warm):
    warm.generate("a", seed=7)
    said = warm.until("status")
    assert {message.job for message in said if message.message == "event"} == {"a"}
    result = last_of(said).result
    assert Path(result.video).name == "a.mp4" and result.request["seed"] == 7
    assert [(held.key, held.models) for held in said[-1].components] == [("tiny/transformer", ("tiny/small",))]
    assert said[-1].budget_bytes > 10**8
    warm.send(messages.Free())
    assert warm.until("status")[-1].components == ()


def test_what_libraries_print_is_not_taken_for_a_message(warm):
    warm.generate("b", fault="print")
    assert last_of(warm.until("status")).type == "done"
    warm.errors.seek(0)
    errors = warm.errors.read()
    assert b"a library talks" in errors and b"a C library talks" in errors


def test_nonsense_is_refused_and_the_worker_goes_on(warm):
    for line in (b"junk", b"[]", b"{}", b'{"command": "dance"}', b'{"command": "generate"}', b'"x"'):
        warm.process.stdin.write(line + b"\n")
        warm.process.stdin.flush()
        assert warm.next().message == "refused"
    warm.generate("c")
    assert last_of(warm.until("status")).type == "done"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"steps": 0}, "InvalidRequest"),
        ({"fault": "memory"}, "OutOfMemory"),
        ({"fault": "error"}, "StudioError"),
        ({"picture": "/nowhere/at/all.png"}, "StudioError"),
    ],
)
def test_a_failed_job_costs_only_itself(warm, values, kind):
    warm.generate("bad", **values)
    failed = last_of(warm.until("status"))
    assert (failed.type, failed.kind) == ("failed", kind)
    assert "/" not in failed.message + failed.hint
    assert failed.log == ("errors.txt" if kind == "StudioError" else ""), "the sentence says all, or names a log"
    warm.errors.seek(0)
    assert not failed.log or b"Traceback" in warm.errors.read()
    warm.generate("good")
    assert last_of(warm.until("status")).type == "done"
    assert not [name for name in warm.files() if "bad" in name]


def test_an_unknown_engine_is_a_sentence(warm):
    warm.generate("x", engine="nope")
    assert "nope" in last_of(warm.until("status")).message


def test_cancel_stops_at_the_next_step_and_keeps_the_network(warm):
    warm.generate("long", steps=100, pause_s=0.1)
    warm.until("step")
    warm.send(messages.Cancel(id="long"))
    began = time.monotonic()
    said = warm.until("status")
    assert time.monotonic() - began < 2
    assert last_of(said).type == "cancelled"
    assert [held.key for held in said[-1].components] == ["tiny/transformer"]
    assert not [name for name in warm.files() if "long" in name]


def test_cancel_stops_the_decode_too(warm):
    warm.generate("decoding", steps=1, frames=400, pause_s=0.1)
    while True:
        event = warm.until("step")[-1].event
        if event.total == 400:
            break
    warm.send(messages.Cancel(id="decoding"))
    assert last_of(warm.until("status")).type == "cancelled"
    assert not [name for name in warm.files() if "decoding" in name]


def test_cancelling_one_job_leaves_the_others(warm):
    warm.generate("first", steps=3, pause_s=0.1)
    warm.generate("second")
    warm.generate("third")
    warm.send(messages.Cancel(id="second"))
    assert [last_of(warm.until("status")).type for _ in range(3)] == ["done", "cancelled", "done"]


def answered(said: list[Any], name: str) -> list[Any]:
    return [message.event for message in said if message.message == "asked" and message.id == name]


def test_a_question_is_answered_without_torch(worker):
    (ready,) = worker.until("ready")
    worker.send(messages.Ask(id="q", task="refine by rules", text="a fox runs", engine="phantom-wan", model="1.3B"))
    (answer,) = answered(worker.until("answer"), "q")
    assert answer.text.startswith("A fox runs.") and answer.reasons
    maps = Path(f"/proc/{ready.pid}/maps")
    assert not maps.exists() or "torch" not in maps.read_text(encoding="utf-8")


def loaded(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what a process has loaded")
def test_an_idle_worker_imports_what_a_first_job_waits_for(tmp_path, models):
    process = Process(tmp_path, models=models, preload=True)
    (ready,) = process.until("ready")
    deadline = time.monotonic() + 60
    while not loaded(ready.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.generate("a")
    assert last_of(process.until("status")).type == "done"
    process.close()


def test_imports_ahead_stop_for_a_command_and_on_a_small_machine(monkeypatch):
    from engines.runtime import preload
    from engines.runtime.worker import Worker

    steps = preload.imports()
    assert next(steps) == "torch"
    worker = Worker(RuntimeSettings(), out=io.StringIO())
    worker._accept(messages.Free())
    assert worker._next() == worker._free and next(worker._preload) == "torch", "nothing was imported before it"
    monkeypatch.setattr(preload, "ROOM_BYTES", 10**15)
    assert list(steps) == [] and list(preload.imports()) == []


def test_a_question_waits_for_no_step(warm):
    """What needs no network is answered in the middle of a step, and stops when it is cancelled."""
    warm.generate("busy", steps=2, pause_s=1.5)
    warm.until("stage"), warm.until("stage")
    warm.ask("q", "count", "3")
    said = warm.until("answer")
    assert [event.type for event in answered(said, "q")] == ["words"] * 3 + ["answer"]
    assert not [message for message in said if message.message == "event" and message.event.type == "step"]
    warm.ask("long", "count", "1000")
    warm.until("words")
    warm.send(messages.Cancel(id="long"))
    assert answered(warm.until("cancelled"), "long")[-1].type == "cancelled"
    assert last_of(warm.until("status")).type == "done"


def test_a_question_for_the_device_is_answered_between_two_steps_with_the_same_networks(warm):
    warm.generate("busy", steps=8, pause_s=0.2)
    warm.until("step")
    warm.ask("q", "describe", "fox robot")
    said = warm.until("answer")
    steps = [message.event for message in said if message.message == "event" and message.event.type == "step"]
    assert len(steps) <= 2 and len(answered(said, "q")) == 3
    rest = warm.until("status")
    assert last_of(rest).type == "done"
    assert [held.key for held in rest[-1].components] == ["tiny/transformer"]
    warm.ask("again", "describe", "fox robot")
    assert answered(warm.until("answer"), "again")[-1] == answered(said, "q")[-1], "and while there is no clip to make"


@pytest.mark.parametrize(("task", "text"), [("dance", "x"), ("describe", "break"), ("count", "no number")])
def test_a_question_that_cannot_be_answered_is_a_sentence_and_costs_no_job(warm, task, text):
    warm.generate("busy", steps=3, pause_s=0.1)
    warm.ask("q", task, text)
    failed = answered(warm.until("failed"), "q")[-1]
    assert failed.message and "/" not in failed.message + failed.hint
    assert last_of(warm.until("status")).type == "done"


def test_it_ends_with_its_stdin_in_the_middle_of_a_job(worker):
    worker.generate("long", steps=100, pause_s=0.2)
    worker.until("step")
    worker.process.stdin.close()
    assert worker.exit_code(within_s=4) == 0
    assert worker.files() == []


def test_it_ends_with_its_stdin_even_if_a_step_never_does(worker):
    worker.generate("endless", steps=2, pause_s=600)
    worker.until("stage")
    worker.process.stdin.close()
    assert worker.exit_code(within_s=6) == 0
    assert worker.files() == []


@pytest.mark.parametrize("way", ["shutdown", "SIGTERM"])
def test_it_ends_cleanly_when_asked(worker, way):
    worker.generate("long", steps=100, pause_s=0.1)
    worker.until("step")
    if way == "shutdown":
        worker.send(messages.Shutdown())
    else:
        worker.process.send_signal(signal.SIGTERM)
    assert last_of(worker.until("status")).type == "cancelled"
    assert worker.exit_code(within_s=4) == 0
    assert worker.files() == []


def test_what_a_killed_worker_left_is_removed_by_the_next(worker, tmp_path, models):
    worker.generate("long", steps=1, frames=1000, pause_s=0.01)
    while worker.until("step")[-1].event.index < 300:
        continue
    worker.process.kill()
    worker.exit_code(within_s=4)
    assert any(name.startswith(".long.") for name in worker.files())
    following = Process(tmp_path, models=models)
    following.until("ready")
    assert following.files() == []
    following.close()


def test_it_does_not_outlive_its_parent(tmp_path):
    """The pipe stays open, held by this process, when the parent is killed: only its death tells."""
    program = """
import subprocess, sys
words = [sys.executable, "-m", "tests.engines.tiny"]
worker = subprocess.Popen(words, stdin=sys.stdin, stdout=sys.stdout)
print(worker.pid, flush=True)
worker.wait(timeout=120)
"""
    reading, writing = os.pipe()
    os.write(writing, RuntimeSettings(outputs=tmp_path / "out").to_json().encode() + b"\n")
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=reading, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        assert "ready" in parent.stdout.readline()
        parent.kill()
        deadline = time.monotonic() + 5
        while _lives(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _lives(pid)
    os.close(reading)
    os.close(writing)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except OSError:
        return False


@pytest.mark.parametrize(("first", "code"), [("junk", 2), ('{"device": 5}', 2), ('{"speed": 1}', 2), ("", 0)])
def test_a_first_line_that_holds_no_settings_is_told(first, code):
    ended = subprocess.run(
        [sys.executable, "-m", "engines.runtime.worker"],
        input=f"{first}\n" if first else "",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert [messages.parse(line).message for line in ended.stdout.splitlines()] == ["refused"] * bool(code)


def test_a_device_that_is_not_there_fails_the_job_only(tmp_path, models):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    process = Process(tmp_path, device="cuda:0", models=models)
    process.generate("a")
    failed = last_of(process.until("status"))
    assert failed.kind == "DeviceError" and "cuda" in failed.message
    assert process.process.poll() is None
    process.close()


def test_a_job_can_be_stopped_and_kept(warm):
    warm.generate("kept", frames=33, pause_s=0.15)
    while True:
        event = getattr(warm.next(), "event", None)
        if getattr(event, "type", "") == "step" and event.total == 33:
            break
    warm.send(messages.Cancel(id="kept", keep=True))
    done = last_of(warm.until("done"))
    assert done.result.notes[-1].startswith("Stopped after ")
    assert {"kept.json", "kept.mp4", "kept.png"} <= set(warm.files())
    warm.until("status")


def test_a_held_job_waits_between_two_steps_and_goes_on_where_it_was(warm: Process) -> None:
    warm.generate("held", steps=6, pause_s=0.05)
    warm.until("step")
    warm.send(messages.Hold(held=True))
    said = []
    with pytest.raises(queue.Empty):
        while True:
            said.append(messages.parse(warm.lines.get(timeout=1.0)))
    assert not any(getattr(message.event, "type", "") == "done" for message in said)
    warm.ask("meanwhile", "count", "3")
    assert warm.until("answer")
    warm.send(messages.Hold(held=False))
    events = [message.event for message in [*said, *warm.until("done")] if message.message == "event"]
    steps = [event.index for event in events if event.type == "step" and event.total == 6]
    assert steps == sorted(steps) and steps[-1] == 6
    warm.until("status")


def test_a_held_job_can_be_cancelled(warm: Process) -> None:
    warm.generate("dropped", steps=50, pause_s=0.05)
    warm.until("step")
    warm.send(messages.Hold(held=True))
    warm.send(messages.Cancel(id="dropped"))
    assert warm.until("cancelled")
    warm.send(messages.Hold(held=False))
    warm.until("status")
