"""A clip by a studio that runs elsewhere, through real processes and real HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import pytest

from engines.errors import DeviceError
from engines.media import metadata
from studio import remote
from studio.command_line import main
from tests.studio.server import Server

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def ask(server: str, out: Path, *words: str) -> int:
    return main(["generate", "phantom-wan", "--server", server, "--out", str(out), "--seed", "7", *words])


def test_a_clip_and_its_settings_come_back(
    server: Server, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "clip.mp4"
    out.parent.mkdir()
    words = ["--prompt", "a red circle", "--ref-cut", str(picture), "--set", "steps=2", "--frames", "5", "--json"]
    assert ask(server.url, out, *words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["video"] == str(out) and answer["request"]["seed"] == 7
    with av.open(str(out)) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 5
    assert sorted(path.name for path in out.parent.iterdir()) == ["clip.json", "clip.mp4"]
    beside = metadata.parse((out.parent / "clip.json").read_text())
    assert beside is not None and beside.prompt == "a red circle"
    assert beside.parameters["references"][0]["keep_background"] is False


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--prompt", "x"], "Add a reference picture"),
        (["--prompt", "x", "--set", "stepz=3"], 'did you mean "steps"'),
        (["--prompt", "x", "--ref", "gone.png"], 'no file "gone.png"'),
        (["--prompt", "x", "--weights", "vae=x.safetensors"], "leave it out"),
    ],
)
def test_what_is_refused_there_is_refused_here(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert ask(server.url, tmp_path / "clip.mp4", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("*clip*"))


def test_no_studio_a_wrong_address_and_something_else_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("studio.example", "http://[::1"):
        assert ask(address, tmp_path / "clip.mp4", "--prompt", "x") == 2
        assert "such as http://" in capsys.readouterr().err
    assert ask("http://127.0.0.1:9", tmp_path / "clip.mp4", "--prompt", "x") == 1
    assert "No studio answers at 127.0.0.1:9. Check" in capsys.readouterr().err
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        for path in ("", "/login-studio"):
            assert ask(f"http://127.0.0.1:{other.server_port}{path}", tmp_path / "clip.mp4", "--prompt", "x") == 1
            assert "No studio answers" in capsys.readouterr().err
        other.shutdown()


def test_a_connection_that_is_away_for_a_moment_loses_no_clip(
    server: Server, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask_there = [], remote.Studio._ask

    def away_once(studio: remote.Studio, name: str, *words: object) -> object:
        asked.append(name)
        if asked.count("/job") == 1:
            raise DeviceError("gone for a moment")
        return ask_there(studio, name, *words)

    monkeypatch.setattr(remote.Studio, "_ask", away_once)
    assert ask(server.url, tmp_path / "clip.mp4", "--prompt", "x", "--ref", str(picture), "--set", "steps=40") == 0
    assert asked.count("/job") > 1 and (tmp_path / "clip.mp4").is_file()


def test_a_clip_whose_file_is_gone_there_is_said_to_be(
    server: Server, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask_there = remote.Studio._ask

    def removed(studio: remote.Studio, name: str, *words: object) -> object:
        if name == "/job":
            while ask_there(studio, name, *words)["state"] != "done":
                time.sleep(0.1)
            clips = [path for path in server.outputs.glob("*.mp4") if str(words[0]) in path.name]
            assert len(clips) == 1
            clips[0].unlink()
        return ask_there(studio, name, *words)

    monkeypatch.setattr(remote.Studio, "_ask", removed)
    words = ["--prompt", "x", "--ref", str(picture), "--set", "steps=1", "--frames", "5"]
    assert ask(server.url, tmp_path / "clip.mp4", *words) == 1
    assert "The file of the clip is not there any more." in capsys.readouterr().err


def test_a_studio_that_tells_no_settings_leaves_one_file_beside_the_clip(picture: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "outputs", KINORA_METADATA="0") as silent:
        for _ in range(2):
            words = ["--prompt", "x", "--ref", str(picture), "--set", "steps=1", "--frames", "5"]
            assert ask(silent.url, tmp_path / "clip.mp4", *words) == 0
    assert sorted(path.name for path in tmp_path.glob("clip*")) == ["clip.json", "clip.mp4"]


def test_a_password_is_told_from_the_environment(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt", "a red circle", "--ref", str(picture), "--set", "steps=2", "--frames", "5"]
    with Server(tmp_path / "outputs", KINORA_PASSWORD="open sesame") as server:
        assert ask(server.url, tmp_path / "clip.mp4", *words) == 1
        assert "set KINORA_PASSWORD" in capsys.readouterr().err
        monkeypatch.setenv("KINORA_PASSWORD", "wrong")
        assert ask(server.url, tmp_path / "clip.mp4", *words) == 1
        assert "another password" in capsys.readouterr().err
        monkeypatch.setenv("KINORA_PASSWORD", "open sesame")
        assert ask(server.url, tmp_path / "clip.mp4", *words) == 0
        assert (tmp_path / "clip.mp4").is_file()


def test_a_password_of_ones_own_does_not_matter_to_a_studio_without_one(
    server: Server, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINORA_PASSWORD", "mine")
    assert ask(server.url, tmp_path / "clip.mp4", "--prompt", "x", "--ref", str(picture), "--set", "steps=1") == 0
