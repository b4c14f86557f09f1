"""The Pyramid Flow engine on tiny models of the real classes: what it yields, remembers, continues and refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.events import Note, Stage
from engines.memory import activations, offload
from engines.pyramid_flow import generation, keys, sizes
from engines.pyramid_flow.attention import Visibility, prefix_attention
from engines.pyramid_flow.coding import StreamingDecoder, encode
from engines.pyramid_flow.components import FAMILIES, PyramidModel
from engines.pyramid_flow.engine import PyramidFlow
from engines.pyramid_flow.noise import block_noise, unit_draws
from engines.pyramid_flow.packing import Text, join
from engines.pyramid_flow.spec import PUBLISHED, PYRAMID_FLOW, PyramidFlowRequest, read_facts
from engines.pyramid_flow.vae import CausalConv3d
from engines.runtime import runner
from engines.types import Frames, LatentStep
from engines.validation import build_request
from tests.engines import tiny_pyramid
from tests.engines.tiny_pyramid import PyramidContext

STEPS, LATER = 2, 1


@pytest.fixture(scope="module", params=["miniflux", "sd3"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return tiny_pyramid.write_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def context(files: dict[str, tuple[Path, ...]]) -> PyramidContext:
    return PyramidContext(files)


@pytest.fixture
def picture(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "first.png"
    Image.radial_gradient("L").resize((90, 50)).convert("RGB").save(path)
    return {"path": path}


def wanted(**changes: Any) -> PyramidFlowRequest:
    values = {
        "model": "tiny", "prompt": "a red star", "width": 64, "height": 64, "frames": 17, "steps": STEPS,
        "later_steps": LATER, "seed": 4,
    }  # fmt: skip
    return PyramidFlowRequest(**(values | changes))


def run(context: PyramidContext, request: PyramidFlowRequest) -> list[Any]:
    return list(PyramidFlow().generate(request, context))


def video(items: list[Any]) -> np.ndarray:
    return np.concatenate([item.pixels for item in items if isinstance(item, Frames)])


def latents(items: list[Any], tmp_path: Path) -> Path:
    *_, last = [item for item in items if isinstance(item, Frames)]
    ((suffix, content),) = last.beside.items()
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content())
    return path


def test_frames_are_handed_out_unit_by_unit(context: PyramidContext) -> None:
    items = run(context, wanted())
    assert [item.name for item in items if isinstance(item, Stage)] == ["Reading the prompt", "Making the video"]
    steps = [item for item in items if isinstance(item, LatentStep)]
    total = 3 * (STEPS + 2 * LATER)
    assert [(step.index, step.total) for step in steps] == [(index, total) for index in range(1, total + 1)]
    assert {step.preview().shape for step in steps} == {(1, 2, 2, 3), (1, 4, 4, 3), (1, 8, 8, 3)}
    kinds = "".join("F" if isinstance(item, Frames) else "s" for item in items if isinstance(item, Frames | LatentStep))
    assert kinds == "ssssssF" + "sssF" + "sssF"
    assert [len(item.pixels) for item in items if isinstance(item, Frames)] == [1, 8, 8]
    assert video(items).shape == (17, 64, 64, 3)
    assert not context.in_use and context.passes["transformer"] == total
    assert context.passes == Counter(text_encoder=2, transformer=total, vae=0)


def test_adapters_are_told_how_much_of_a_unit_is_done_over_all_its_stages(
    context: PyramidContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(generation, "at_step", lambda network, share: shares.append(share))
    run(context, wanted(frames=9))
    first, second = (pytest.approx([index / total for index in range(total)]) for total in (3 * STEPS, 3 * LATER))
    assert shares[: 3 * STEPS] == first and shares[3 * STEPS :] == second


def test_one_seed_is_one_clip_and_a_longer_clip_begins_with_the_shorter(context: PyramidContext) -> None:
    short = video(run(context, wanted(frames=9)))
    torch.manual_seed(99)  # no global state is used
    long = video(run(context, wanted(frames=25)))
    assert np.array_equal(long[:9], short)
    assert np.array_equal(long, video(run(context, wanted(frames=25))))
    assert not np.array_equal(short, video(run(context, wanted(frames=9, seed=5))))


def test_a_continued_clip_is_the_one_never_interrupted(context: PyramidContext, tmp_path: Path) -> None:
    whole = video(run(context, wanted(frames=33)))
    part = latents(run(context, wanted(frames=17)), tmp_path)
    continued = run(context, wanted(frames=33, continues=part))
    assert np.array_equal(whole, video(continued))
    assert {step.total for step in continued if isinstance(step, LatentStep)} == {2 * 3 * LATER}
    kept = load_file(latents(continued, tmp_path))["latents"]
    assert kept.shape == (1, 4, 5, 8, 8)


@pytest.mark.parametrize("spatial", [(True, True, False, False), (True, False, False, False)])
def test_an_autoencoder_says_how_many_pixels_a_latent_stands_for(tmp_path: Path, spatial: tuple[bool, ...]) -> None:
    levels = {"encoder_spatial_down_sample": spatial, "decoder_spatial_up_sample": spatial}
    context = PyramidContext(tiny_pyramid.write_model(tmp_path, **levels))
    items = run(context, wanted(frames=9, width=128))
    assert video(items).shape == (9, 64, 128, 3)
    part = latents(items, tmp_path)
    assert read_facts(part) is not None
    assert len(video(run(context, wanted(frames=17, width=128, continues=part)))) == 17
    with pytest.raises(InvalidRequest, match="another model"):
        run(context, wanted(frames=17, continues=part))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda kept: kept.index_fill(2, torch.tensor([0]), torch.nan), "is damaged"),
        (lambda kept: kept.index_fill(1, torch.tensor([3]), torch.inf), "is damaged"),
        (lambda kept: kept[:, :3], "of another model"),
        (lambda kept: kept.repeat(2, 1, 1, 1, 1), "of another model"),
    ],
)
def test_latents_that_are_no_numbers_or_another_model_s_are_not_gone_on_with(
    change: Any, says: str, context: PyramidContext, tmp_path: Path
) -> None:
    odd = latents(run(context, wanted(frames=9)), tmp_path)
    save_file({"latents": change(load_file(odd)["latents"]).contiguous()}, odd)
    before = context.passes["transformer"]
    with pytest.raises(InvalidRequest, match=says) as refused:
        run(context, wanted(frames=17, continues=odd))
    assert context.passes["transformer"] == before and str(tmp_path) not in str(refused.value)


def test_a_clip_stopped_by_its_user_is_kept_and_continued(context: PyramidContext, tmp_path: Path) -> None:
    def make(job: str, request: PyramidFlowRequest, keep: Any = lambda: False) -> Any:
        events = runner.run(
            tiny_pyramid.SPEC, request, context, output_dir=tmp_path, job_id=job, engine=PyramidFlow(), keep=keep
        )
        return list(events)[-1].result

    whole = make("whole", wanted(frames=25))
    asked = iter(range(100))
    part = make("part", wanted(frames=25), keep=lambda: next(asked) > 3 * (STEPS + LATER) + 4)
    assert part.notes == ("Stopped after 9 of 25 frames.",)
    (kept,) = part.beside
    values = wanted(frames=25).model_dump() | {"continues": kept}
    continued = make("continued", build_request(tiny_pyramid.SPEC, values))
    expected, actual = (load_file(result.beside[0])["latents"] for result in (whole, continued))
    assert torch.equal(expected, actual)
    assert torch.equal(load_file(kept)["latents"], expected[:, :, :2])


def test_a_picture_becomes_the_first_frame(context: PyramidContext, picture: dict[str, Any]) -> None:
    items = run(context, wanted(first_picture=picture))
    assert "Reading the picture" in [item.name for item in items if isinstance(item, Stage)]
    assert context.passes["transformer"] == 2 * 3 * LATER  # frame 0 is not made
    other = run(context, wanted(first_picture=picture, prompt="blue circle"))
    assert np.array_equal(video(items)[0], video(other)[0])
    assert not np.array_equal(video(items)[1:], video(other)[1:])
    encoded = dict(context.builds)
    run(context, wanted(first_picture=picture, seed=9))
    assert context.builds == encoded


def test_a_storyboard_changes_the_prompt_where_its_range_begins(context: PyramidContext) -> None:
    board = "0-0.375: red star\n0.375-1.1: blue circle"
    told = video(run(context, wanted(prompt="", storyboard=board, frames=25)))
    first = video(run(context, wanted(prompt="red star", frames=25)))
    assert np.array_equal(told[:9], first[:9])
    assert not np.array_equal(told[9:], first[9:])
    assert context.builds["text_encoder"] == 1


def test_the_prompt_goes_before_every_scene(context: PyramidContext) -> None:
    told = video(run(context, wanted(prompt="a", storyboard="0-1: red star")))
    assert np.array_equal(told, video(run(context, wanted(prompt="a, red star"))))


def test_a_long_prompt_says_what_is_cut(context: PyramidContext) -> None:
    items = run(context, wanted(prompt="a red star moves right " * 2 + "blue circle falls left"))
    (note,) = [item for item in items if isinstance(item, Note)]
    assert "first 12 tokens" in note.message and '"circle falls left"' in note.message


def test_what_is_cut_is_told_by_the_number_of_its_scene(context: PyramidContext) -> None:
    long = "a red star moves right " * 2 + "blue circle falls left"
    board = f"0-0.375: red star\n0.375-0.75: red star\n0.75-1.1: {long}"
    items = run(context, wanted(prompt="", storyboard=board, frames=25))
    (note,) = [item for item in items if isinstance(item, Note)]
    assert "scene 3" in note.message and '"circle falls left"' in note.message


def test_guidance_zero_needs_one_text_and_scale_one_too(context: PyramidContext) -> None:
    rows: list[int] = []
    run(context, wanted())
    (network,) = [module for key, module in context.modules.items() if key.startswith("transformer")]
    handle = network.register_forward_pre_hook(lambda module, args: rows.append(args[0][-1].shape[0]))
    run(context, wanted(guidance=0.0, video_guidance=1.0))
    handle.remove()
    assert set(rows) == {1}


def test_guidance_zero_turns_it_off_for_later_frames_too(context: PyramidContext) -> None:
    """Published so: pyramid_dit_for_video_gen_pipeline.py guides where guidance_scale is above 0."""
    without = wanted(guidance=0.0, video_guidance=5.0)
    assert PYRAMID_FLOW.passes(without) == 1 and PYRAMID_FLOW.passes(wanted()) == 2
    made = video(run(context, without))
    assert np.array_equal(made, video(run(context, wanted(guidance=0.0, video_guidance=1.0))))
    assert np.array_equal(made, video(run(context, without.model_copy(update={"negative_prompt": "blue"}))))
    assert not np.array_equal(made[9:], video(run(context, wanted(guidance=1.0, video_guidance=5.0)))[9:])


def test_files_of_the_other_family_or_variant_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    class Published(PyramidContext):
        model = replace(PUBLISHED[0], weights=tiny_pyramid.MODEL.weights)

    if "miniflux" in str(files["transformer"][0].parent):
        folder = tmp_path / "diffusion_transformer_768p"
        folder.mkdir()
        moved = folder / "diffusion_pytorch_model.safetensors"
        moved.write_bytes(files["transformer"][0].read_bytes())
        with pytest.raises(IncompatibleCheckpoint, match="in diffusion_transformer_768p is not the one of this model"):
            PyramidModel.find(Published(files | {"transformer": (moved,)}))
    else:
        with pytest.raises(IncompatibleCheckpoint, match="is not a Pyramid Flow transformer of the miniFLUX family"):
            PyramidModel.find(Published(files))
    with pytest.raises(IncompatibleCheckpoint, match="is not a Pyramid Flow autoencoder"):
        PyramidModel.find(PyramidContext(files | {"vae": files["transformer"]}))


def test_float16_is_replaced_with_a_note(context: PyramidContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    context.device = torch.device("cuda")
    note = next(PyramidFlow().generate(wanted(), context))
    assert "float16, which gives black video: float32" in note.message
    model = PyramidModel.find(context)
    assert {network.precision(context).name for network in (model.transformer, model.vae)} == {"float32"}


def dense_attention(query: Any, key: Any, value: Any, visibility: Visibility) -> torch.Tensor:
    """The published way: one mask of length x length."""
    batch, length = query.shape[:2]
    group = torch.zeros(length, dtype=torch.long)
    for index, (begin, end) in enumerate(visibility.groups()):
        group[begin:end] = index
    mask = (group[:, None] >= group[None])[None].repeat(batch, 1, 1)
    for row, padding in enumerate(visibility.padding):
        mask[row, :, :padding] = False
        mask[row, :padding] = False
        mask[row, :padding, :padding] = True
    parts = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask[:, None]).transpose(1, 2)


@pytest.mark.parametrize("padding", [(0, 0), (3, 3), (0, 2), (4, 1, 4), (0, 5, 1, 2)])
def test_key_prefixes_give_what_the_dense_mask_gives(padding: tuple[int, ...]) -> None:
    visibility = Visibility(padding, (9, 13, 20, 36))
    query, key, value = (torch.randn(len(padding), 36, 2, 8) for _ in range(3))
    expected = dense_attention(query, key, value, visibility)
    result = prefix_attention(query, key, value, visibility)
    for row, hidden in enumerate(padding):
        torch.testing.assert_close(result[row, hidden:], expected[row, hidden:], atol=1e-5, rtol=1e-5)
        assert not result[row, :hidden].any()


@pytest.mark.parametrize("family", ["miniflux", "sd3"])
def test_padding_and_later_clips_change_nothing(family: str) -> None:
    network = tiny_pyramid.transformer(family)
    clips = [torch.randn(1, 4, count, side, side) for count, side in ((2, 4), (1, 8))]
    text = Text(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), torch.randn(1, 16))
    alone = network(clips, text, torch.tensor([500.25]))
    longer = Text(torch.randn(1, 9, 16), torch.ones(1, 9, dtype=torch.bool), torch.randn(1, 16))
    both = network([clip.repeat(2, 1, 1, 1, 1) for clip in clips], join([text, longer]), torch.tensor([500.25] * 2))
    torch.testing.assert_close(alone, both[:1], atol=1e-5, rtol=1e-5)


def test_pieces_of_a_video_give_what_the_whole_gives() -> None:
    vae, pixels = tiny_pyramid.vae(), torch.rand(1, 3, 25, 32, 64) * 2 - 1
    whole = encode(vae, pixels, tile=None)
    for window in (8, 16):
        pieces = encode(vae, pixels, tile=None, window=window)
        torch.testing.assert_close(pieces.mean, whole.mean, atol=1e-5, rtol=1e-5)
    decoder = StreamingDecoder()
    parts = torch.cat([decoder(vae, whole.mean[:, :, b:e]) for b, e in ((0, 1), (1, 3), (3, 4))], dim=2)
    assert parts.shape == pixels.shape
    torch.testing.assert_close(parts, vae.decode(whole.mean, {}), atol=1e-5, rtol=1e-5)
    tiles = StreamingDecoder(tile=32)
    streamed = torch.cat([tiles(vae, whole.mean[:, :, index : index + 1]) for index in range(4)], dim=2)
    torch.testing.assert_close(streamed, StreamingDecoder(tile=32)(vae, whole.mean), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(streamed, parts, atol=1e-3)  # tiles were cut
    waiting = StreamingDecoder(tile=32, parked=True)
    parked = torch.cat([waiting(vae, whole.mean[:, :, index : index + 1]) for index in range(4)], dim=2)
    assert torch.equal(parked, streamed)
    held = sum(kept.numel() for tile in tiles._caches.values() for kept in tile.values())
    assert activations.pyramid_remembered(vae.config, wide=64, high=32, tile=32)[0] == held


def test_block_noise_has_the_published_covariance() -> None:
    for gamma in (1 / 3, 0.2):
        noise = block_noise(unit_draws(1, 0)((20_000, 2, 2)), gamma).flatten(1)
        expected = (1 + gamma) * torch.eye(4) - gamma
        torch.testing.assert_close(torch.cov(noise.T), expected, atol=0.04, rtol=0)
    assert block_noise(unit_draws(1, 0)((3, 8, 6)), 1 / 3).unflatten(-1, (-1, 2)).shape == (3, 8, 3, 2)


@pytest.mark.parametrize(
    ("shift", "stages"),  # starts, ends, first and last training timestep of the reference's scheduler
    [
        (1.0, [(1.0, 0.667, 1000.0, 744.256), (0.80024, 0.334, 744.0, 386.358), (0.50075, 0.0, 386.0, 1.385)]),
        (3.0, [(1.0, 0.85733, 1000.0, 957.74304), (0.92318, 0.60072, 957.70074, 829.28766),
               (0.75056, 0.0, 829.15912, 3.82018)]),
        (0.5, [(1.0, 0.50038, 1000.0, 445.64161), (0.667, 0.20048, 445.0867, 147.74457),
               (0.334, 0.0, 147.44693, 0.6472)]),
    ],
)  # fmt: skip
def test_a_shifted_grid_moves_timesteps_and_sigmas(shift: float, stages: list[tuple[float, ...]]) -> None:
    scheduler = generation.PyramidScheduler(shift=shift)
    for stage, expected in enumerate(stages):
        timesteps = scheduler.training_timesteps(stage)
        made = (scheduler.starts[stage], scheduler.ends[stage], timesteps[0], timesteps[-1])
        assert made == pytest.approx(expected, abs=6e-6 * 1000)
        assert scheduler.schedule(stage, 5).timesteps[[0, -1]].tolist() == pytest.approx(expected[2:], abs=1e-4)


@pytest.mark.parametrize(("side", "passes"), [(32, 2), (128, 2), (128, 1), (144, 2)])
def test_the_longest_call_is_what_is_reserved(side: int, passes: int) -> None:
    """Few tokens: both passes in one batch, the longest history last; many: one pass at a time, or a shorter one."""
    calls: list[int] = []
    for units in range(1, 32):
        finished = torch.zeros(1, 1, units - 1, side, side) if units > 1 else None
        for stage, past in enumerate(generation.past_of(finished, generation.PyramidScheduler())):
            own = (side >> (2 - stage)) ** 2
            tokens = (sum(clip.shape[2:].numel() for clip in past) + own) // 4
            calls.append((passes if tokens <= sizes.BATCHED_TOKENS else 1) * (tokens + 128))
        assert sizes.most_tokens(side**2 // 4, units=units, passes=passes, text=128) == max(calls)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 1, 1)])
def test_a_causal_convolution_is_the_published_one_however_it_is_computed(stride, grad: bool) -> None:
    layer, video = CausalConv3d(3, 5, stride=stride), torch.randn(1, 3, 5, 6, 8)
    conv = layer.conv
    whole = torch.nn.functional.conv3d(
        torch.nn.functional.pad(video, (1, 1, 1, 1, 2, 0)), conv.weight, conv.bias, conv.stride
    )
    with torch.set_grad_enabled(grad):
        pieces, given = {}, video.clone()
        parts = [layer(piece, pieces) for piece in given.split([1, 2, 2], dim=2)]
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer(given, {}), whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(given, video), "what is handed in stays as it is"


@torch.no_grad()
@pytest.mark.parametrize("family", ["miniflux", "sd3"])
def test_blocks_that_take_turns_on_the_device_give_the_same(family: str) -> None:
    clips = [torch.randn(1, 4, count, side, side) for count, side in ((2, 4), (1, 8))]
    text = Text(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), torch.randn(1, 16))
    network, vae = tiny_pyramid.transformer(family), tiny_pyramid.vae()
    latents = torch.randn(1, 4, 2, 4, 4)
    expected = network(clips, text, torch.tensor([500.25])), vae.decode(latents, {})
    for module, architecture in ((network, FAMILIES[family].transformer), (vae, keys.VAE)):
        offload.group(module, architecture.blocks, device=torch.device("cpu"))
    assert torch.equal(network(clips, text, torch.tensor([500.25])), expected[0])
    assert torch.equal(StreamingDecoder()(vae, latents[:, :, :1]), vae.decode(latents[:, :, :1], {}))
    torch.testing.assert_close(vae.decode(latents, {}), expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["miniflux", "sd3"])
def test_bfloat16_stays_near_float32(family: str) -> None:
    network = tiny_pyramid.transformer(family)
    clips = [torch.randn(1, 4, count, side, side) for count, side in ((2, 4), (1, 8))]
    text = Text(torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), torch.randn(1, 16))
    exact = network(clips, text, torch.tensor([971.58]))
    half = torch.bfloat16
    rounded = network.to(half)([clip.to(half) for clip in clips], text.on(network.device, half), torch.tensor([971.58]))
    assert rounded.dtype == half
    assert (rounded - exact).abs().max() < 0.06 * exact.abs().max()
