"""The command line through real processes: a clip, its JSON, and Ctrl-C. Bad requests: tests/test_bad_input.py."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import av
import pytest

from engines import registry
from engines.media import metadata
from studio import command_line
from studio.command_line import main
from studio.commands import asked
from tests.studio.server import ROOT


def start(*words: str, cwd: Path = ROOT, module: str = "tests.studio.command") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *words]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background of a shell
    try:
        return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that makes nothing, which starts faster."""
    monkeypatch.setenv("KINORA_TEST_WORKER", "tests.studio.plain_worker")


def test_a_clip_under_its_name_and_nothing_else(tmp_path: Path, picture: Path) -> None:
    foreign = tmp_path / "clip.json"
    foreign.write_text('{"mine": 1}')
    words = [
        "--prompt",
        "a red circle slides",
        "--ref",
        str(picture),
        "--seed",
        "7",
        "--size",
        "64x64",
        "--frames",
        "9",
    ]
    process = start(
        "generate", "phantom-wan", *words, "--set", "steps=3", "--set", "text-guidance=2.5", "--device", "cpu",
        "--out", str(tmp_path / "clip.mp4"), "--json",
    )  # fmt: skip
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    answer = json.loads(output)
    assert answer["video"] == str(tmp_path / "clip.mp4")
    assert (answer["request"]["seed"], answer["request"]["text_guidance"]) == (7, 2.5)
    with av.open(answer["video"]) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (9, 64, 64)
    assert metadata.read(tmp_path / "clip.mp4").seed == 7
    assert foreign.read_text() == '{"mine": 1}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-2.json", "clip.json", "clip.mp4", "red.png"]
    assert answer["sidecar"] == str(tmp_path / "clip-2.json") and metadata.is_ours(tmp_path / "clip-2.json")
    assert "clip-2.json" in answer["notes"][-1] and "clip-2.json" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_130_and_leaves_nothing(tmp_path: Path, picture: Path, number: int, plain: None) -> None:
    process = start(
        "generate", "phantom-wan", "--prompt", "goes on steps=600 sleep=0.1", "--ref", str(picture),
        "--out", str(tmp_path / "clip.mp4"),
    )  # fmt: skip
    while not list(tmp_path.glob(".kinora-*/worker.log")):
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("Cancelled.")
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["red.png"]


def test_a_failure_of_the_engine_ends_with_1(tmp_path: Path, picture: Path, plain: None) -> None:
    process = start(
        "generate", "phantom-wan", "--prompt", "it breaks", "--ref", str(picture), "--out", str(tmp_path / "c.mp4")
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.endswith("The details are in c.log.\n")
    assert "begins" in (tmp_path / "c.log").read_text()
    assert "Traceback" not in errors


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["engine"], row["model"]) for row in rows] == [
        (spec.name, model.name) for spec in registry.SPECS.values() for model in spec.models
    ]
    assert main(["models"]) == 0
    assert "phantom-wan/1.3B" in capsys.readouterr().out


def test_a_file_to_continue_may_be_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the worker that reads it runs elsewhere
    words = ["generate", "pyramid-flow", "--set", "continues=clip.latents.safetensors", "--out", "longer.mp4"]
    values = asked.values_of(registry.SPECS["pyramid-flow"], command_line.parser().parse_args(words))
    assert values["continues"] == str(tmp_path / "clip.latents.safetensors")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ("pictures", 'A file "pictures" stands where'), (".browser", 'A file ".browser" stands where'),
        ("studio.sqlite3/x", "studio.sqlite3 in the outputs folder is a folder"), (".studio.lock/x", "cannot be used"),
        ("newer", "newer version"),
    ],
)  # fmt: skip
def test_an_outputs_folder_of_another_kind_is_refused_by_serve(
    make: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if make == "newer":
        with closing(sqlite3.connect(tmp_path / "studio.sqlite3")) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        (tmp_path / make).parent.mkdir(exist_ok=True)
        (tmp_path / make).touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert main(["serve", "--outputs", str(tmp_path), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert says in said and str(tmp_path) not in said and "Traceback" not in said
