"""Pyramid Flow's recipes on tiny networks: the objective, a few steps, files that the engine runs, the dry run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from engines.pyramid_flow.engine import PyramidFlow
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.mmdit import PyramidMMDiT
from engines.pyramid_flow.noise import block_noise, next_stage
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.scheduler import PyramidScheduler
from engines.training import networks, pyramid
from engines.training.__main__ import main
from engines.training.data import PooledClips
from engines.training.files import save_network
from engines.training.flux_start import sd3_weights
from engines.training.latents import Blocks, to_unit
from engines.training.prepare import CODES, fit_latents
from engines.training.recipe import Stage
from engines.training.recipes import pyramid_flow, pyramid_flow_sd3, pyramid_vae
from engines.training.tokens import train_tokenizer
from engines.training.trainer import Trainer
from engines.training.world import WorldConfig, make_clip
from engines.types import Frames
from tests.engines.test_pyramid_flow import wanted
from tests.engines.tiny_pyramid import FAMILIES, PyramidContext, transformer

CHANNELS = 4
POOL = 32  # batches
WORLD = WorldConfig(width=64, height=64, frames=17, two_subjects=0, photo_background=0)
SMALL = {
    "miniflux": {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1, "in_channels": 4 * CHANNELS},
    "sd3": {
        "num_layers": 2,
        "num_attention_heads": 1,
        "caption_projection_dim": 64,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
    },
}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as assets/starter is: latents of eight frames, tokenizer, an untrained text encoder."""
    folder = tmp_path_factory.mktemp("start")
    fit_latents(CODES[pyramid_vae.CODE][0], CHANNELS, clips=10).save(folder / pyramid_vae.CODE)
    train_tokenizer(vocabulary=600, captions=200).save_pretrained(folder / "tokenizer")
    tensors = networks.build_text_encoder().state_dict()
    tensors.pop("encoder.embed_tokens.weight")
    facts = {"class": "UMT5EncoderModel", "config": networks.TEXT_ENCODER}
    save_network(folder / "text_encoder.safetensors", tensors, facts=facts)
    config = pyramid_flow.STARTERS["miniflux"].config | SMALL["miniflux"]
    save_network(folder / "pyramid_flow.safetensors", PyramidFlux(**config).state_dict(), facts={"config": config})
    return folder


def settings(start: Path) -> dict[str, object]:
    stage = Stage(until=10**9, batch=2, world=WORLD)
    return {"steps": 3, "minutes": 0.0, "stages": (stage,), "files": str(start), "bfloat16": False}


@pytest.mark.parametrize("recipes", [pyramid_flow, pyramid_flow_sd3])
def test_trained_files_are_what_the_engine_runs(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipes: ModuleType
) -> None:
    family = recipes.RECIPE.family
    starter = pyramid_flow.STARTERS[family]
    starter = dataclasses.replace(starter, config=starter.config | SMALL[family])
    monkeypatch.setitem(pyramid_flow.STARTERS, family, starter)
    small = {"encoder_out_channels": CHANNELS, "decoder_in_channels": CHANNELS}
    widths = {"encoder_block_out_channels": [24, 24, 48], "decoder_block_out_channels": [24, 24, 48]}
    monkeypatch.setattr(pyramid_vae, "NETWORK", pyramid_vae.NETWORK | small | widths)
    monkeypatch.setattr(networks, "PYRAMID_CHANNELS", CHANNELS)
    for module, recipe in (
        (recipes, dataclasses.replace(recipes.RECIPE, **settings(start), start=str(start), compiled=False)),
        (pyramid_vae, dataclasses.replace(pyramid_vae.RECIPE, **settings(start), sizes=((64, 64, 9),))),
    ):
        torch.manual_seed(0)
        trainer = Trainer(recipe, module.build(recipe), tmp_path / recipe.name, workers=0)
        before = trainer.parameters[0][1].detach().clone()
        trainer.run()
        assert np.isfinite(trainer.figures["loss"]) and not torch.equal(before, trainer.parameters[0][1])
    context = PyramidContext(
        {
            "transformer": (tmp_path / recipes.RECIPE.name / "export" / starter.file,),
            "vae": (tmp_path / "pyramid-vae/export" / pyramid_vae.FILE,),
            "text_encoder": (start / "text_encoder.safetensors",),
            "tokenizer": (start / "tokenizer/tokenizer.json",),
        }
    )
    items = list(PyramidFlow().generate(wanted(frames=9), context))
    assert sum(len(item.pixels) for item in items if isinstance(item, Frames)) == 9


