"""FlashI2V's recipes on tiny networks: the objective, variants, exact resume, export, the full-scale dry run."""

import dataclasses
from pathlib import Path

import pytest
import torch

from engines.flashi2v.keys import FLASHI2V
from engines.loading.checkpoints import load, open_checkpoint
from engines.training import networks
from engines.training.__main__ import main
from engines.training.clipping import AdaptiveClip
from engines.training.latents import Blocks
from engines.training.prepare import fit_latents
from engines.training.recipe import Stage, with_settings
from engines.training.recipes import flashi2v, flashi2v_full, text_to_video, vae
from engines.training.shifted import draw_shifted_sigmas, dynamic_shift, shift_sigmas, shifted_input
from engines.training.tokens import train_tokenizer
from engines.training.trainer import Trainer
from engines.training.video_list import Bucket
from engines.training.world import WorldConfig

TINY = {"num_attention_heads": 1, "attention_head_dim": 16, "ffn_dim": 32, "num_layers": 1,
        "in_channels": 8, "out_channels": 8}  # fmt: skip
WORLD = WorldConfig(width=32, height=32, frames=5, two_subjects=0, photo_background=0)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as assets/starter is: latents, tokenizer, an (untrained) text-to-video base."""
    folder = tmp_path_factory.mktemp("start")
    fit_latents(Blocks(8, 4), 8, clips=12).save(folder / vae.CODE)
    train_tokenizer(vocabulary=600, captions=200).save_pretrained(folder / "tokenizer")
    recipe = dataclasses.replace(text_to_video.RECIPE, files=str(folder), start="", train_text=True, compiled=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "TRANSFORMER", networks.TRANSFORMER | TINY)
        task = text_to_video.build(recipe)
    weights = {name: network.state_dict() for name, network in task.networks().items()}
    weights["text_encoder"].pop("encoder.embed_tokens.weight")
    task.export(folder, weights, {})
    return folder


@pytest.fixture
def recipe(start: Path) -> flashi2v.FlashI2VRecipe:
    stage = Stage(until=10**9, batch=2, world=WORLD)
    return dataclasses.replace(
        flashi2v.RECIPE, steps=6, minutes=0.0, stages=(stage,), files=str(start), start=str(start), bfloat16=False,
        compiled=False, text_len=24,
    )  # fmt: skip


def train(recipe: flashi2v.FlashI2VRecipe, folder: Path, *, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(recipe, flashi2v.build(recipe), folder, workers=0)
    if resume:
        trainer.resume()
    trainer.run()
    return trainer


@pytest.mark.parametrize("variant", ["full", "concatenation", "shift"])
def test_every_variant_trains_its_own_paths_and_exports_what_the_engine_loads(
    recipe: flashi2v.FlashI2VRecipe, tmp_path: Path, variant: str
) -> None:
    trainer = train(dataclasses.replace(recipe, variant=variant), tmp_path)
    network = load(open_checkpoint([tmp_path / "export/flashi2v.safetensors"]), FLASHI2V, dtype=torch.float32)
    assert network.config.variant == variant and network.config.in_channels == TINY["in_channels"]
    shifted = network.learnable_proj[2].weight.any()
    guided = network.patch_embedding.fourier_embedding[1].weight.any()
    assert (bool(shifted), bool(guided)) == {
        "full": (True, True), "concatenation": (False, True), "shift": (True, False)
    }[variant]  # fmt: skip
    assert set(trainer.figures) == {"loss", "loss_first", "loss_later"}


def test_a_fresh_shift_is_the_first_frame_itself_and_is_trained(
    recipe: flashi2v.FlashI2VRecipe, tmp_path: Path
) -> None:
    first = torch.randn(2, TINY["in_channels"], 1, 4, 6, generator=torch.Generator().manual_seed(0))
    shift = flashi2v.build(recipe).transformer.learnable_proj.shift(first, 3)
    torch.testing.assert_close(shift, first.expand(-1, -1, 3, -1, -1))
    trained = train(recipe, tmp_path).networks["transformer"].learnable_proj.shift(first, 3)
    assert not torch.allclose(trained, shift)


def test_training_starts_from_the_base_and_resumes_exactly(recipe: flashi2v.FlashI2VRecipe, tmp_path: Path) -> None:
    base = load(open_checkpoint([Path(recipe.start) / "wan_t2v.safetensors"]), flashi2v_full.TRANSFORMER,
                dtype=torch.float32)  # fmt: skip
    fresh = flashi2v.build(recipe).transformer.state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in base.state_dict().items())
    whole = train(recipe, tmp_path / "whole")
    train(dataclasses.replace(recipe, steps=3, decay_share=0.0), tmp_path / "parts")
    halves = train(dataclasses.replace(recipe, decay_share=0.0), tmp_path / "parts", resume=True)
    unbroken = train(dataclasses.replace(recipe, decay_share=0.0), tmp_path / "unbroken")
    assert halves.step == whole.step == 6
    for (name, one), (_, other) in zip(halves.parameters, unbroken.parameters, strict=True):
        assert torch.equal(one, other), name


def test_a_wrong_variant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flashi2v", "--set", "variant=paste"]) == 2
    assert "full, concatenation or shift" in capsys.readouterr().err


def test_the_shift_is_in_the_input_alone() -> None:
    clean, noise, shift = torch.randn(3, 2, 4, 3, 4, 4).unbind(0)
    shift.requires_grad_(True)
    sigmas = torch.tensor([0.2, 0.9])
    seen, timesteps, velocity = shifted_input(clean, noise, sigmas, shift)
    level = sigmas.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(seen + shift - level * velocity, clean)
    assert timesteps.tolist() == pytest.approx([200, 900]) and not velocity.requires_grad


def test_noise_levels_rise_with_the_size_of_the_clip() -> None:
    assert dynamic_shift(60 * 104) == pytest.approx(2.0559, abs=1e-4)
    assert dynamic_shift(90 * 160) > dynamic_shift(60 * 104) > dynamic_shift(8 * 12) > 1
    assert shift_sigmas(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == pytest.approx([0, 0.75, 1])
    drawn = draw_shifted_sigmas(4000, torch.Generator().manual_seed(0), factor=2.0)
    assert drawn.median() == pytest.approx(2 / 3, abs=0.02)


def test_an_outlying_gradient_is_clipped_and_not_learned_from() -> None:
    clip = AdaptiveClip()
    assert clip.threshold == 1.0 and clip.scale(4.0) == 0.25 and clip.mean == 1.0
    for _ in range(500):
        assert clip.scale(0.5) == 1.0
    mean, threshold = clip.mean, clip.threshold
    assert mean == pytest.approx(0.5, abs=0.01) and mean < threshold < 1
    assert clip.scale(10.0) == pytest.approx(threshold / 10) and clip.mean == mean


def test_the_full_recipe_is_the_published_one_and_runs_dry(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = flashi2v_full.RECIPE
    assert (recipe.learning_rate, recipe.betas, recipe.eps) == (2e-5, (0.9, 0.999), 1e-15)
    assert (recipe.ema, recipe.weight_decay, recipe.adaptive_clip) == (0.9999, 0.01, True)
    assert recipe.buckets == (Bucket(),) and Bucket().fps == 16
    monkeypatch.setattr(flashi2v_full, "WAN_1_3B", flashi2v_full.WAN_1_3B | {"num_layers": 1})
    monkeypatch.setattr(flashi2v_full, "UMT5_XXL", flashi2v_full.UMT5_XXL | {"num_layers": 1})
    assert main(["flashi2v-1.3b", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "latents [1, 16, 13, 60, 104], 20,280 tokens" in out and "every parameter has a gradient: yes" in out
    assert main(["vae", "--dry-run"]) == 2


def test_unknown_settings_are_still_refused() -> None:
    with pytest.raises(ValueError, match="projection_kernel"):
        with_settings(flashi2v.RECIPE, ["no_such=1"])
