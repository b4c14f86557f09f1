"""Physics checkpoints: round trip to the bit, every key accounted for, settings of other versions; drawn forces."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint
from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics.checkpoint import (
    SETTINGS,
    WEIGHTS,
    PhysicsSettings,
    architecture,
    describe,
    read_settings,
    write_folder,
)
from engines.phantom_physics.force import PointForce, Wind, control_video, felt_by, in_cells
from engines.phantom_physics.keys import BRANCH, VISUAL, native_name
from engines.phantom_physics.network import PhysicsBranch
from tests.engines import tiny_physics

PUBLISHED = Path(__file__).parents[1] / "manifests" / "files"
ODD = {"coupling_layers": [1], "coupling_rope": "none", "num_attention_heads": 4, "attention_head_dim": 8}


def written(folder: Path, branch: PhysicsBranch, **told: Any) -> PhysicsSettings:
    settings = describe(branch)
    write_folder(folder, branch.state_dict(), settings, dtype=None, **told)
    return settings


def loaded(folder: Path) -> PhysicsBranch:
    kind = architecture(read_settings(folder / SETTINGS))
    return load(open_checkpoint([folder / WEIGHTS]), kind, dtype=torch.float32)


@pytest.mark.parametrize("changes", [{}, ODD, {"takes_force": True}, {"statistics": False}])
def test_a_checkpoint_comes_back_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    """P13."""
    branch = tiny_physics.spoken(**changes)
    settings = written(tmp_path, branch)
    again = loaded(tmp_path)
    assert read_settings(tmp_path / SETTINGS) == settings
    own, other = branch.state_dict(), again.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    told = ("visual_width", "coupling_layers", "coupling_rope", "coupling_head_dim", "num_attention_heads",
            "takes_force", "statistics", "in_channels", "ffn_dim", "num_layers")  # fmt: skip
    for name in told:
        value, expected = again.config[name], branch.config[name]
        assert (tuple(value) if isinstance(value, list | tuple) else value) == (
            tuple(expected) if isinstance(expected, list | tuple) else expected
        )


def test_settings_that_make_the_branch_too_narrow_say_so(tmp_path: Path) -> None:
    """P14, through a file: what the network says of itself is not replaced by a general sentence."""
    written(tmp_path, tiny_physics.spoken())
    text = (tmp_path / SETTINGS).read_text()
    (tmp_path / SETTINGS).write_text(text.replace('"physics_num_heads": 2', '"physics_num_heads": 3'))
    with pytest.raises(IncompatibleCheckpoint, match="a width of 32 cannot be shared by 3 heads"):
        loaded(tmp_path)
    (tmp_path / SETTINGS).write_text(text.replace('"physics_dim": 32', '"physics_dim": 16'))
    with pytest.raises(IncompatibleCheckpoint, match="width 16 cannot carry the noise of 24 channels"):
        loaded(tmp_path)


def test_in_half_precision_statistics_stay_whole(tmp_path: Path) -> None:
    branch = tiny_physics.spoken()
    write_folder(tmp_path, branch.state_dict(), describe(branch))
    kinds = {name: value.dtype for name, value in load_file(tmp_path / WEIGHTS).items()}
    whole = {name for name, kind in kinds.items() if kind == torch.float32}
    assert whole == {"physics_latents.mean", "physics_latents.std"}
    assert set(kinds.values()) == {torch.float32, torch.bfloat16}


def test_names_are_those_of_the_format() -> None:
    manifest = json.loads((PUBLISHED / "phantom-physics-native.json").read_text(encoding="utf-8"))["keys"]
    deep = tiny_physics.branch(num_layers=30)
    names = {native_name(name) for name in deep.state_dict()}
    assert names == set(manifest)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("coupling.1.phy_attn.o.bias"), r"1 missing \(blocks\.1\.coupling\.phy_attn\.o"),
        (lambda tensors: tensors.pop("physics.head.modulation"), r"1 missing \(scale_shift_table"),
        (lambda tensors: tensors.update({"physics.extra": torch.zeros(2)}), r"1 unexpected \(physics\.extra"),
        (lambda tensors: tensors.update({"physic.typo": torch.zeros(2)}), r"1 unexpected \(physic\.typo"),
    ],
)
def test_a_key_missing_or_too_many_is_named(tmp_path: Path, change: Any, sentence: str) -> None:
    """P13."""
    written(tmp_path, tiny_physics.spoken())
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(IncompatibleCheckpoint, match=sentence):
        loaded(tmp_path)


def test_one_file_may_hold_both_branches_under_the_published_names(tmp_path: Path) -> None:
    """P13: the pictures' keys are Wan 2.2's, without a prefix."""
    visual, branch = tiny_physics.visual(), tiny_physics.spoken()
    published = {native_name(name).removeprefix("physics."): value for name, value in visual.state_dict().items()}
    written(tmp_path, branch, visual=published)
    again = loaded(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in branch.state_dict().items())
    heads = {"num_attention_heads": 2, "attention_head_dim": 16}
    seen = load(open_checkpoint([tmp_path / WEIGHTS]), VISUAL, dtype=torch.float32, **heads)
    assert all(torch.equal(value, seen.state_dict()[name]) for name, value in visual.state_dict().items())


def test_another_network_s_file_is_told_apart(tmp_path: Path) -> None:
    save_file({native_name(n).removeprefix("physics."): v for n, v in tiny_physics.visual().state_dict().items()},
              tmp_path / "wan.safetensors")  # fmt: skip
    with pytest.raises(IncompatibleCheckpoint, match="is not a physics branch: it looks like a Wan"):
        load(open_checkpoint([tmp_path / "wan.safetensors"]), BRANCH, dtype=torch.float32)
    written(tmp_path, tiny_physics.spoken())
    with pytest.raises(IncompatibleCheckpoint, match="it looks like a physics branch"):
        load(open_checkpoint([tmp_path / WEIGHTS]), VISUAL, dtype=torch.float32)


# Settings


def test_the_defaults_are_the_design_s() -> None:
    settings = PhysicsSettings()
    assert (settings.physics_dim, settings.physics_num_heads, settings.num_layers) == (3072, 24, 30)
    assert settings.arguments()["attention_head_dim"] == 128
    assert settings.space.side() == 8


def test_later_formats_are_refused_and_unknown_names_are_kept(tmp_path: Path) -> None:
    path = tmp_path / SETTINGS
    content = json.loads(PhysicsSettings().model_dump_json())
    path.write_text(json.dumps(content | {"mood": 3, "encoder": content["encoder"] | {"colour": 1}}))
    assert read_settings(path).unknown == ["encoder.colour", "mood"]
    path.write_text(json.dumps(content | {"format": 2, "mood": 3}))
    with pytest.raises(IncompatibleCheckpoint, match="of format 2; this version reads format 1"):
        read_settings(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "missing beside the physics weights"),
        ("{", "cannot be read"),
        ("[]", "its content is wrong"),
        ('{"physics_dim": "wide"}', "physics_dim is wrong"),
        ('{"physics_num_heads": 0}', "physics_num_heads is wrong"),
        ('{"encoder": {"max_frames": 7}}', "encoder.max_frames is wrong"),
        ('{"coupling_rope": "maybe"}', "coupling_rope is wrong"),
    ],
)
def test_settings_that_are_none_say_what_is_wrong(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / SETTINGS
    if text is not None:
        path.write_text(text)
    with pytest.raises(IncompatibleCheckpoint, match=sentence):
        read_settings(path)


def test_the_same_settings_are_the_same_architecture() -> None:
    assert architecture(PhysicsSettings()) is architecture(PhysicsSettings())
    assert architecture(PhysicsSettings(coupling_rope="none")) is not architecture(PhysicsSettings())


# Drawn forces


def middle(control: torch.Tensor, frame: int) -> tuple[float, float]:
    """Column and row of the blob's middle."""
    weights = control[0, frame]
    rows, columns = (torch.arange(side, dtype=torch.float32) for side in weights.shape)
    total = weights.sum()
    return float((weights.sum(0) @ columns) / total), float((weights.sum(1) @ rows) / total)