@pytest.mark.parametrize(("size", "spatial"), [(Blocks(4, 8), [True, True, False]), (Blocks(8, 8), [True] * 3)])
def test_an_untrained_autoencoder_encodes_and_decodes_as_the_linear_code(
    monkeypatch: pytest.MonkeyPatch, size: Blocks, spatial: list[bool]
) -> None:
    levels = {"encoder_spatial_down_sample": spatial, "decoder_spatial_up_sample": spatial[::-1]}
    monkeypatch.setattr(pyramid_vae, "NETWORK", pyramid_vae.NETWORK | levels)
    code = fit_latents(size, networks.PYRAMID_CHANNELS, clips=30)
    torch.manual_seed(0)
    vae = pyramid_vae.build_vae(code)
    video = torch.stack([to_unit(make_clip((3, index), WORLD).frames) for index in range(4)])
    with torch.no_grad():
        latents = vae.encode(video, {}).chunk(2, dim=1)[0]
        wanted = code.encode(video)
        torch.testing.assert_close(latents[:, :, 1:], wanted[:, :, 1:], atol=0.15, rtol=0)
        error = vae.decode(wanted, {})[:, :, 1:] - code.decode(wanted)[:, :, 1:]
    assert error.square().mean() < 1e-3  # 36 dB: channels hold no more than the main components of a region


def test_a_pool_shows_every_clip_as_often_and_again_the_same_after_a_resume(start: Path) -> None:
    recipe = dataclasses.replace(pyramid_flow.RECIPE, **settings(start))
    clips = PooledClips(recipe, reuse=2, pool=POOL, text_len=24)
    seen = [clips[step]["latents"] for step in range(2 * POOL)]
    codes = [row.numpy().tobytes() for batch in seen for row in batch]
    assert len(codes) == 4 * POOL and set(Counter(codes).values()) == {2}
    again = PooledClips(recipe, reuse=2, pool=POOL, text_len=24)
    for step in (POOL + 3, 2, 2 * POOL):
        assert torch.equal(again[step]["latents"], clips[step]["latents"])
    assert again[2 * POOL]["latents"][0].numpy().tobytes() not in codes


def test_stages_that_take_turns_keep_their_pools(start: Path) -> None:
    short = Stage(until=10**9, batch=2, world=dataclasses.replace(WORLD, frames=9))
    recipe = dataclasses.replace(pyramid_flow.RECIPE, **settings(start))
    clips = PooledClips(dataclasses.replace(recipe, stages=(*recipe.stages, short)), reuse=4, pool=POOL, text_len=24)
    seen = [clips[step]["latents"] for step in range(4 * POOL)]
    assert [len(batch[0, 0]) for batch in seen[:4]] == [3, 2, 3, 2]
    times = Counter(row.numpy().tobytes() for batch in seen for row in batch)
    assert sum(times.values()) == 8 * POOL and set(times.values()) == {4}


def test_clips_may_leave_the_first_unit_to_pictures() -> None:
    rng = torch.Generator().manual_seed(0)
    for later, shares in ((False, [0.2] * 5), (True, [0.0, 0.25, 0.25, 0.25, 0.25])):
        units = torch.tensor([pyramid.drawn_unit(5, rng, later=later) for _ in range(2000)])
        assert (torch.bincount(units, minlength=5) / 2000 - torch.tensor(shares)).abs().max() < 0.04
        assert pyramid.drawn_unit(1, rng, later=later) == 0


def test_rows_are_shared_among_stages_as_published() -> None:
    rng = torch.Generator().manual_seed(0)
    assert [torch.bincount(pyramid.stages_of_rows(8, rng), minlength=3).tolist() for _ in range(5)] == [[2, 4, 2]] * 5
    counts = sum(torch.bincount(pyramid.stages_of_rows(2, rng), minlength=3) for _ in range(400))
    assert (counts / 800 - torch.tensor(pyramid.SHARES)).abs().max() < 0.05


def test_pieces_meet_where_sampling_joins_them() -> None:
    """The stage change of sampling brings a piece's end to the statistics of the next piece's start."""
    scheduler, rng = PyramidScheduler(), torch.Generator().manual_seed(0)
    clean = torch.zeros(1, 1, 1, 256, 256)  # all that is left is noise
    levels = [clean[..., ::4, ::4], clean[..., ::2, ::2], clean]
    noise = torch.randn(clean.shape, generator=rng)
    for stage in (1, 2):
        ended = pyramid.flow_piece(levels, noise, stage - 1, scheduler, rng).end
        draws = torch.randn(*ended.shape[:-2], ended.shape[-2] * 2, ended.shape[-1] * 2, generator=rng)
        joined = next_stage(ended, block_noise(draws, scheduler.gamma), *scheduler.renoise(stage))
        assert abs(joined.std().item() - scheduler.starts[stage]) < 0.02
        neighbours = torch.corrcoef(joined.unflatten(-1, (-1, 2)).reshape(-1, 2).T)[0, 1]
        assert abs(neighbours.item()) < 0.03  # the blocks that the enlarging left are gone
    last = pyramid.flow_piece(levels, noise, 2, scheduler, rng)
    assert torch.equal(last.end, clean)


