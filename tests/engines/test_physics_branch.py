"""The physics branch on tiny networks: what it adds, what it must leave alone, where gradients go, given frames."""

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from engines.errors import IncompatibleCheckpoint
from engines.memory import offload
from engines.phantom_physics.coupling import Grid, physics_coordinates, rotated, rotations, visual_coordinates
from engines.phantom_physics.network import PhysicsBranch, coupled_blocks
from engines.phantom_physics.sampling import Latents, Sampler, denoise, draw_noise, token_timesteps, with_given
from engines.sampling import guidance
from engines.sampling.denoise import dpm_plus_plus, unipc
from engines.wan.transformer import predict
from tests.engines import tiny_physics
from tests.engines.tiny_physics import CHANNELS, PHYSICS, VISUAL

SEEN, FELT = (4, 3, 4, 6), (CHANNELS, 5, 2, 2)  # 9 frames of 32x48 pixels
TEXT = (12, 16)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(count: int = 2, *, clean: int = 0) -> dict[str, Any]:
    """One pass's arguments: `count` samples with their own timesteps and texts."""
    steps = [torch.tensor(900.0 - 300 * index) for index in range(count)]
    felt_clean = max(0, 2 * clean - 1)
    return {
        "latents": draw(count, *SEEN, seed=1),
        "physics": draw(count, *FELT, seed=2),
        "timestep": torch.stack([token_timesteps(t, SEEN, patch=(1, 2, 2), clean_frames=clean) for t in steps]),
        "physics_timestep": torch.stack(
            [token_timesteps(t, FELT, patch=(1, 1, 1), clean_frames=felt_clean) for t in steps]
        ),
        "text": draw(count, *TEXT, seed=3),
    }


