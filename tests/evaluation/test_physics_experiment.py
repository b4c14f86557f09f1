"""The experiment of the physics branch, tiny: trained, measured, compared, and gone on with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.evaluation import physics_experiment
from engines.evaluation.__main__ import main
from engines.evaluation.physics_experiment import ARMS, COMPARED, IN_WORDS, Run, difference, widened
from engines.loading.store import ASSETS
from engines.training.files import read_facts
from engines.training.recipes import phantom_physics_starter, physics_encoder
from engines.training.trainer import Trainer
from tests.training.test_physics_starter import ALONE, SMALL, TINY


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter folder with a fresh encoder."""
    folder = tmp_path_factory.mktemp("files")
    for path in (ASSETS / "starter").iterdir():
        if path.name != physics_encoder.FILE:
            (folder / path.name).symlink_to(path)
    torch.manual_seed(0)
    recipe = dataclasses.replace(physics_encoder.RECIPE, **SMALL)
    Trainer(recipe, physics_encoder.build(recipe), folder / "run", workers=0).export()
    (folder / "run" / "export" / physics_encoder.FILE).rename(folder / physics_encoder.FILE)
    return folder


def test_one_command_trains_measures_and_compares_and_goes_on(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = dataclasses.replace(phantom_physics_starter.RECIPE, **SMALL, **ALONE, visual=TINY, statistics_clips=2)
    monkeypatch.setattr(physics_experiment, "RECIPE", small)
    monkeypatch.setattr(physics_experiment, "SEEDS", (0,))
    monkeypatch.setattr(physics_experiment, "WORKERS", 0)
    monkeypatch.setattr("engines.evaluation.physics_predictor.STEPS", 1)
    told = ["physics-experiment", "--folder", str(files), "--runs", str(tmp_path / "runs"), "--count", "1"]
    told += ["--out", str(tmp_path / "found.json"), "--set", "steps=3"]
    assert main(told) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [run["arm"] for run in found["runs"]] == list(ARMS)
    assert list(found["differences"]) == [
        f"{one} − {other}, {words}" for words in IN_WORDS.values() for one, other in COMPARED
    ]
    assert (tmp_path / "found.svg").stat().st_size > 1000 and "law residual" in capsys.readouterr().out
    frozen = read_facts(Run("B, base frozen", 0, tmp_path / "runs").file)["recipe"]
    assert frozen["step"] == 1 and frozen["recipe"]["frozen"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert main(told) == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert after == before, "what is done is not done again"
    capsys.readouterr()
    assert main([*told, "--set", "seed=3", "--set", "arm=none"]) == 2
    assert "arm and seed cannot be set" in capsys.readouterr().err


def test_the_widened_network_has_the_parameters_of_both_branches(files: Path) -> None:
    recipe = dataclasses.replace(phantom_physics_starter.RECIPE, files=str(files), **ALONE)

    def count(**changes: object) -> int:
        networks = phantom_physics_starter.build(dataclasses.replace(recipe, **changes)).networks()
        return sum(p.numel() for net in networks.values() for p in net.parameters() if p.requires_grad)

    both, wide = count(), count(arm="none", visual=widened(recipe))
    assert abs(wide / both - 1) < 0.002


def test_every_arm_begins_with_the_clips_of_the_base(files: Path) -> None:
    recipe = dataclasses.replace(phantom_physics_starter.RECIPE, files=str(files), visual=TINY, **ALONE)
    torch.manual_seed(0)
    base = phantom_physics_starter.build(dataclasses.replace(recipe, arm="none")).transformer.eval()
    torch.nn.init.normal_(base.proj_out.weight)
    wide = phantom_physics_starter.widened(base, 100)
    assert wide.config.ffn_dim == 100 and wide.blocks[0].ffn.net[2].in_features == 100
    seen = {"hidden_states": torch.randn(1, 48, 2, 4, 4), "encoder_hidden_states": torch.randn(1, 64, 128)}
    told = {**seen, "timestep": torch.tensor([500.0]), "return_dict": False}
    with torch.no_grad():
        torch.testing.assert_close(wide(**told)[0], base(**told)[0], atol=1e-5, rtol=1e-5)


def test_a_difference_is_paired_and_its_interval_is_of_chance() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(5, 3, 60)  # clips differ far more than arms
    other = hard + rng.normal(0, 0.05, (2, 60))
    found = difference((other - 0.2).tolist(), other.tolist())
    assert found["mean"] == pytest.approx(-0.2) and found["low"] == pytest.approx(-0.2)
    same = difference((hard + rng.normal(0, 0.5, (2, 60))).tolist(), (hard + rng.normal(0, 0.5, (2, 60))).tolist())
    assert same["low"] < 0 < same["high"] and same["high"] - same["low"] < 0.6
    gaps = difference([[np.nan, 1.0, 2.0]], [[1.0, np.nan, 1.5]])
    assert gaps["clips"] == 1 and gaps["mean"] == 0.5
