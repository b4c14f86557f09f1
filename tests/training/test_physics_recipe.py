"""The physics recipe on tiny networks of the published kinds: end to end, exact resume, its checkpoint, the dry run."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics.checkpoint import SETTINGS, WEIGHTS, architecture, read_settings
from engines.training.__main__ import main
from engines.training.physics_branch import build_branch
from engines.training.recipes import phantom_physics
from engines.training.recipes.phantom_physics import RECIPE, PhysicsRecipe
from engines.training.trainer import Trainer
from tests.engines import tiny_physics
from tests.training import tiny_physics_run
from tests.training.tiny_physics_run import run, small, stopped_and_resumed


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> PhysicsRecipe:
    """Tiny networks of Wan 2.2's kind, two simulated clips, a recipe over them."""
    folder = tmp_path_factory.mktemp("start")
    tiny_physics_run.write(folder)
    return small(RECIPE, folder)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_ends_in_a_checkpoint_that_the_engine_reads(recipe: PhysicsRecipe, tmp_path: Path) -> None:
    trainer = run(recipe, tmp_path)
    folder = tmp_path / "export" / "phantom-physics"
    settings = read_settings(folder / SETTINGS)
    assert settings.variant == "mirror" and settings.training["steps"] == 6 and settings.unknown == []
    assert (
        settings.base_sha256 == hashlib.sha256(Path(recipe.start, "transformer.safetensors").read_bytes()).hexdigest()
    )
    assert (settings.space.size, settings.encoder.hidden_size) == (64, tiny_physics.CHANNELS)
    branch = load(open_checkpoint([folder / WEIGHTS]), architecture(settings), dtype=torch.float32)
    assert torch.equal(branch.physics_latents.mean, trainer.task.branch.physics_latents.mean)
    assert branch.physics_latents.mean.any() and not torch.equal(branch.physics_latents.std, torch.ones(24))
    assert branch.proj_out.weight.any() and branch.blocks[0].coupling.vis_attn.o.weight.any()
    branch.join(tiny_physics.visual())
    names = {name for name, _ in trainer.parameters}
    assert all(name.startswith("branch.") for name in names) and "branch.physics_latents.mean" not in names
    assert set(trainer.figures) == {"loss", "loss_visual", "loss_physics", "alpha", "physics_norm", "resets"}


def test_frozen_networks_stay_frozen(recipe: PhysicsRecipe, tmp_path: Path) -> None:
    task = phantom_physics.build(recipe)
    frozen = (task.visual, task.vae, task.text_encoder, task.eyes)
    before = [{name: value.clone() for name, value in network.state_dict().items()} for network in frozen]
    Trainer(recipe, task, tmp_path, workers=0).run()
    task.dataset().close()
    for network, kept in zip(frozen, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())


def test_alpha_and_weights_go_on_exactly_where_they_stopped(recipe: PhysicsRecipe, tmp_path: Path) -> None:
    """P7 in a whole run: the same values of alpha, and the same bits, as a run that was never interrupted."""
    whole = run(recipe, tmp_path / "whole")
    parts = stopped_and_resumed(recipe, tmp_path / "parts")
    for (name, one), (_, other) in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.equal(one, other), name
    assert whole.task.alpha == parts.task.alpha and whole.task.alpha.value == 1.0
    assert [row["loss_visual"] for row in rows(tmp_path / "whole")][:3] == [
        row["loss_visual"] for row in rows(tmp_path / "parts")
    ][:3]


def test_a_large_gradient_takes_alpha_back(recipe: PhysicsRecipe, tmp_path: Path) -> None:
    trainer = run(dataclasses.replace(recipe, alpha_limit=1e-9), tmp_path)
    # The branch's own gradient is nothing only as long as alpha is 0 and its couplings are silent.
    assert trainer.task.alpha.resets >= 1 and trainer.task.alpha.value < 1


def test_the_full_recipe_runs_dry(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAN22_5B", "UMT5_XXL"):
        monkeypatch.setattr(phantom_physics, name, getattr(phantom_physics, name) | {"num_layers": 1})
    monkeypatch.setattr(phantom_physics, "VJEPA2_L", phantom_physics.VJEPA2_L | {"num_hidden_layers": 1})
    assert main(["phantom-physics", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "latents [1, 48, 31, 30, 52], 12,090 tokens; physics [1, 1024, 61, 8, 8], 3,904 tokens" in out
    assert "parameters without a gradient: none" in out and "H100-hours" in out
    assert "couplings 75,534,336" in out  # a thirtieth of the full variant's


@pytest.mark.parametrize(
    ("sizes", "branch", "couplings"),
    [
        ((3072, 14336, 24), 5_004_900_352, 2_266_030_080),
        ((1536, 7168, 12), 1_256_742_400, 1_274_849_280),
        ((1024, 4096, 8), 519_041_024, 1_007_370_240),
    ],
)
def test_the_variants_have_the_sizes_of_the_design(sizes: tuple[int, int, int], branch: int, couplings: int) -> None:
    names = ("physics_dim", "physics_ffn_dim", "physics_num_heads")
    recipe = dataclasses.replace(RECIPE, **dict(zip(names, sizes, strict=True)))
    with torch.device("meta"):
        made = build_branch(recipe, SimpleNamespace(**phantom_physics.WAN22_5B), channels=1024)
    counted = {name: p.numel() for name, p in made.named_parameters() if p.requires_grad}
    assert sum(size for name, size in counted.items() if ".coupling." in name) == couplings
    assert sum(counted.values()) - couplings == branch