def both(
    branch: PhysicsBranch, visual: WanTransformer3DModel | None = None, **told: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities of one joined pass."""
    visual = visual or tiny_physics.visual()
    with branch.joined(visual):
        return branch(visual, told.pop("latents"), told.pop("physics"), **told)


# What the branch adds, and what it leaves alone


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
@pytest.mark.parametrize("clean", [0, 1, 2])
def test_a_fresh_coupling_leaves_the_base_as_it_is_to_the_bit(scale: float, clean: int) -> None:
    """P1: whatever the physics latents, their timesteps and the scale."""
    told = inputs(clean=clean)
    base = predict(tiny_physics.visual(), told["latents"], told["timestep"], told["text"])
    for physics in (told["physics"], 100 * told["physics"], torch.zeros_like(told["physics"])):
        seen, _ = both(tiny_physics.branch(), **(told | {"physics": physics}), physics_scale=scale)
        assert torch.equal(seen, base)
    other = told | {"physics_timestep": 1000 - told["physics_timestep"]}
    assert torch.equal(both(tiny_physics.branch(), **other)[0], base)


def test_the_branch_alone_is_the_library_s_own_transformer() -> None:
    """Its beginning and its head are written out here; with silent couplings nothing else may differ."""
    told, branch = inputs(clean=1), tiny_physics.branch()
    own = WanTransformer3DModel(**PHYSICS)
    own.load_state_dict(branch.state_dict(), strict=False)
    _, felt = both(branch, **told)
    alone = own(told["physics"], told["physics_timestep"], told["text"], return_dict=False)[0]
    assert torch.equal(felt, alone.detach())


def test_the_visual_network_is_as_before_once_the_branch_is_gone() -> None:
    told, visual = inputs(), tiny_physics.visual()
    before = predict(visual, told["latents"], told["timestep"], told["text"])
    coupled, _ = both(tiny_physics.spoken(), visual, **told)
    assert not torch.equal(coupled, before)
    assert torch.equal(predict(visual, told["latents"], told["timestep"], told["text"]), before)
    branch = tiny_physics.spoken()
    with pytest.raises(RuntimeError), branch.joined(visual):
        raise RuntimeError
    assert not any(block.attn1._forward_hooks for block in visual.blocks)


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    """P3."""
    told, branch = inputs(3), tiny_physics.spoken()
    order = [2, 0, 1]
    straight = both(branch, **told)
    turned = both(branch, **{name: value[order] for name, value in told.items()})
    for one, other in zip(straight, turned, strict=True):
        torch.testing.assert_close(one[order], other, atol=2e-6, rtol=1e-5)
    changed = told | {"physics": torch.cat([told["physics"][:2], 5 * told["physics"][2:]])}
    seen, felt = both(branch, **changed)
    torch.testing.assert_close(seen[:2], straight[0][:2], atol=2e-6, rtol=1e-5)
    assert (felt[2] - straight[1][2]).abs().max() > 0.01 and (seen[2] - straight[0][2]).abs().max() > 0.001


def test_a_coupling_that_speaks_is_heard_both_ways_and_knows_places() -> None:
    """P4."""
    told = inputs()
    base = predict(tiny_physics.visual(), told["latents"], told["timestep"], told["text"])
    aligned, felt = both(tiny_physics.spoken(), **told)
    nowhere, _ = both(tiny_physics.spoken(coupling_rope="none"), **told)
    assert (aligned - base).abs().max() > 0.1
    assert (aligned - nowhere).abs().max() > 0.01
    # The physics hears the pictures.
    _, other = both(tiny_physics.spoken(), **(told | {"latents": -told["latents"]}))
    assert (felt - other).abs().max() > 0.01
    # Half the scale adds half of what the first block hears; with one coupled block, all of it.
    one = tiny_physics.spoken(coupling_layers=[1])
    part, whole = (both(one, **told, physics_scale=scale)[0] for scale in (0.0, 1.0))
    assert torch.equal(part, base) and not torch.equal(whole, base)


def test_what_the_couplings_compute_is_the_written_formula() -> None:
    """q = RMS(Wq a), k = RMS(Wk b), v = Wv b, heads, rotations, softmax, Wo: written out with loops."""
    coupling = tiny_physics.spoken().blocks[0].coupling.vis_attn
    asking, answering = draw(1, 4, 32), draw(1, 3, 32, seed=1)
    turns = (rotations(draw(4, 3, seed=2), 16), rotations(draw(3, 3, seed=3), 16))
    made = coupling(asking, answering, turns)[0]

    def rms(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return values / (values.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    query = rms(asking[0] @ coupling.q.weight.T + coupling.q.bias, coupling.norm_q.weight)
    key = rms(answering[0] @ coupling.k.weight.T + coupling.k.bias, coupling.norm_k.weight)
    value = answering[0] @ coupling.v.weight.T + coupling.v.bias
    heard = []
    for head in (slice(0, 16), slice(16, 32)):
        q, k = (
            rotated(query[None, :, None, head], turns[0])[0, :, 0],
            rotated(key[None, :, None, head], turns[1])[0, :, 0],
        )
        heard.append(torch.softmax(q @ k.T / 4, -1) @ value[:, head])
    expected = torch.cat(heard, 1) @ coupling.o.weight.T + coupling.o.bias
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


# Places and moments


def test_tubelets_lie_at_their_latent_frames() -> None:
    """P10."""
    seen = Grid(6, 8, 12)
    times = physics_coordinates(Grid(11, 1, 1), visual=seen)[:, 0]
    assert times.tolist() == [0.0, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25]
    assert times[1:].view(-1, 2).mean(1).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    places = physics_coordinates(Grid(1, 4, 4), visual=seen)
    assert sorted(set(places[:, 1].tolist())) == [0.5, 2.5, 4.5, 6.5]
    assert sorted(set(places[:, 2].tolist())) == [1.0, 4.0, 7.0, 10.0]
    assert places[1].tolist() == [0.0, 0.5, 4.0]
    assert visual_coordinates(seen)[13].tolist() == [0.0, 1.0, 1.0]


def test_rotations_are_wan_s_own_at_whole_places() -> None:
    branch = tiny_physics.branch()
    cosine, sine = branch.rope(torch.zeros(1, CHANNELS, 3, 4, 5))
    turns = rotations(visual_coordinates(Grid(3, 4, 5)), 16)
    torch.testing.assert_close(turns.real, cosine[0, :, 0, 0::2], atol=1e-6, rtol=0)
    torch.testing.assert_close(turns.imag, sine[0, :, 0, 1::2], atol=1e-6, rtol=0)
    shares = [int((rotations(torch.eye(3)[axis][None], 128)[0].imag != 0).sum()) for axis in range(3)]
    assert shares == [22, 21, 21]


@pytest.mark.parametrize(
    ("layers", "blocks"), [("all", [0, 1, 2, 3, 4]), (2, [0, 2, 4]), ([3, 1, 3], [1, 3]), (5, [0])]
)
def test_which_blocks_are_coupled(layers: Any, blocks: list[int]) -> None:
    assert coupled_blocks(layers, 5) == blocks


@pytest.mark.parametrize("layers", ["none", 0, -1, [], [5], [-1], True])
def test_couplings_of_no_block_are_refused(layers: Any) -> None:
    with pytest.raises(IncompatibleCheckpoint, match="coupling_layers"):
        coupled_blocks(layers, 5)


def test_a_branch_too_narrow_for_its_channels_is_refused() -> None:
    """P14: the noise of a token needs as many dimensions as it has channels."""
    with pytest.raises(IncompatibleCheckpoint, match="width 32 cannot carry the noise of 33 channels"):
        tiny_physics.branch(in_channels=33, out_channels=33)
    with pytest.raises(IncompatibleCheckpoint, match="noise of 96 channels"):
        tiny_physics.branch(patch_size=[1, 2, 2])


def test_a_branch_of_another_base_is_refused() -> None:
    with pytest.raises(IncompatibleCheckpoint, match="2 blocks of width 48; the visual network has 2 of width 32"):
        tiny_physics.branch(visual_width=48).join(tiny_physics.visual())
    deeper = WanTransformer3DModel(**(VISUAL | {"num_layers": 3}))
    with pytest.raises(IncompatibleCheckpoint, match="has 3 of width 32"):
        tiny_physics.branch().join(deeper)


# Gradients


def losses(branch: PhysicsBranch, visual: WanTransformer3DModel) -> tuple[torch.Tensor, torch.Tensor]:
    """L_v and L_z of one joined pass; the hooks stay, because checkpointing runs blocks again."""
    branch.requires_grad_(True)
    told = inputs(1)
    seen, felt = branch(visual, told.pop("latents"), told.pop("physics"), **told)
    return seen.square().mean(), felt.square().mean()


def with_gradient(network: torch.nn.Module) -> set[str]:
    return {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_the_physics_loss_reaches_what_it_should_and_no_visual_weight() -> None:
    """P5 (gradients), P6."""
    branch, visual = tiny_physics.spoken(), tiny_physics.visual()
    branch.join(visual)
    losses(branch, visual)[1].backward()
    reached = with_gradient(branch)
    assert not with_gradient(visual)
    assert "blocks.0.coupling.vis_attn.o.weight" in reached and "blocks.0.coupling.vis_attn.q.weight" in reached
    assert not any(
        name.startswith("blocks.1.coupling.vis_attn") for name in reached
    )  # nothing reads the last one's answer
    assert "blocks.1.coupling.phy_attn.o.weight" in reached and "proj_out.weight" in reached


def test_the_visual_loss_reaches_the_branch_but_not_its_head() -> None:
    """P6."""
    branch, visual = tiny_physics.spoken(), tiny_physics.visual()
    branch.join(visual)
    losses(branch, visual)[0].backward()
    reached = with_gradient(branch)
    assert "patch_embedding.weight" in reached and "blocks.1.coupling.vis_attn.o.weight" in reached
    assert not any(name.startswith("proj_out") or name == "scale_shift_table" for name in reached)


def test_fresh_couplings_learn_their_answers_first() -> None:
    """P6: with o = 0 only vis_attn.o of the visual couplings has a gradient; that is no fault."""
    branch, visual = tiny_physics.branch(), tiny_physics.visual()
    branch.join(visual)
    seen, felt = losses(branch, visual)
    (seen + felt).backward()
    spoken = {name for name in with_gradient(branch) if ".vis_attn." in name}
    assert spoken and all(".vis_attn.o." in name for name in spoken)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointed in (False, True):
        branch, visual = tiny_physics.spoken(), tiny_physics.visual()
        branch.join(visual)
        if checkpointed:
            visual.enable_gradient_checkpointing()
        seen, felt = losses(branch, visual)
        (seen + felt).backward()
        gradients.append({name: p.grad for name, p in branch.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 100
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


# Denoising both


def sampler(branch: PhysicsBranch | None, visual: WanTransformer3DModel, **changes: Any) -> Sampler:
    told = {
        "conditions": {"cond": draw(*TEXT, seed=3), "uncond": draw(*TEXT, seed=4)},
        "weights": guidance.classifier_free(5.0),
        "batched": True,
    }
    return Sampler(visual, branch, **(told | changes))


def denoised(
    branch: PhysicsBranch | None, *, given: Latents | None = None, solver: Any = unipc, **changes: Any
) -> list[Latents]:
    visual = tiny_physics.visual()
    noise = draw_noise(SEEN, FELT if branch else None, seed=7)
    handles = branch.join(visual) if branch else []
    made = sampler(branch, visual, **changes)
    states = [state.latents for state in denoise(made, noise, given=given, scheduler=lambda: solver(4, shift=3.0))]
    for handle in handles:
        handle.remove()
    return states


@pytest.mark.parametrize("solver", [unipc, dpm_plus_plus])
def test_given_frames_come_out_as_they_went_in(solver: Any) -> None:
    """P8: after every step, in both branches, to the bit."""
    given = Latents(draw(4, 2, 4, 6, seed=5), draw(CHANNELS, 3, 2, 2, seed=6))
    states = denoised(tiny_physics.spoken(), given=given, solver=solver)
    assert len(states) == 4
    for state in states:
        assert torch.equal(state.visual[:, :2], given.visual) and torch.equal(state.physics[:, :3], given.physics)
        assert state.visual.shape == SEEN and state.physics.shape == FELT
    free = denoised(tiny_physics.spoken(), solver=solver)[-1]
    assert not torch.equal(free.visual[:, 2:], states[-1].visual[:, 2:])


def test_a_seed_is_a_clip_and_the_base_s_noise_is_the_same() -> None:
    """P12: deterministic, and without the branch or with a silent one the same pictures to the bit."""
    assert torch.equal(draw_noise(SEEN, FELT, seed=7).visual, draw_noise(SEEN, None, seed=7).visual)
    base = denoised(None)[-1].visual
    assert torch.equal(base, denoised(None)[-1].visual)
    assert torch.equal(base, denoised(tiny_physics.branch())[-1].visual)
    spoken = denoised(tiny_physics.spoken())[-1]
    again = denoised(tiny_physics.spoken())[-1]
    assert torch.equal(spoken.visual, again.visual) and torch.equal(spoken.physics, again.physics)
    assert not torch.equal(spoken.visual, base)


def test_passes_one_by_one_give_the_same_and_each_branch_has_its_own_guidance() -> None:
    together = denoised(tiny_physics.spoken())[-1]
    apart = denoised(tiny_physics.spoken(), batched=False)[-1]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)
    other = denoised(tiny_physics.spoken(), physics_weights=guidance.classifier_free(1.0))[-1]
    assert not torch.allclose(together.physics, other.physics, atol=1e-3)


def test_only_passes_that_count_are_made() -> None:
    counted: Counter[int] = Counter()
    visual, branch = tiny_physics.visual(), tiny_physics.spoken()
    visual.register_forward_pre_hook(lambda *_: counted.update([0]))
    one = guidance.classifier_free(1.0)
    noise = draw_noise(SEEN, FELT, seed=7)
    with branch.joined(visual):
        for weights, passes in (({"physics_weights": one, "weights": one}, 1), ({"weights": one}, 1), ({}, 2)):
            counted.clear()
            made = sampler(branch, visual, batched=False, **weights)
            made.velocity(noise, torch.tensor(500), given=None)
            assert counted[0] == passes
        counted.clear()
        made = sampler(branch, visual, batched=False, weights=one, physics_weights=guidance.classifier_free(3.0))
        made.velocity(noise, torch.tensor(500), given=None)
        assert counted[0] == 2


def test_given_frames_of_one_branch_alone_stay_clean_there() -> None:
    given = Latents(draw(4, 1, 4, 6))
    put = with_given(draw_noise(SEEN, FELT, seed=1), given)
    assert torch.equal(put.visual[:, :1], given.visual)
    assert torch.equal(put.physics, draw_noise(SEEN, FELT, seed=1).physics)
    steps = token_timesteps(torch.tensor(700), SEEN, patch=(1, 2, 2), clean_frames=1)
    assert steps.tolist() == [0] * 6 + [700] * 12


# A drawn force


def test_a_fresh_force_changes_nothing_and_a_trained_one_both() -> None:
    """P16: embeddings start at zero."""
    told = inputs()
    control = (draw(2, 3, *SEEN[1:], seed=8), draw(2, 3, *FELT[1:], seed=9))
    branch = tiny_physics.branch(takes_force=True)
    without, with_force = both(branch, **told), both(branch, **told, control=control)
    assert all(torch.equal(one, other) for one, other in zip(without, with_force, strict=True))
    trained = tiny_physics.spoken(takes_force=True)
    without, with_force = both(trained, **told), both(trained, **told, control=control)
    assert all((one - other).abs().max() > 0.01 for one, other in zip(without, with_force, strict=True))


# Memory


def test_blocks_that_take_turns_on_the_device_give_the_same() -> None:
    """Both networks grouped: a block's couplings come and go with it, inside the other network's pass."""
    told, visual, branch = inputs(), tiny_physics.visual(), tiny_physics.spoken()
    plain = both(branch, visual, **dict(told))
    deep = tiny_physics.branch(num_layers=5)
    spared = offload.size_bytes(deep) - offload.grouped_bytes(deep, ("blocks",))
    assert spared == 3 * offload.size_bytes(deep.blocks[0]) > 3 * offload.size_bytes(deep.blocks[0].coupling) > 0
    for network in (visual, branch):
        offload.group(network, ("blocks",), device=torch.device("cpu"))
    with torch.no_grad():
        grouped = both(branch, visual, **dict(told))
    assert all(torch.equal(one, other) for one, other in zip(plain, grouped, strict=True))
    for network in (visual, branch):
        offload.ungroup(network)
    assert all(torch.equal(one, other) for one, other in zip(plain, both(branch, visual, **told), strict=True))
