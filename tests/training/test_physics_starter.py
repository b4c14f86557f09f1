"""The starter of Phantom-physics and its encoder: trained for a few steps, resumed, and used by the engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.evaluation.product import Product
from engines.loading.checkpoints import load, open_checkpoint
from engines.loading.store import ASSETS
from engines.memory.outlines import outlines
from engines.phantom_physics.keys import VIDEO_ENCODER, VIDEO_PREDICTOR, VISUAL
from engines.phantom_physics.latents import PhysicsSpace, encode, normalised
from engines.phantom_physics.spec import STARTER_FILE, models, starter
from engines.phantom_physics.surprise import surprise
from engines.training.latents import to_levels
from engines.training.physics_clips import training_scene
from engines.training.recipe import Recipe, Stage
from engines.training.recipes import phantom_physics_starter, physics_encoder, recipe_module
from engines.training.recipes.physics_encoder import draw_masks
from engines.training.trainer import Trainer
from engines.training.world import WorldConfig
from engines.training.world.physics import make_scene

SMALL = {"steps": 4, "warmup": 1, "bfloat16": False, "stages": (Stage(until=10**9, batch=2, world=WorldConfig()),)}
ALONE = {"start": "", "compiled": False}
TINY = {"patch_size": [1, 2, 2], "num_attention_heads": 1, "attention_head_dim": 64, "ffn_dim": 64, "num_layers": 2}
SPACE = PhysicsSpace(size=64, pool=1)


def train(recipe: Recipe, folder: Path, *, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(recipe, recipe_module(recipe.name).build(recipe), folder, workers=0)
    if resume:
        trainer.resume()
    trainer.run()
    return trainer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starter folder: the shipped files, and an encoder that was trained for four steps."""
    folder = tmp_path_factory.mktemp("starter") / "starter"
    folder.mkdir()
    for path in (ASSETS / "starter").iterdir():
        if path.name not in (STARTER_FILE, physics_encoder.FILE):
            (folder / path.name).symlink_to(path)
    recipe = dataclasses.replace(physics_encoder.RECIPE, **SMALL)
    train(recipe, folder.parent / "encoder")
    (folder.parent / "encoder" / "export" / physics_encoder.FILE).rename(folder / physics_encoder.FILE)
    return folder


@pytest.fixture(scope="module")
def recipe(files: Path) -> phantom_physics_starter.StarterRecipe:
    changes = {"files": str(files), "visual": TINY, "statistics_clips": 2, "alpha_ramp": 2, "alpha_limit": 1e9}
    return dataclasses.replace(phantom_physics_starter.RECIPE, **SMALL, **ALONE, **changes)