@pytest.mark.parametrize(
    ("angle", "right", "down"), [(0, 1, 0), (90, 0, -1), (180, -1, 0), (270, 0, 1), (45, 0.7071, -0.7071)]
)
def test_a_push_moves_the_blob_as_it_is_drawn(angle: float, right: float, down: float) -> None:
    """P16: 90 degrees is up on the screen; the way grows with the strength from an eighth to half the width."""
    for strength, way in ((0.0, 60 / 8), (1.0, 60 / 2), (0.4, 60 / 8 + 0.4 * (30 - 7.5))):
        # The blob is small at this height, so that it does not reach the edges.
        control = control_video(PointForce(0.5, 0.5, angle, strength), width=60, height=80, frames=9)
        assert control.shape == (3, 9, 80, 60)
        start, end = middle(control, 0), middle(control, 8)
        assert start == pytest.approx((30, 40), abs=0.05)
        if strength < 0.5:  # at the edge the blob is cut
            assert end == pytest.approx((30 + way * right, 40 + way * down), abs=0.2)


def test_points_count_from_below() -> None:
    """P16: y of the table."""
    high = control_video(PointForce(0.25, 0.75, 0, 0), width=80, height=80, frames=1)
    assert middle(high, 0) == pytest.approx((20, 20), abs=0.1)
    assert float(high.max()) == pytest.approx(1.0) and torch.equal(high[0], high[2])


