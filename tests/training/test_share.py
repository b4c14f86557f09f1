"""A run of two processes has the numbers of one, by rows or by batches of their own; and who shares what."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engines.training.__main__ import main
from engines.training.recipes.phantom_physics import RECIPE
from engines.training.share import ALONE, Batches, Share, joined
from engines.training.trainer import Trainer
from tests.studio.server import ROOT
from tests.training import tiny_batches_run, tiny_physics_run


class Third(Share):
    """The second of three, of whom nothing is asked but to divide."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.size = 1, 3


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@contextlib.contextmanager
def by_two(module: str, arguments: list[str]) -> Iterator[None]:
    """Two processes of a module, which must have ended well when what is done meanwhile is done."""
    words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", module]
    both = subprocess.Popen(
        [sys.executable, "-m", *words, *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield
        said, _ = both.communicate(timeout=500)
    finally:
        both.kill()
    assert both.returncode == 0, said[-3000:]


@pytest.mark.timeout(600)  # two processes that wait for each other, on a machine of few cores
def test_two_gloo_processes_train_to_the_numbers_of_one(tmp_path: Path) -> None:
    """A run of six steps that was stopped after three and resumed, by one process and by two."""
    start = tmp_path / "start"
    start.mkdir()
    tiny_physics_run.write(start)
    arguments = [str(start), str(tmp_path / "two")]
    with by_two("tests.training.tiny_physics_run", arguments):
        tiny_physics_run.stopped_and_resumed(tiny_physics_run.small(RECIPE, start), tmp_path / "one")
    alone, shared = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in alone] == [row["step"] for row in shared] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(alone, shared, strict=True):
        for name in ("loss", "loss_visual", "loss_physics", "alpha", "physics_norm", "rate"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4, abs=1e-6), name
    mine, theirs = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-6)  # weights, and their averages


@pytest.mark.timeout(600)
def test_two_processes_with_batches_of_their_own_learn_from_both(tmp_path: Path) -> None:
    """The same weights in both, those of one process with both batches; stopped after half of the steps and resumed."""
    seeds = [tiny_batches_run.RECIPE.seed, tiny_batches_run.RECIPE.seed + 1]
    with by_two("tests.training.tiny_batches_run", [str(tmp_path / "two")]):
        alone = tiny_batches_run.run(tmp_path / "one", seeds, steps=6)
    first, second = (torch.load(tmp_path / f"two/weights{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, dict(alone.networks.state_dict()))
    assert all("of_seed_7" in row and "of_seed_8" not in row for row in rows(tmp_path / "two"))


def test_processes_with_batches_of_their_own_have_seeds_of_their_own() -> None:
    share, batch = Batches(), {"rows": torch.arange(6)}
    share.rank, share.size = 1, 3
    assert share.seed(5) == 6 and Third().seed(5) == ALONE.seed(5) == 5
    assert torch.equal(share.batch(batch)["rows"], batch["rows"])


def test_a_recipe_of_many_is_not_started_by_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["all"]) == 2 and "all trains in one process" in capsys.readouterr().err


def test_rows_are_dealt_and_nobody_else_is_asked_alone() -> None:
    share, batch = Third(), torch.arange(6)
    assert share.rows(batch).tolist() == [2, 3] and share.rows([1, 2, 3]) == [2] and share.whole(2) == 6
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes: choose a multiple"):
        share.rows(torch.arange(4))
    assert torch.equal(ALONE.rows(batch), batch) and ALONE.total(batch) is batch
    assert ALONE.totals({"loss": 2.0}) == {"loss": 2.0} and ALONE.sum(3) == 3 and ALONE.first
    assert joined("cpu") is ALONE


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    class Plain:
        def networks(self) -> dict[str, torch.nn.Module]:
            return {"one": torch.nn.Linear(2, 2)}

    recipe, task = dataclasses.replace(RECIPE, bfloat16=False, batch=4), Plain()
    with pytest.raises(ValueError, match="batch of 4 cannot be shared by 3 processes"):
        Trainer(recipe, task, tmp_path, share=Third())