@pytest.fixture(scope="module")
def made(
    recipe: phantom_physics_starter.StarterRecipe, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trainer:
    """A run of four steps, its file among the starters."""
    trainer = train(recipe, tmp_path_factory.mktemp("run"))
    (files / STARTER_FILE).symlink_to(trainer.folder / "export" / STARTER_FILE)
    return trainer


def test_masks_share_out_all_tokens_and_the_future_is_what_comes_later() -> None:
    rng = torch.Generator().manual_seed(0)
    for future in (False, True):
        for _ in range(20):
            seen, hidden = draw_masks([17, 4, 4], rng, future=future)
            assert sorted([*seen[0].tolist(), *hidden[0].tolist()]) == list(range(272))
            assert seen.numel() >= 32 and hidden.numel() >= 48
            if future:
                assert seen.max() < hidden.min()
            else:  # the same places at all times
                assert set(hidden[0].tolist()) == {
                    place + 16 * n for place in hidden[0, :].tolist() if place < 16 for n in range(17)
                }


def test_hidden_tokens_are_not_looked_at_and_predictions_are_the_librarys(files: Path) -> None:
    network = load(open_checkpoint([files / physics_encoder.FILE]), VIDEO_PREDICTOR, dtype=torch.float32)
    rng = torch.Generator().manual_seed(1)
    video = torch.randn(1, 3, 8, 64, 64, generator=rng)
    seen, hidden = draw_masks([4, 4, 4], rng, future=True)
    features = network.seen(video, seen)
    changed = video.clone()
    changed[:, :, 2 * (int(seen.max()) // 16 + 1) :] += 1
    assert torch.equal(network.seen(changed, seen), features)
    assert not torch.allclose(network(changed)[:, seen[0]], network(video)[:, seen[0]]), "the whole clip is looked at"
    everything = torch.arange(64)[None]
    torch.testing.assert_close(network.seen(video, everything), network(video))
    padded = torch.zeros(1, 64, 64).scatter(1, seen[..., None].expand(-1, -1, 64), features)
    theirs = network.predictor(padded, [seen], [hidden]).last_hidden_state
    torch.testing.assert_close(network.predict(features, seen, hidden), theirs)


def test_an_encoder_resumes_exactly_its_teacher_included(tmp_path: Path) -> None:
    recipe = dataclasses.replace(physics_encoder.RECIPE, **SMALL)
    whole = train(recipe, tmp_path / "whole")
    train(dataclasses.replace(recipe, steps=2), tmp_path / "parts")
    parts = train(recipe, tmp_path / "parts", resume=True)
    for one, other in ((whole.networks, parts.networks), (whole.task.teacher, parts.task.teacher)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    student = whole.task.student.state_dict()
    moved = [name for name, value in whole.task.teacher.state_dict().items() if not torch.equal(value, student[name])]
    assert moved, "the teacher follows slowly"


def test_surprise_is_of_the_clip_and_of_nothing_else(files: Path) -> None:
    network = load(open_checkpoint([files / physics_encoder.FILE]), VIDEO_PREDICTOR, dtype=torch.float32)
    frames = make_scene("bounce", 1).frames()
    value = surprise(network, frames, SPACE)
    assert 0 < value < 2 and value == surprise(network, frames, SPACE)
    assert value != surprise(network, frames[::-1].copy(), SPACE)
    short = dataclasses.replace(SPACE, max_frames=16)  # more than one window
    assert 0 < surprise(network, frames, short) < 2
    for wrong in (frames[:3], frames[:6]):
        with pytest.raises(ValueError, match="odd number from 5"):
            surprise(network, wrong, SPACE)


def test_one_file_holds_what_the_engine_needs(made: Trainer, files: Path) -> None:
    opened = open_checkpoint([made.folder / "export" / STARTER_FILE])
    visual = load(opened, VISUAL, dtype=torch.float32)
    eyes = load(opened, VIDEO_ENCODER, dtype=torch.float32)
    assert visual.config.num_layers == 2 and eyes.config.hidden_size == physics_encoder.CONFIG["hidden_size"]
    told = outlines(starter(files), assets=files.parent)
    for role, network in (("transformer", visual), ("physics", made.task.branch), ("encoder", made.task.targets.eyes)):
        assert told[role].counted.whole.numbers == sum(p.numel() for p in network.parameters()), role
    taken = made.task.weights_of(made.folder / "export" / STARTER_FILE)
    for name, value in made.average.items():
        torch.testing.assert_close(taken[name], value, rtol=1e-2, atol=1e-3)
    assert made.figures["alpha"] > 0 and made.task.alpha.value == 1.0


def test_a_run_resumes_exactly(recipe: phantom_physics_starter.StarterRecipe, made: Trainer, tmp_path: Path) -> None:
    train(dataclasses.replace(recipe, steps=2), tmp_path)
    parts = train(recipe, tmp_path, resume=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(made.parameters, parts.parameters, strict=True))


def test_the_starter_is_in_the_list_where_its_file_is(made: Trainer, files: Path, tmp_path: Path) -> None:
    assert [model.name for model in models(files)] == ["starter", "5B", "5B-physics"]
    assert [model.name for model in models(tmp_path)] == ["5B", "5B-physics"]
    told = starter(files)
    assert (told.geometry.multiple, told.geometry.frame_stride) == (16, 4)
    defaults = {name: told.defaults[name] for name in ("width", "height", "frames")}
    assert not told.geometry.problems(**defaults)


def test_the_engine_makes_clips_of_it(made: Trainer, files: Path) -> None:
    product = Product("phantom-physics", model=starter(files), folder=files)
    scene = make_scene("bounce", 3)
    told = {"seed": 1, "frames": 9, "steps": 2}
    written = product.make(scene.caption, (), **told)
    given = product.make(scene.caption, (), clip=scene.frames()[:5], **told)
    alone = product.make(scene.caption, (), clip=scene.frames()[:5], physics_scale=0.0, **told)
    assert written.shape == given.shape == (9, 64, 64, 3)
    assert not np.array_equal(given, alone), "the branch says something after four steps"
    close = np.abs(given[0].astype(int) - scene.frames()[0]).mean()
    assert close < 8 < np.abs(given[-1].astype(int) - scene.frames()[8]).mean(), "what is given is kept"


@pytest.mark.parametrize("changes", [{"arm": "none"}, {"arm": "projection"}, {"frozen": True}])
def test_arms_of_the_experiment(
    recipe: phantom_physics_starter.StarterRecipe, made: Trainer, tmp_path: Path, changes: dict[str, object]
) -> None:
    base = str(made.folder / "export" / STARTER_FILE)
    trainer = train(dataclasses.replace(recipe, steps=2, base=base, **changes), tmp_path)
    before = load(open_checkpoint([Path(base)]), VISUAL, dtype=torch.float32).state_dict()
    still = [torch.equal(value, before[name]) for name, value in trainer.task.transformer.state_dict().items()]
    assert all(still) == bool(changes.get("frozen"))
    assert (trainer.task.branch is None) == (changes.get("arm") == "none")


def test_a_scene_of_training_is_never_one_that_is_held_out() -> None:
    from engines.evaluation.physics_starter import held_out

    shown = {training_scene(0, step, index).centres.tobytes() for step in range(20) for index in range(4)}
    assert not shown & {scene.centres.tobytes() for scene in held_out(40, "inside")}
    assert {training_scene(0, step, 0).name for step in range(40)} == {scene.name for scene in held_out(6, "inside")}


def test_many_clips_are_seen_at_once_as_each_alone(recipe: phantom_physics_starter.StarterRecipe) -> None:
    task = phantom_physics_starter.build(recipe)
    video, targets = task.dataset()[0]["video"], task.targets
    targets.measure(task.dataset, 2)
    whole, alone = targets.of(video, [0, 9])

    def seen(clip: torch.Tensor) -> torch.Tensor:
        return normalised(encode(targets.eyes, to_levels(clip), SPACE), targets.kept.mean, targets.kept.std)

    torch.testing.assert_close(whole, torch.stack([seen(clip) for clip in video]), atol=1e-4, rtol=1e-4)
    assert alone[0].shape[1] == 0
    torch.testing.assert_close(alone[1], seen(video[1, :, :9]), atol=1e-4, rtol=1e-4)
