"""A run shared by two processes has the numbers of one: gradients, losses, weights, alpha; and who shares what."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
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


def free_port() -> str:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Third(Share):
    """The second of three, of whom nothing is asked but to divide."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.size = 1, 3


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.timeout(600)  # two processes that wait for each other, on a machine of few cores
def test_two_gloo_processes_train_to_the_numbers_of_one(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    tiny_physics_run.write(tmp_path / "start")
    words = [sys.executable, "-m", "tests.training.tiny_physics_run", str(tmp_path / "start"), str(tmp_path / "two")]
    # What `accelerate launch --cpu --num_processes 2` sets for each of its processes.
    told = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    logs = [(tmp_path / f"{rank}.log").open("w+") for rank in range(2)]
    members = [
        subprocess.Popen(
            words, cwd=ROOT, env=told | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=log, stderr=log
        )
        for rank, log in enumerate(logs)
    ]
    try:
        one = tiny_physics_run.run(tiny_physics_run.small(RECIPE, tmp_path / "start"), tmp_path / "one")
        ends = [member.wait(timeout=500) for member in members]
    finally:
        for member, log in zip(members, logs, strict=True):
            member.kill()
            member.wait()
            log.close()
    assert ends == [0, 0], "\n".join((tmp_path / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    alone, shared = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in alone] == [row["step"] for row in shared] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(alone, shared, strict=True):
        for name in ("loss", "loss_visual", "loss_physics", "alpha", "physics_norm", "rate"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4, abs=1e-6), name
    weights = load_file(tmp_path / "two" / "checkpoint.safetensors")
    apart = sum(float((weights[name] - value).square().sum()) for name, value in one.parameters)
    moved = sum(float(value.square().sum()) for _, value in one.parameters)
    assert (apart / moved) ** 0.5 < 1e-3, "Adam makes much of gradients near nothing, no more"


def test_rows_are_dealt_and_nobody_else_is_asked_alone() -> None:
    share, batch = Third(), torch.arange(6)
    assert share.rows(batch).tolist() == [2, 3] and share.rows([1, 2, 3]) == [2] and share.whole(2) == 6
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes: choose a multiple"):
        share.rows(torch.arange(4))
    assert torch.equal(ALONE.rows(batch), batch) and ALONE.total(batch) is batch
    assert ALONE.totals({"loss": 2.0}) == {"loss": 2.0} and ALONE.same(3) == 3 and ALONE.first
    assert joined("cpu") is ALONE


def test_a_recipe_for_one_process_refuses_several(tmp_path: Path) -> None:
    class Plain:
        def networks(self) -> dict[str, torch.nn.Module]:
            return {"one": torch.nn.Linear(2, 2)}

    with pytest.raises(ValueError, match="trains in one process"):
        Trainer(dataclasses.replace(RECIPE, bfloat16=False), Plain(), tmp_path, share=Third())
