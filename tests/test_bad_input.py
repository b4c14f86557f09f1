"""Bad input, as strangers give it: one clear sentence, exit code 2, nothing written and nothing loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from engines.errors import InvalidRequest
from engines.registry import SPECS
from engines.validation import build_request

ROOT = Path(__file__).parents[1]
SPEC = SPECS["phantom-wan"]
ENGINE = ["generate", "phantom-wan"]
IMAGE = ["generate", "flashi2v", "--out=clip.mp4"]
GOOD = {"prompt": "A fox runs.", "references": ["good.png"], "width": 96, "height": 64, "frames": 5, "steps": 1}

# name -> (what differs from a good request, what the sentence must say). Files: see `files`.
REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "no reference": ({"references": []}, "Add a reference picture"),
    "five references": ({"references": ["good.png"] * 5}, "at most 4 reference pictures; you gave 5"),
    "missing picture": ({"references": ["none.png"]}, 'There is no picture "none.png"'),
    "text named .png": ({"references": ["text.png"]}, '"text.png" is not a picture'),
    "truncated picture": ({"references": ["truncated.jpg"]}, '"truncated.jpg" is damaged or incomplete'),
    "empty picture": ({"references": ["empty.png"]}, '"empty.png" is empty'),
    "30,000 pixels wide": ({"references": ["wide.png"]}, "30,000x20 pixels"),
    "animated GIF": ({"references": ["animated.gif"]}, "save one frame"),
    "CMYK": ({"references": ["cmyk.jpg"]}, "save it as RGB"),
    "1-pixel row": ({"references": ["row.png"]}, "500x1 pixels"),
    "1-pixel column": ({"references": ["column.png"]}, "1x500 pixels"),
    "folder as picture": ({"references": ["folder"]}, '"folder" is not a file'),
    "second picture bad": ({"references": ["good.png", "text.png"]}, '"text.png" is not a picture'),
    "empty prompt": ({"prompt": ""}, "Write a prompt"),
    "blank prompt": ({"prompt": " \t\n "}, "Write a prompt"),
    "20,000 characters": ({"prompt": "fox " * 5_000}, "20,000 characters long: shorten it to at most 2,000"),
    "control characters": ({"prompt": "A fox\x1b[31m runs."}, "control characters"),
    "size no multiple": ({"width": 100}, "multiples of 8, the nearest is 96x64"),
    "size too large": ({"width": 1280, "height": 720}, "for example 96x64, 64x64 or 64x96"),
    "size too small": ({"width": 16, "height": 16}, "at least 48 pixels"),
    "size zero": ({"width": 0}, "Width must be at least 16; you gave"),
    "frames between": ({"frames": 32}, "choose 29 or 33"),
    "too many frames": ({"frames": 100_000}, "this model makes 1 to 49"),
    "no frames": ({"frames": 0}, "Frames must be at least 1"),
    "seed too large": ({"seed": 2**32}, "Seed must be between -1 and 4,294,967,295"),
    "seed negative": ({"seed": -2}, "Seed must be between -1"),
    "seed no number": ({"seed": "lucky"}, 'Seed must be a whole number; you gave "lucky"'),
    "seed fraction": ({"seed": "1.5"}, "Seed must be a whole number"),
    "seed of 5,000 digits": ({"seed": "9" * 5_000}, "Seed must be a whole number"),
    "steps too many": ({"steps": 1_000}, "Steps must be between 1 and 200"),
    "guidance not finite": ({"image_guidance": "nan"}, "Picture guidance must be between 0 and 20"),
    "guidance infinite": ({"text_guidance": "inf"}, "Text guidance must be between 0 and 20"),
    "switch": ({"published_pictures": "perhaps"}, "must be true or false"),
    "unknown setting": ({"stepz": 5}, 'There is no setting "stepz": did you mean "steps"?'),
    "unknown model": ({"model": "2B"}, 'Model must be starter, 1.3B or 14B; you gave "2B"'),
    "several at once": ({"prompt": "", "frames": 32, "references": []}, "choose 29 or 33"),
}

# name -> (arguments that differ from a good call, what the sentence must say).
CALLS: dict[str, tuple[list[str], str]] = {
    "unknown engine": (["generate", "phantom", "--out", "clip.mp4"], "choose phantom-wan"),
    "image to video without a picture": ([*IMAGE, "--prompt=x"], "Add a picture"),
    "image to video with two": ([*IMAGE, "--prompt=x", "--ref=good.png", "--ref=good.png"], "at most 1 reference"),
    "image to video with a text": ([*IMAGE, "--prompt=x", "--ref=text.png"], '"text.png" is not a picture'),
    "image to video with a row": ([*IMAGE, "--prompt=x", "--ref=row.png"], "500x1 pixels"),
    "image to video cut out": (
        [*IMAGE, "--prompt=x", "--ref-cut=good.png"],
        'no setting "keep_background"',
    ),
    "image to video without words": ([*IMAGE, "--ref=good.png"], "Write a prompt"),
    "image to video too detailed": ([*IMAGE, "--prompt=x", "--set=detail=2"], "Picture detail must be between 0 and 1"),
    "picture as a setting": ([*IMAGE, "--prompt=x", "--set=picture=text.png"], '"text.png" is not a picture'),
    "part of no picture": (
        [*IMAGE, "--prompt=x", "--set=picture.position=0"],
        'no file for "picture.position"',
    ),
    "part out of bounds": ([*IMAGE, "--ref=good.png", "--set=picture.position=2"], 'has a "position" that cannot be'),
    "part of another engine": (["GOOD", "--set=references.1.position=0"], 'has no setting "position" in this engine'),
    "part of a third picture": (["GOOD", "--set=references.3.keep_background=no"], "There is no file for"),
    "part that is a path": ([*IMAGE, "--ref=good.png", "--set=picture.path=text.png"], "There is no file for"),
    "unknown part": ([*IMAGE, "--prompt=x", "--ref=good.png", "--set=picture.crop=1"], 'has no setting "crop"'),
    "no output": ([*ENGINE, "--prompt", "x"], "--out"),
    "no command": ([], "COMMAND"),
    "unknown flag": ([*ENGINE, "--out", "clip.mp4", "--colour"], "--colour"),
    "size no size": ([*ENGINE, "--out", "clip.mp4", "--size", "large"], "Write the size as width x height"),
    "size negative": ([*ENGINE, "--out", "clip.mp4", "--size", "-96x64"], "--size"),
    "setting without value": ([*ENGINE, "--out", "clip.mp4", "--set", "steps"], "--set as name=value"),
    "missing checkpoint": (["GOOD", "--model", "1.3B", "--size", "832x480"], "not on this machine"),
    "checkpoint path wrong": (["GOOD", "--weights", "transformer=none.safetensors"], '"none.safetensors"'),
    "checkpoint role wrong": (["GOOD", "--weights", "brain=foreign.safetensors"], "role is"),
    "checkpoint truncated": (["GOOD", "--weights", "transformer=truncated.safetensors"], "cut short"),
    "checkpoint empty": (["GOOD", "--weights", "transformer=empty.safetensors"], "is empty"),
    "checkpoint is a pointer": (["GOOD", "--weights", "transformer=pointer.safetensors"], "Git LFS"),
    "checkpoint is a text": (
        ["GOOD", "--weights", "transformer=text.safetensors"],
        "is truncated, damaged or no checkpoint",
    ),
    "checkpoint folder without one": (["GOOD", "--weights", "transformer=folder"], "no checkpoint"),
    "output no video": (["GOOD", "--out", "clip.avi"], "end the name"),
    "output folder missing": (["GOOD", "--out", "nowhere/clip.mp4"], "nowhere"),
    "output folder missing, whole path": (["GOOD", "--out", "/tmp/nowhere/clip.mp4"], "nowhere"),
    "output is a folder": (["GOOD", "--out", "folder.mp4"], "is a folder"),
    "output below a file": (["GOOD", "--out", "good.png/clip.mp4"], "good.png"),
    "output not writable": (["GOOD", "--out", "/proc/clip.mp4"], "folder"),
}


@dataclass(frozen=True)
class Answer:
    """What one call said: torch is whether anything had imported it by then."""

    code: int
    stdout: str
    stderr: str
    torch: bool


def make_files(folder: Path) -> None:
    """Every file that the cases name."""
    fox = Image.effect_noise((64, 64), 60).convert("RGB")
    fox.save(folder / "good.png")
    fox.save(folder / "whole.jpg")
    (folder / "truncated.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:900])
    (folder / "text.png").write_text("I am no picture.\n")
    (folder / "empty.png").touch()
    Image.new("1", (30_000, 20)).save(folder / "wide.png")
    fox.save(folder / "animated.gif", save_all=True, append_images=[fox.rotate(90)])
    fox.convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("RGB", (500, 1)).save(folder / "row.png")
    Image.new("RGB", (1, 500)).save(folder / "column.png")
    (folder / "folder").mkdir()
    (folder / "folder.mp4").mkdir()
    # A whole file of another family: it has CLIP's names, not a transformer's.
    foreign = {"visual.cls_embedding": (1, 1, 8), "visual.patch_embedding.weight": (8, 3, 2, 2), "log_scale": (1,)}
    save_file({name: np.zeros(shape, np.float32) for name, shape in foreign.items()}, folder / "foreign.safetensors")
    (folder / "truncated.safetensors").write_bytes((folder / "foreign.safetensors").read_bytes()[:-20])
    (folder / "empty.safetensors").touch()
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    (folder / "text.safetensors").write_text("I am no checkpoint, but long enough to look like one.\n")


def arguments(values: dict[str, Any], *, out: str = "clip.mp4") -> list[str]:
    """The command line that asks for `values`."""
    given = [*ENGINE, f"--out={out}"]
    for name, value in values.items():
        if name == "references":
            given += [f"--ref={path}" for path in value]
        elif name == "prompt":
            given.append(f"--prompt={value}")
        else:
            given.append(f"--set={name}={value}")
    return given


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad_input")
    make_files(path)
    return path


def environment(folder: Path) -> dict[str, str]:
    """A machine with no downloaded model and no network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KINORA_", "HF_"))}
    here = {"HF_HOME": str(folder / "folder"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return kept | here


DRIVER = """
import contextlib, io, json, sys
from studio.command_line import main
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    print(json.dumps([code, out.getvalue(), err.getvalue(), "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, Answer]:
    """The answer to every case, all from one process: starting Python is what takes the time."""
    calls = {name: arguments(GOOD | values) for name, (values, _) in REQUESTS.items()}
    for name, (given, _) in CALLS.items():
        calls[name] = [*arguments(GOOD), *given[1:]] if given[:1] == ["GOOD"] else given
    before = listing(folder)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(list(calls.values())),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert listing(folder) == before, "a refused request has written something"
    assert done.stderr == "", "something spoke past the command line"
    return {name: Answer(*json.loads(line)) for name, line in zip(calls, done.stdout.splitlines(), strict=True)}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check_sentence(text: str, words: str, folder: Path) -> None:
    assert words in text
    assert text.endswith((".\n", "?\n"))
    assert text.count("\n") == 1, "one line"
    assert len(text) < 500
    for place in (str(folder), str(ROOT), "Traceback", "Error:", "/tmp"):
        assert place not in text


@pytest.mark.parametrize("name", [*REQUESTS, *CALLS])
def test_the_command_line_answers_in_one_sentence(name: str, answers: dict[str, Answer], folder: Path) -> None:
    answer = answers[name]
    assert answer.code == 2
    assert answer.stdout == ""
    assert not answer.torch, "torch was imported to refuse this"
    check_sentence(answer.stderr, (REQUESTS | CALLS)[name][1], folder)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_page_and_the_api_get_the_same_sentence(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Answer]
) -> None:
    monkeypatch.chdir(folder)
    values = GOOD | REQUESTS[name][0]
    values["references"] = [{"path": path} for path in values["references"]]
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPEC, values)
    check_sentence(f"{caught.value}\n", REQUESTS[name][1], folder)
    assert all(problem.field in values for problem in caught.value.problems)
    # A number that is none arrives as text on the command line, and is quoted there.
    assert f"{caught.value}\n".replace('"', "") == answers[name].stderr.replace('"', "")


def run(given: list[str], folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "studio", *given]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=120, **more
    )


@pytest.fixture
def untouched(folder: Path) -> Iterator[None]:
    before = listing(folder)
    yield
    assert listing(folder) == before


@pytest.mark.usefixtures("untouched")
def test_the_real_command_ends_with_2(folder: Path) -> None:
    done = run(arguments(GOOD | {"references": ["text.png"]}), folder)
    assert (done.returncode, done.stdout) == (2, "")
    check_sentence(done.stderr, "is not a picture", folder)


@pytest.mark.usefixtures("untouched")
def test_json_carries_the_problems_by_field(folder: Path) -> None:
    done = run([*arguments(GOOD | {"references": [], "frames": 32}), "--json"], folder)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (2, "InvalidRequest")
    assert {problem["field"] for problem in error["problems"]} == {"references", "frames"}


@pytest.mark.usefixtures("untouched")
@pytest.mark.skipif(not (ROOT / "assets/starter/wan_vae.safetensors").is_file(), reason="the starter model is not here")
def test_a_checkpoint_of_another_family_is_refused_by_its_keys(folder: Path) -> None:
    done = run([*arguments(GOOD), "--weights", "transformer=foreign.safetensors", "--device", "cpu"], folder)
    assert (done.returncode, done.stdout) == (2, "")
    check_sentence(done.stderr.splitlines(keepends=True)[-1], "foreign.safetensors is not", folder)