def test_a_piece_is_straight_and_its_times_are_the_sampler_s() -> None:
    scheduler, rng = PyramidScheduler(), torch.Generator().manual_seed(0)
    levels = [torch.randn(64, 2, 1, side, side, generator=rng) for side in (4, 8, 16)]
    noise = torch.randn(64, 2, 1, 16, 16, generator=rng)
    for stage in range(3):
        piece = pyramid.flow_piece(levels, noise, stage, scheduler, rng)
        share = piece.remaining.view(-1, 1, 1, 1, 1)
        torch.testing.assert_close(piece.point, piece.end + share * piece.velocity)
        schedule = scheduler.schedule(stage, 20)
        assert schedule.timesteps[0] + 1e-3 >= piece.timesteps.max() and piece.timesteps.min() >= schedule.timesteps[-1]


@pytest.mark.parametrize("family", ["miniflux", "sd3"])
def test_the_objective_reaches_every_parameter(family: str) -> None:
    network = transformer(family).train().requires_grad_(True)
    network.enable_gradient_checkpointing()
    rng = torch.Generator().manual_seed(3)
    text = Text(torch.randn(8, 5, 16), torch.ones(8, 5), torch.randn(8, 16))
    loss, figures = pyramid.objective(network, torch.randn(8, 4, 4, 8, 8), text, rng)
    loss.backward()
    stages = {"loss_stage_0", "loss_stage_1", "loss_stage_2"}
    assert stages <= set(figures) <= stages | {f"{stage}_first_unit" for stage in stages}
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("silent", ["attention", "MLP"])
def test_an_sd3_network_begins_as_a_flux_one(silent: str) -> None:
    """The same where both can say the same: tokens of one place, and of a single block's two paths one alone."""
    flux, sd3 = transformer("miniflux").eval(), PyramidMMDiT(**FAMILIES["sd3"][1] | {"num_layers": 3}).eval()
    weights, time = flux.state_dict(), flux.config.axes_dims_rope[0]
    for name, tensor in weights.items():
        if ".norm_" in name:
            tensor[time:] = 0  # the channels that rows and columns turn
    for block in flux.single_transformer_blocks:
        attention, mlp = block.proj_out.weight.data.tensor_split([flux.inner_dim], dim=1)
        (attention if silent == "attention" else mlp).zero_()
        block.proj_out.bias.data.mul_(silent == "MLP")  # what attention adds
    sd3.load_state_dict(sd3_weights(weights, flux.config))
    sd3.pos_embed.pos_embed.zero_()
    rng = torch.Generator().manual_seed(1)
    clips = [torch.randn(2, 4, frames, 2, 2, generator=rng) for frames in (3, 1)]
    states, pooled = torch.randn(2, 3, 16, generator=rng), torch.randn(2, 16, generator=rng)
    times, mask = torch.tensor([900.0, 300.0]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    with torch.no_grad():
        made, wanted = (network(clips, Text(states, mask, pooled), times) for network in (sd3, flux))
    assert wanted.std() > 0.1
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of tensors that the compiler looks at
def test_compiled_blocks_see_the_texts_of_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch captures the blocks as for its compiler and runs what it captured: a second, not a minute."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_(self, backend="eager", **how))
    torch.manual_seed(0)
    network = transformer("miniflux").train().requires_grad_(True)
    text, latents = torch.randn(4, 5, 16), torch.randn(4, 4, 3, 8, 8)
    lengths = [(5, 5, 4, 2), (5, 3, 2, 1)]
    batches = [(Text(text, (torch.arange(5) < torch.tensor(some)[:, None]).float(), text.mean(1))) for some in lengths]

    def losses() -> torch.Tensor:
        rng = torch.Generator().manual_seed(3)
        return torch.stack([pyramid.objective(network, latents, batch, rng)[0] for batch in batches])

    plain = losses().detach()
    pyramid_flow.compile_around_attention(network)
    torch.testing.assert_close(losses().detach(), plain)


def test_the_full_scale_recipe_runs_dry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pyramid-flow-384p", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1,972,059,200 parameters" in said and "latents [4, 16, 16, 48, 80]" in said
    assert "stage 2: up to 2,940 video tokens" in said and "every parameter has a gradient: yes" in said
