"""The force variant: what lists say of forces, and a run from a trained branch to a checkpoint that takes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.flashi2v.engine import cover
from engines.phantom_physics.checkpoint import SETTINGS, WEIGHTS, read_settings
from engines.phantom_physics.description import forces
from engines.phantom_physics.force import PointForce, Wind, felt_by
from engines.training.forces import as_numbers, controls, kind_of, place_in
from engines.training.recipes import phantom_force, phantom_physics
from engines.training.trainer import Trainer
from tests.training.tiny_physics_run import BUCKET, FORCES, small, write


def test_forces_are_read_by_the_names_of_the_published_tables() -> None:
    ranges = {"point": (1.0, 5.0), "wind": (2.0, 2.0)}
    point, wind = ({"path": "clip.mp4", "force": force} for force in FORCES.values())
    assert as_numbers(point, ranges, BUCKET) == [0, 0.5, 0.75, 270, 0.5]
    assert as_numbers(wind, ranges, BUCKET) == [1, 0.0, 0.0, 330, 0.5], "all alike are half as strong as can be"
    for wrong in ({}, {"force": None}, {"force": {"angle": 3}}, {"force": point["force"] | {"coordx": "left"}}):
        with pytest.raises(ValueError, match=r"^clip.mp4 has no force in the list: numbers for force, angle, coordx"):
            kind_of({"path": "/somewhere/clip.mp4", **wrong})


def test_a_push_stays_where_it_is_when_a_frame_is_cut() -> None:
    """A blob on a picture and the push on it come to the same place."""
    wide = {"width": 96, "height": 48, "coordx": 56.5, "coordy": 48 - 12.5}  # the middle of column 56, row 12
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[12, 56] = 255
    shown = cover(picture, width=BUCKET.width, height=BUCKET.height).sum(-1)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    x, y = place_in(BUCKET, wide)
    assert abs(x * BUCKET.width - (column + 0.5)) < 1 and abs((1 - y) * BUCKET.height - (row + 0.5)) < 1
    with pytest.raises(ValueError, match="outside of what is cut out"):
        place_in(BUCKET, wide | {"coordx": 10})


def test_a_batch_of_forces_is_what_the_engine_draws() -> None:
    size = {"width": 32, "height": 32, "frames": 9, "latent": (4, 4), "physics_side": 2}
    seen, felt = controls(torch.tensor([[0, 0.5, 0.75, 270, 0.25], [1, 0, 0, 330, 0.5]]), **size)
    for index, force in enumerate((PointForce(0.5, 0.75, 270, 0.25), Wind(330, 0.5))):
        for made, expected in zip((seen[index], felt[index]), felt_by(force, **size), strict=True):
            torch.testing.assert_close(made, expected)


def test_a_trained_branch_learns_to_feel_forces(tmp_path: Path) -> None:
    """From a branch without forces: the pictures' network stays, the embeddings move, the engine is told the kinds."""
    write(tmp_path)
    torch.manual_seed(0)
    plain = dataclasses.replace(small(phantom_physics.RECIPE, tmp_path), steps=1)
    first = Trainer(plain, phantom_physics.build(plain), tmp_path / "branch", workers=0)
    first.run()
    first.task.dataset().close()
    branch = tmp_path / "branch" / "export" / "phantom-physics" / WEIGHTS
    assert forces([branch]) == ()

    recipe = dataclasses.replace(small(phantom_force.RECIPE, tmp_path), steps=3, branch=str(branch))
    task = phantom_force.build(recipe)
    assert task.given(3, 9, torch.Generator()) == [1, 1, 1]
    assert torch.equal(task.branch.physics_latents.mean, first.task.branch.physics_latents.mean)
    batch = task.dataset()[0]
    assert batch["force"].shape == (2, 5) and set(batch["force"][:, 0].tolist()) <= {0.0, 1.0}
    before = {name: value.clone() for name, value in task.visual.state_dict().items()}
    Trainer(recipe, task, tmp_path / "force", workers=0).run()
    made = tmp_path / "force" / "export" / "phantom-physics"
    assert forces([made / WEIGHTS]) == ("point", "wind")
    assert read_settings(made / SETTINGS).force == {"kinds": ["point", "wind"]}
    task.dataset().close()
    assert task.branch.force["visual"].weight.any() and task.branch.force["physics"].weight.any()
    assert all(torch.equal(value, before[name]) for name, value in task.visual.state_dict().items())


def test_another_branch_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    plain = dataclasses.replace(small(phantom_physics.RECIPE, tmp_path), steps=1, physics_ffn_dim=32)
    task = phantom_physics.build(plain)
    task.export(tmp_path, {"branch": dict(task.branch.named_parameters())}, {})
    recipe = dataclasses.replace(
        small(phantom_force.RECIPE, tmp_path), branch=str(tmp_path / "phantom-physics" / WEIGHTS)
    )
    with pytest.raises(ValueError, match="is another branch than this recipe's: set its sizes"):
        phantom_force.build(recipe)
