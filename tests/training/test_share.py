"""A run shared by two processes has the numbers of one: gradients, losses, weights, alpha; and who shares what."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engines.training.recipes.phantom_physics import RECIPE
from engines.training.share import ALONE, Share, joined
from engines.training.trainer import Trainer
from tests.studio.server import ROOT
from tests.training import tiny_physics_run


class Third(Share):
    """The second of three, of whom nothing is asked but to divide."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.size = 1, 3


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(600)  # two processes that wait for each other, on a machine of few cores
def test_two_gloo_processes_train_to_the_numbers_of_one(tmp_path: Path) -> None:
    """A run of six steps that was stopped after three and resumed, by one process and by two."""
    start = tmp_path / "start"
    start.mkdir()
    tiny_physics_run.write(start)
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.training.tiny_physics_run"]
    both = subprocess.Popen(
        [sys.executable, "-m", *words, str(start), str(tmp_path / "two")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        tiny_physics_run.stopped_and_resumed(tiny_physics_run.small(RECIPE, start), tmp_path / "one")
        said, _ = both.communicate(timeout=500)
    finally:
        both.kill()
    assert both.returncode == 0, said[-3000:]
    alone, shared = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in alone] == [row["step"] for row in shared] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(alone, shared, strict=True):
        for name in ("loss", "loss_visual", "loss_physics", "alpha", "physics_norm", "rate"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4, abs=1e-6), name
    mine, theirs = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-6)  # weights, and their averages


def test_rows_are_dealt_and_nobody_else_is_asked_alone() -> None:
    share, batch = Third(), torch.arange(6)
    assert share.rows(batch).tolist() == [2, 3] and share.rows([1, 2, 3]) == [2] and share.whole(2) == 6
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes: choose a multiple"):
        share.rows(torch.arange(4))
    assert torch.equal(ALONE.rows(batch), batch) and ALONE.total(batch) is batch
    assert ALONE.totals({"loss": 2.0}) == {"loss": 2.0} and ALONE.sum(3) == 3 and ALONE.first
    assert joined("cpu") is ALONE


def test_a_run_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    class Plain:
        def networks(self) -> dict[str, torch.nn.Module]:
            return {"one": torch.nn.Linear(2, 2)}

    recipe, task = dataclasses.replace(RECIPE, bfloat16=False, batch=4), Plain()
    with pytest.raises(ValueError, match="trains in one process"):
        Trainer(recipe, task, tmp_path, share=Third())
    task.share = ALONE
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes"):
        Trainer(recipe, task, tmp_path, share=Third())
