"""A batch of clips: every line checked first, one worker for all, what is there left alone, one failure one failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.errors import InvalidRequest, MediaError, Problem
from engines.types import EngineSpec
from studio import batch
from studio.command_line import main
from studio.presets import Presets
from tests.studio.test_doors import run


def write(folder: Path, *lines: Any) -> Path:
    file = folder / "batch.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def clip(prompt: str, **more: Any) -> dict[str, Any]:
    return {"engine": "phantom-wan", "prompt": prompt, "references": ["star.png"], "seed": 1} | more


@pytest.fixture
def here(tmp_path: Path, picture: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    picture.rename(folder / "star.png")
    return folder


def test_the_clips_of_a_batch_are_made_and_one_failure_is_one_failure(here: Path, tmp_path: Path) -> None:
    file = write(here, clip("slides"), "", clip("breaks"), clip("turns", out="turned.mp4"))
    made = tmp_path / "made"
    done = run("batch", str(file), "--out", str(made), "--device", "cpu", "--json", cwd=tmp_path)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [Path(answer["video"]).name for answer in answers if "video" in answer] == ["0001.mp4", "turned.mp4"]
    assert b"Line 3: Something went wrong." in done.stderr
    assert sorted(path.name for path in made.iterdir()) == [
        "0001.json", "0001.mp4", "0003.log", "turned.json", "turned.mp4"
    ]  # fmt: skip
    again = run("batch", str(file), "--out", str(made), "--device", "cpu", cwd=tmp_path)
    assert again.returncode == 1 and again.stdout == b""  # only what failed was tried once more


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here, clip("slides", frames=5), clip("turns", out="b.mp4"))
    (here / "b.mp4").touch()
    before = sorted(here.iterdir())
    assert main(["batch", str(file), "--out", str(here), "--dry-run", "--device", "cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("0001.mp4 is to be made: phantom-wan/starter, ") and "5 frames" in first
    assert second.startswith("b.mp4 is there: ")
    assert sorted(here.iterdir()) == before


def test_everything_that_is_wrong_is_said_at_once_with_its_line(here: Path) -> None:
    file = write(
        here,
        clip("good", out="a.mp4"),
        clip("same", out="A.mp4"),
        "not json",
        "[]",
        {"prompt": "x"},
        clip("x", engine="phantom-van"),
        clip("x", out="../up.mp4"),
        clip("x", out=7),
        clip("x", stepz=1),
        clip("x", references=["gone.png"]),
        clip("x", seed="many"),
    )
    with pytest.raises(InvalidRequest) as refused:
        batch.read(file, here)
    said = [problem.message for problem in refused.value.problems]
    assert [int(text.split()[1].rstrip(":")) for text in said] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert "Line 1 has the same name" in said[0] and "phantom-wan" in said[4] and "gone.png" in said[8]
    assert not any(str(here) in text for text in said)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "no clip"), (b"\xff\xfe\x00", "no text"), (b"{}\n" * 10_001, "too many"), (b" " * 10_000_001, "too long")],
)
def test_a_file_that_is_no_batch(here: Path, content: bytes, sentence: str) -> None:
    (here / "batch.jsonl").write_bytes(content)
    with pytest.raises((InvalidRequest, MediaError), match=sentence):
        batch.read(here / "batch.jsonl", here)


@pytest.mark.parametrize("name", ["gone.jsonl", "."])
def test_no_file_at_all(here: Path, name: str) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        batch.read(here / name, here)


def test_lines_end_where_json_says(here: Path) -> None:
    told = [json.dumps(clip(f"a red{mark}star"), ensure_ascii=False) for mark in "\u2028\u2029\x85"]
    file = here / "batch.jsonl"
    file.write_bytes("\r\n".join([*told, json.dumps(clip("the last"))]).encode())
    lines = batch.read(file, here)
    assert [line.number for line in lines] == [1, 2, 3, 4] and lines[3].request.prompt == "the last"


@pytest.mark.parametrize("name", ["\ud800.mp4", "星" * 80 + ".mp4", "n" * 227 + ".mp4"])
def test_names_that_no_file_can_have_are_refused_with_their_line(name: str, here: Path) -> None:
    with pytest.raises(InvalidRequest, match='Line 1: "out" must be a file name'):
        batch.read(write(here, clip("a", out=name)), here)


def test_every_line_without_its_model_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here, clip("a", model="1.3B"), clip("b"), clip("c", model="14B"))
    assert main(["batch", str(file), "--out", str(here), "--dry-run", "--json", "--device", "cpu"]) == 2
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [problem["message"].partition(":")[0] for problem in problems] == ["Line 1", "Line 3"]
    assert main(["batch", str(write(here, clip("b"))), "--out", str(here), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["line"], told["to_make"], told["request"]["prompt"]) == (1, True, "b")


def test_adapters_and_earlier_clips_are_named_as_at_the_other_doors(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "adapters"
    (kept / "wan").mkdir(parents=True)
    (kept / "wan" / "style.safetensors").write_bytes(b"no adapter")
    (here / "clip.latents.safetensors").write_bytes(b"no latents")
    seen: dict[str, Any] = {}

    def request(spec: EngineSpec, values: dict[str, Any]) -> None:
        seen.update(values)
        raise InvalidRequest([Problem("", "seen")])

    monkeypatch.setattr(batch, "build_request", request)
    told = {"adapters": ["wan/style.safetensors"], "continues": "clip.latents.safetensors"}
    file = write(here, {"engine": "pyramid-flow", "prompt": "x", **told})
    with pytest.raises(InvalidRequest, match="seen"):
        batch.read(file, here, Presets(tmp_path / "presets", adapters=kept))
    assert seen["adapters"] == [{"path": str(kept / "wan" / "style.safetensors")}]
    assert seen["continues"] == str(here / "clip.latents.safetensors")
