"""Joint flow matching: the weight of the second loss, given frames, what is frozen, two clips learned by heart."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from engines.phantom_physics import latents as physics_latents
from engines.phantom_physics.sampling import Latents, Sampler, denoise, draw_noise
from engines.sampling.denoise import unipc
from engines.training.physics_flow import (
    LossWeight,
    draw_given,
    draw_sigmas,
    gradient_norm,
    joint_losses,
    latent_frames,
)
from engines.training.world.physics import make_scene
from tests.engines import tiny_physics
from tests.engines.tiny_physics import CHANNELS, SPACE

SEEN, FELT, TEXT = (4, 3, 4, 6), (CHANNELS, 5, 2, 2), (12, 16)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# alpha


@pytest.mark.parametrize(
    ("norms", "weight", "used", "after", "resets"),
    [
        ([0.1] * 6, LossWeight(1, 4, 1), [0, 0.25, 0.5, 0.75, 1, 1], 1, 0),
        ([0.1, 0.1, 0.1, 2, 0.1, 0.1, 2, 2, 0.1], LossWeight(1, 4, 1),
         [0, 0.25, 0.5, 0.75, 0, 0.25, 0.5, 0, 0], 0.25, 2),
        ([1.0, 1.0000001, 0.5], LossWeight(0.5, 5, 1), [0, 0.1, 0], 0.1, 1),
        ([3, 3, 3], LossWeight(1, 10, 1), [0, 0, 0], 0, 0),
        ([0.1, float("nan"), 0.1, float("inf")], LossWeight(1, 2, 1), [0, 0.5, 0, 0.5], 0, 2),
    ],
)  # fmt: skip
def test_the_weight_grows_and_returns_to_nothing(
    norms: list[float], weight: LossWeight, used: list[float], after: float, resets: int
) -> None:
    """P7: the traces of the design."""
    seen = []
    for norm in norms:
        seen.append(weight.value)
        weight.update(norm)
    assert seen == pytest.approx(used) and weight.value == pytest.approx(after) and weight.resets == resets


@pytest.mark.parametrize("cut", range(1, 9))
def test_the_weight_goes_on_where_it_was_saved(cut: int) -> None:
    """P7: saved and resumed anywhere in the second trace."""
    norms, whole, parts = [0.1, 0.1, 0.1, 2, 0.1, 0.1, 2, 2, 0.1], LossWeight(1, 4, 1), LossWeight(1, 4, 1)
    for norm in norms:
        whole.update(norm)
    for norm in norms[:cut]:
        parts.update(norm)
    parts = LossWeight(**dataclasses.asdict(parts))
    for norm in norms[cut:]:
        parts.update(norm)
    assert parts == whole


def test_the_norm_is_of_the_branch_s_own_parameters_alone() -> None:
    branch = tiny_physics.branch(takes_force=True).requires_grad_(True)
    for _, parameter in branch.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    own = sum(p.numel() for n, p in branch.named_parameters() if ".coupling." not in n and not n.startswith("force."))
    assert gradient_norm(branch.named_parameters()) == pytest.approx(own**0.5)
    other = {f"branch.{name}": p for name, p in branch.named_parameters()}
    assert gradient_norm(other.items()) == pytest.approx(own**0.5)
    assert gradient_norm([]) == 0.0


# What is given, and what is noisy


def test_half_have_no_given_frames_and_the_others_any_number() -> None:
    drawn = Counter(draw_given(6000, 121, rng()))
    assert drawn[0] == pytest.approx(3000, rel=0.05)
    assert sorted(drawn) == [0, *range(1, 46, 4)]
    assert all(drawn[frames] == pytest.approx(250, rel=0.3) for frames in range(1, 46, 4))
    assert set(draw_given(500, 9, rng())) == {0, 1, 5}
    assert set(draw_given(50, 1, rng())) == {0}
    assert set(draw_given(50, 121, rng(), share=0.0)) == {0}


def test_given_frames_are_whole_latent_frames_and_tubelets() -> None:
    assert [latent_frames(frames) for frames in (0, 1, 5, 45)] == [(0, 0), (1, 1), (2, 3), (12, 23)]


def test_noise_levels_are_shifted_upwards() -> None:
    drawn = draw_sigmas(4000, rng(), shift=5.0)
    assert drawn.min() > 0 and drawn.max() < 1
    assert float(drawn.median()) == pytest.approx(5 / 6, abs=0.02)


def clean(count: int = 2) -> Latents:
    return Latents(draw(count, *SEEN, seed=1), draw(count, *FELT, seed=2))


def test_given_frames_are_seen_clean_at_time_zero_and_cost_nothing() -> None:
    """P8 (training): their loss weight is 0."""
    visual, branch = tiny_physics.visual(), tiny_physics.spoken()
    branch.join(visual)
    seen: list[dict] = []
    branch.register_forward_pre_hook(lambda _, given, told: seen.append({"both": given[1:3], **told}), with_kwargs=True)
    told = {"given": [5, 0], "shift": 5.0, "given_physics": [9 * draw(CHANNELS, 3, 2, 2), draw(CHANNELS, 0, 2, 2)]}
    losses = joint_losses(visual, branch, clean(), draw(2, *TEXT), rng(), **told)
    pictures, physics = seen[0]["both"]
    assert torch.equal(pictures[0, :, :2], clean().visual[0, :, :2])
    assert torch.equal(physics[0, :, :3], told["given_physics"][0])
    assert not torch.equal(pictures[1, :, :2], clean().visual[1, :, :2])
    steps, felt_steps = seen[0]["timestep"], seen[0]["physics_timestep"]
    assert not steps[0, :12].any() and (steps[0, 12:] > 0).all() and (steps[1] > 0).all()
    assert not felt_steps[0, :12].any() and (felt_steps[0, 12:] > 0).all()
    assert steps[0, -1] == felt_steps[0, -1] and steps[0, -1] != steps[1, -1]  # one noise level for both of a clip
    # Wrong numbers where frames are given change no loss.
    hook = branch.register_forward_hook(lambda _, __, made: _spoilt(made, 1000.0))
    spoilt = joint_losses(visual, branch, clean(), draw(2, *TEXT), rng(), **told)
    hook.remove()
    assert spoilt == losses


def _spoilt(made: tuple[torch.Tensor, torch.Tensor], by: float) -> tuple[torch.Tensor, torch.Tensor]:
    pictures, physics = (part.clone() for part in made)
    pictures[0, :, :2] += by
    physics[0, :, :3] += by
    return pictures, physics


def test_given_physics_must_not_come_from_the_whole_clip() -> None:
    visual, branch = tiny_physics.visual(), tiny_physics.branch()
    branch.join(visual)
    with pytest.raises(ValueError, match="saw the future"):
        joint_losses(visual, branch, clean(), draw(2, *TEXT), rng(), given=[5, 0], shift=5.0)


def test_the_losses_are_plain_means_of_the_velocity_s_error() -> None:
    visual, branch = tiny_physics.visual(), tiny_physics.spoken()
    branch.join(visual)
    zero = branch.register_forward_hook(lambda _, __, made: tuple(torch.zeros_like(part) for part in made))
    losses = joint_losses(visual, branch, clean(), draw(2, *TEXT), rng(), given=[0, 0], shift=5.0)
    zero.remove()
    source = rng()
    draw_sigmas(2, source, shift=5.0)
    for loss, part in zip((losses.visual, losses.physics), clean(), strict=True):
        noise = torch.randn(part.shape, generator=source)
        torch.testing.assert_close(loss, (noise - part).square().mean())


# Training


def test_ten_steps_leave_the_pictures_network_as_it_was() -> None:
    """P5."""
    visual, branch = tiny_physics.visual(), tiny_physics.branch().requires_grad_(True)
    branch.physics_latents.requires_grad_(False)
    branch.join(visual)
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    started = {name: value.clone() for name, value in branch.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in branch.parameters() if p.requires_grad], lr=1e-2)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in visual.parameters()}
    source = rng()
    for _ in range(10):
        losses = joint_losses(visual, branch, clean(), draw(2, *TEXT), source, given=[0, 0], shift=5.0)
        optimizer.zero_grad()
        (losses.visual + losses.physics).backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in visual.state_dict().items())
    assert all(p.grad is None for p in visual.parameters())
    changed = {name for name, value in branch.state_dict().items() if not torch.equal(value, started[name])}
    assert {"patch_embedding.weight", "blocks.0.coupling.vis_attn.o.weight", "proj_out.weight"} <= changed
    assert not {name for name in changed if name.startswith("physics_latents")}


def small_clips() -> tuple[Latents, list[torch.Tensor]]:
    """Two simulated clips of 9 frames as small latents, and the physics of their first 5 frames alone."""
    encoder, pictures, physics, given = tiny_physics.encoder(), [], [], []
    for name in ("free fall", "incline"):
        frames = make_scene(name, 3).frames()[:27:3]
        levels = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
        small = torch.nn.functional.avg_pool3d(levels, (1, 8, 8))
        spans = [small[:, :1], small[:, 1:5].mean(1, keepdim=True), small[:, 5:].mean(1, keepdim=True)]
        visual = torch.cat(spans, 1)
        pictures.append(torch.cat([visual, visual.mean(0, keepdim=True)]))
        for count, into in ((9, physics), (5, given)):
            into.append(physics_latents.normalised(physics_latents.encode(encoder, frames[:count], SPACE)))
    seen = torch.stack(pictures)
    return Latents((seen - seen.mean()) / seen.std(), torch.stack(physics)), given


def test_two_clips_are_learned_by_heart_and_gone_on_with() -> None:
    """P15: 300 steps; what is sampled from 5 given frames is nearer to the clip than a frozen one."""
    torch.manual_seed(1)
    goal, given = small_clips()
    visual = tiny_physics.visual(num_layers=1).requires_grad_(True)
    branch = tiny_physics.branch(num_layers=1).requires_grad_(True)
    branch.physics_latents.requires_grad_(False)
    branch.join(visual)
    trained = [p for network in (visual, branch) for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=4e-3, betas=(0.9, 0.95))
    text, source, losses = draw(2, *TEXT), rng(), []
    for step in range(300):
        frames = [5, 5] if step % 2 else [0, 5]
        parts = [given[0] if frames[0] else given[0][:, :0], given[1]]
        made = joint_losses(visual, branch, goal, text, source, given=frames, given_physics=parts, shift=3.0)
        optimizer.zero_grad()
        (made.visual + made.physics).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(float((made.visual + made.physics).detach()))
    assert np.mean(losses[-40:]) < np.mean(losses[:10]) / 3
    errors: dict[str, list[float]] = {"made": [], "frozen": []}
    for index in range(2):
        sampler = Sampler(visual, branch, conditions={"cond": text[index]}, weights={"cond": 1.0}, batched=True)
        start = Latents(goal.visual[index, :, :2], given[index])
        noise = draw_noise(goal.visual.shape[1:], goal.physics.shape[1:], seed=index)
        *_, last = denoise(sampler, noise, given=start, scheduler=lambda: unipc(12, shift=3.0))
        target = goal.visual[index, :, 2:]
        errors["made"].append(float((last.latents.visual[:, 2:] - target).square().mean()))
        errors["frozen"].append(float((goal.visual[index, :, 1:2] - target).square().mean()))
    assert np.mean(errors["made"]) < np.mean(errors["frozen"])