def test_the_blob_scales_with_the_frame() -> None:
    areas = [
        float(control_video(PointForce(0.5, 0.5, 0, 0), width=2 * side, height=side, frames=1)[0].sum())
        for side in (120, 240)
    ]
    assert areas[1] / areas[0] == pytest.approx(4, rel=0.02)
    assert areas[1] == pytest.approx(2 * torch.pi * 10**2, rel=0.02)


def test_wind_is_the_same_everywhere() -> None:
    control = control_video(Wind(angle=90, strength=0.75), width=16, height=8, frames=5)
    assert control[:, 3, 2, 1].tolist() == pytest.approx([0.5, 0.0, 1.0], abs=1e-6)
    assert torch.equal(control, control[:, :1, :1, :1].expand_as(control))


def cells(
    control: torch.Tensor, *, latent: tuple[int, int] = (2, 4), side: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    return in_cells(lambda span: control[:, span], frames=control.shape[1], latent=latent, physics_side=side)


def test_cells_are_means_of_their_frames_and_pixels() -> None:
    control = torch.arange(9.0).view(1, 9, 1, 1) * torch.ones(3, 9, 32, 64)
    seen, felt = cells(control)
    assert seen.shape == (3, 3, 2, 4) and felt.shape == (3, 5, 2, 2)
    assert seen[0, :, 0, 0].tolist() == [0.0, 2.5, 6.5]
    assert felt[0, :, 1, 1].tolist() == [0.0, 1.5, 3.5, 5.5, 7.5]
    left = torch.zeros(3, 1, 32, 64)
    left[..., :16] = 1
    assert cells(left)[0][0, 0].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert cells(left)[1][0, 0].tolist() == [[0.5, 0], [0.5, 0]]


@pytest.mark.parametrize("force", [PointForce(0.3, 0.6, 200, 0.5), Wind(30, 0.2)])
def test_a_force_is_told_to_both_branches_as_its_whole_video_would_be(force: PointForce | Wind) -> None:
    size = {"width": 96, "height": 64, "frames": 9}
    told = felt_by(force, **size, latent=(4, 6), physics_side=4)
    whole = control_video(force, **size)
    assert [tuple(part.shape) for part in told] == [(3, 3, 4, 6), (3, 5, 4, 4)]
    for part, expected in zip(told, cells(whole, latent=(4, 6), side=4), strict=True):
        torch.testing.assert_close(part, expected)
    assert torch.equal(control_video(force, **size, part=slice(3, 5)), whole[:, 3:5])
