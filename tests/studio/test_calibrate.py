"""`calibrate` through a real worker: the built-in model's own file is measured, on a copy of it."""

import json
import shutil
from pathlib import Path

import pytest

from engines.loading.store import ASSETS
from engines.sampling import calibration
from studio import one_clip
from studio.command_line import main


def test_a_model_is_calibrated_from_the_command_line(
    tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker of its own is started, which imports torch: that is what takes the time."""
    file = Path(shutil.copy(ASSETS / "starter" / "wan_t2v.safetensors", tmp_path))
    words = ["--prompt", "a red circle slides", "--ref", str(picture), "--size", "64x64", "--frames", "5"]
    assert main(["calibrate", "phantom-wan", *words, "--set", "steps=8", "--weights", f"transformer={file}"]) == 0
    said = capfd.readouterr()
    assert said.out.startswith("wan_t2v.calibration.json is made") and "Step 8 of 8." in said.err
    assert len(calibration.read([file])) == 8
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".png") == [
        "wan_t2v.calibration.json",
        "wan_t2v.safetensors",
    ]


def test_a_clip_whose_model_is_not_calibrated_is_refused_before_a_worker_starts(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(one_clip, "WORKER", ("false",))
    words = ["--prompt", "a star", "--ref", str(picture), "--set", "step_cache=calibrated"]
    assert main(["generate", "phantom-wan", *words, "--out", str(tmp_path / "clip.mp4")]) == 1
    assert "wan_t2v.safetensors has no calibration for the step cache." in capsys.readouterr().err
    asked = {"engine": "phantom-wan", "prompt": "a star", "references": [str(picture)], "step_cache": "calibrated"}
    (tmp_path / "clips.jsonl").write_text(json.dumps(asked))
    assert main(["batch", str(tmp_path / "clips.jsonl"), "--out", str(tmp_path), "--dry-run"]) == 2
    assert "Line 1: wan_t2v.safetensors has no calibration" in capsys.readouterr().err


def test_what_cannot_be_calibrated_is_refused_in_a_sentence(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "pyramid-flow", "--prompt", "a star"]) == 2
    assert "has no calibrated step cache" in capsys.readouterr().err
    assert main(["calibrate", "phantom-wan", "--prompt", "a star", "--ref", str(picture), "--set", "steps=0"]) == 2
    assert "Steps must be between" in capsys.readouterr().err
