"""FlashI2V on a tiny model of the real classes: Fourier maths, both flavours' keys, the shifted loop, the engine."""

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.events import Note, Stage
from engines.flashi2v.engine import FlashI2V, cover, fourier_ratio, sample
from engines.flashi2v.keys import FLASHI2V, MAIN, NPU
from engines.flashi2v.network import FlashI2VTransformer3DModel, ShiftProjection, fourier_features
from engines.flashi2v.spec import FlashI2VRequest
from engines.loading.checkpoints import load, open_checkpoint
from engines.registry import SPECS
from engines.sampling.denoise import euler
from engines.sampling.guidance import text_weights
from engines.types import Frames, LatentStep
from engines.validation import build_request
from engines.wan import transformer
from engines.wan.components import WanModel
from engines.wan.transformer import predict
from tests.engines import tiny_flashi2v, tiny_wan
from tests.engines.tiny_flashi2v import KERNELS, draw
from tests.engines.tiny_flashi2v import transformer as tiny
from tests.engines.tiny_wan import TRANSFORMER, CountingContext

STEPS = 3


def published_names(network: FlashI2VTransformer3DModel, flavour: str) -> dict[str, torch.Tensor]:
    """The network's tensors under the names of a published file, by the table of the specification."""
    rules = [
        (r"^patch_embedding\.fourier_embedding\.", "fourier_embedding."),
        (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
        (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
        (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
        (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
        (r"^condition_embedder\.time_proj", "time_projection.1"),
        (r"attn1\.", "self_attn."),
        (r"attn2\.", "cross_attn."),
        (r"_attn\.to_out\.0", "_attn.o"),
        (r"_attn\.to_([qkv])", r"_attn.\1"),
        (r"\.norm2\.", ".norm3."),
        (r"ffn\.net\.0\.proj", "ffn.0"),
        (r"ffn\.net\.2", "ffn.2"),
        (r"^(blocks\.\d+)\.scale_shift_table", r"\1.modulation"),
        (r"^scale_shift_table", "head.modulation"),
        (r"^proj_out", "head.head"),
    ]
    rules += {
        "main": [(r"^learnable_proj\.", "learnable_proj.proj.")],
        "npu": [
            (r"^text_embedding\.0", "text_embedding.linear_1"),
            (r"^text_embedding\.2", "text_embedding.linear_2"),
            (r"_attn\.([qkv])\.", r"_attn.proj_\1."),
            (r"_attn\.o\.", "_attn.proj_out."),
            (r"_attn\.norm_([qk])", r"_attn.\1_norm"),
        ],
    }[flavour]
    tensors = {}
    for key, value in network.state_dict().items():
        for pattern, name in rules:
            key = re.sub(pattern, name, key)
        tensors[key] = value
    return tensors


HEADS = {"num_attention_heads": TRANSFORMER["num_attention_heads"], "attention_head_dim": 16}


# Fourier guidance


def test_features_are_those_of_a_mask_made_one_bin_at_a_time() -> None:
    latent = draw(2, 3, 7, 10)
    for ratio in (0.1, 0.5, 0.9):
        expected = []
        for values in latent.numpy():
            spectrum = np.fft.fftshift(np.fft.fft2(values), axes=(1, 2))
            strength = np.abs(spectrum).mean(0)
            bins = sorted((np.hypot(i - 3, j - 5), i, j) for i in range(7) for j in range(10))
            reached = np.cumsum([strength[i, j] for _, i, j in bins])
            radius = bins[int(np.argmax(reached >= ratio * strength.sum()))][0]
            for far, i, j in bins:
                if far < radius:
                    spectrum[:, i, j] = 0
            expected.append(np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2)))))
        torch.testing.assert_close(
            fourier_features(latent, ratio), torch.from_numpy(np.stack(expected)).float(), atol=2e-6, rtol=1e-5
        )


def test_ratio_0_keeps_all_but_the_sign_and_a_higher_one_keeps_less() -> None:
    latent = draw(1, 4, 6, 8)
    torch.testing.assert_close(fourier_features(latent, 0.0), latent.abs(), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(fourier_features(latent, 0.0, magnitude=False), latent, atol=2e-6, rtol=1e-5)
    kept = [float(fourier_features(latent, ratio).square().sum()) for ratio in (0.0, 0.1, 0.5, 0.9, 1.0)]
    assert kept == sorted(kept, reverse=True) and kept[-1] > 0


def test_a_flat_picture_has_no_features_and_every_sample_its_own_ratio() -> None:
    assert fourier_features(torch.full((1, 2, 6, 6), 3.0), cutoff=1.0).max() < 1e-5
    both = fourier_features(draw(2, 3, 6, 6), torch.tensor([0.1, 0.8]))
    torch.testing.assert_close(both[:1], fourier_features(draw(2, 3, 6, 6)[:1], 0.1))
    torch.testing.assert_close(both[1:], fourier_features(draw(2, 3, 6, 6)[1:], 0.8))


def test_detail_is_the_published_ratio_turned_round() -> None:
    assert (fourier_ratio(0.9), fourier_ratio(1.0), fourier_ratio(0.0)) == (0.1, 0.0, 1.0)


# The shift


def test_kernels_through_time_see_the_padding_at_both_ends() -> None:
    first = draw(1, 4, 1, 5, 6)
    for kernel, same in (((1, 3, 3), True), ((3, 3, 3), False)):
        projection = tiny_wan.seeded(lambda kernel=kernel: ShiftProjection(4, width=8, kernel=kernel))
        projection[2].weight.copy_(draw(*projection[2].weight.shape))
        shift = projection.shift(first, 7)
        assert shift.shape == (1, 4, 7, 5, 6)
        torch.testing.assert_close(shift[:, :, 2], shift[:, :, 4])
        assert torch.allclose(shift[:, :, 0], shift[:, :, 3], atol=1e-5) is same
        assert torch.allclose(shift, projection.shift(first, 1).expand_as(shift), atol=1e-5) is same


def test_a_fresh_network_is_its_text_to_video_base() -> None:
    base = tiny_wan.transformer()
    network = tiny_wan.seeded(lambda: FlashI2VTransformer3DModel(**TRANSFORMER))
    network.load_state_dict(base.state_dict(), strict=False)
    latents, text, timestep = draw(1, 4, 3, 4, 6), draw(1, 12, 16), torch.tensor(500.0)
    shift, features = network.shift_and_features(draw(1, 4, 1, 4, 6, seed=1), frames=3, ratio=0.1)
    assert not shift.any() and features.any()
    torch.testing.assert_close(
        predict(network, torch.cat([latents - shift, features], 1), timestep, text),
        predict(base, latents, timestep, text),
    )


def test_variants_leave_out_what_they_say() -> None:
    first = draw(1, 4, 1, 4, 6)
    shift, features = tiny(variant="concatenation").shift_and_features(first, frames=3, ratio=0.1)
    assert not shift.any() and torch.equal(features, first.expand(-1, -1, 3, -1, -1))
    shift, features = tiny(variant="shift").shift_and_features(first, frames=3, ratio=0.1)
    assert shift.any() and not features.any()


@pytest.mark.parametrize("flavour", KERNELS)
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_loop_is_the_shifted_one_in_other_coordinates(flavour: str, scale: float) -> None:
    """The paper's loop carries z = x - phi, steps it by the same velocity and adds phi back at the end."""
    network, noise, first = tiny(flavour), draw(4, 3, 4, 6), draw(4, 1, 4, 6, seed=1)
    prompt, negative = draw(12, 16, seed=2), draw(12, 16, seed=3)
    *_, last = sample(
        network, noise=noise, first=first, prompt=prompt, negative=negative, weights=text_weights(scale), ratio=0.1,
        scheduler=euler(STEPS, shift=7.0), batched=True,
    )  # fmt: skip
    grid = [7 * s / (1 + 6 * s) for s in (1 - index / STEPS for index in range(STEPS + 1))]
    phi, features = network.shift_and_features(first[None], frames=3, ratio=0.1)
    z = noise[None] - phi
    for now, then in itertools.pairwise(grid):
        made = [
            predict(network, torch.cat([z, features], 1), torch.tensor(1000 * now), text[None])
            for text in (prompt, negative)
        ]
        z = z + (then - now) * (made[1] + scale * (made[0] - made[1]))
    torch.testing.assert_close(last.latents, (z + phi)[0], atol=2e-4, rtol=1e-4)
    assert (last.latents - z[0]).abs().max() > 0.01  # forgetting phi would be seen


def test_passes_one_by_one_give_the_same() -> None:
    def states(batched: bool) -> Any:
        return sample(
            tiny(), noise=draw(4, 3, 4, 6), first=draw(4, 1, 4, 6, seed=1), prompt=draw(12, 16, seed=2),
            negative=draw(12, 16, seed=3), weights=text_weights(5.0), ratio=0.1, scheduler=euler(STEPS, shift=7.0),
            batched=batched,
        )  # fmt: skip

    for together, apart in zip(states(True), states(False), strict=True):
        torch.testing.assert_close(together.latents, apart.latents, atol=3e-5, rtol=3e-5)


# Files


@pytest.mark.parametrize("flavour", KERNELS)
def test_both_flavours_are_recognised_by_their_keys(flavour: str, tmp_path: Path) -> None:
    network = tiny(flavour)
    tensors = published_names(network, flavour)
    assert FLASHI2V.layout(tensors) is {"main": MAIN, "npu": NPU}[flavour]
    save_file(tensors, tmp_path / "any.safetensors")
    loaded = load(open_checkpoint([tmp_path / "any.safetensors"]), FLASHI2V, dtype=torch.float32, **HEADS)
    assert tuple(loaded.config.projection_kernel) == KERNELS[flavour]
    seen = draw(1, 8, 3, 4, 6)
    arguments = (seen, torch.tensor(437.5), draw(1, 12, 16))
    torch.testing.assert_close(predict(loaded, *arguments), predict(network, *arguments))


def test_of_a_training_file_the_average_is_taken_and_leftovers_are_dropped(tmp_path: Path) -> None:
    average = published_names(tiny("npu"), "npu")
    raw = {name: value + 1 for name, value in average.items()}
    average["blocks.0.self_attn.proj_q._extra_state"] = torch.zeros(1)
    torch.save({"iteration": 7, "model": raw, "ema_model": average}, tmp_path / "release.pt")
    loaded = load(open_checkpoint([tmp_path / "release.pt"]), FLASHI2V, dtype=torch.float32, **HEADS)
    assert torch.equal(loaded.patch_embedding.weight, average["patch_embedding.weight"])


@pytest.mark.parametrize("flavour", KERNELS)
@pytest.mark.parametrize("part", ["learnable_proj", "fourier_embedding"])
def test_a_file_without_one_of_the_picture_s_paths_is_refused(flavour: str, part: str, tmp_path: Path) -> None:
    tensors = {k: v for k, v in published_names(tiny(flavour), flavour).items() if not k.startswith(part)}
    save_file(tensors, tmp_path / "half.safetensors")
    with pytest.raises(IncompatibleCheckpoint, match=rf"4 missing \(.*{part}"):
        load(open_checkpoint([tmp_path / "half.safetensors"]), FLASHI2V, dtype=torch.float32, **HEADS)


@pytest.mark.parametrize("flavour", KERNELS)
def test_a_text_to_video_file_is_refused(flavour: str, tmp_path: Path) -> None:
    tensors = {
        key: value
        for key, value in published_names(tiny(flavour), flavour).items()
        if not key.startswith(("learnable_proj", "fourier_embedding"))
    }
    save_file(tensors, tmp_path / "t2v.safetensors")
    with pytest.raises(IncompatibleCheckpoint, match=r"t2v\.safetensors is not a FlashI2V transformer"):
        load(open_checkpoint([tmp_path / "t2v.safetensors"]), FLASHI2V, dtype=torch.float32, **HEADS)


# The engine


@pytest.fixture(scope="module", params=KERNELS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return tiny_flashi2v.write_model(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture
def context(files: dict[str, tuple[Path, ...]]) -> CountingContext:
    return CountingContext(files)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    gradient = np.asarray(Image.linear_gradient("L").resize((60, 40)))
    Image.fromarray(np.stack([gradient, gradient // 2, 255 - gradient], -1)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def request(path: Path, **changes: Any) -> FlashI2VRequest:
    values = {
        "prompt": "a red star moves right",
        "picture": {"path": path},
        "width": 32,
        "height": 16,
        "frames": 9,
        "steps": STEPS,
        "seed": 4,
    }
    return FlashI2VRequest(**(values | changes))


def run(context: CountingContext, wanted: FlashI2VRequest) -> list[Any]:
    return list(FlashI2V().generate(wanted, context))


def video(items: list[Any]) -> np.ndarray:
    return np.concatenate([item.pixels for item in items if isinstance(item, Frames)])


def test_a_run_from_a_picture_to_frames(context: CountingContext, picture: Path) -> None:
    items = run(context, request(picture))
    names = ["Reading the prompt", "Reading the picture", "Making the video", "Decoding"]
    assert [item.name for item in items if isinstance(item, Stage)] == names
    steps = [item for item in items if isinstance(item, LatentStep)]
    assert [(step.index, step.total) for step in steps] == [(1, STEPS), (2, STEPS), (3, STEPS)]
    assert all(step.preview().shape == (3, 4, 8, 3) for step in steps)
    assert video(items).shape == (9, 16, 32, 3) and video(items).dtype == np.uint8
    assert not context.in_use and torch.is_grad_enabled()
    assert context.passes == Counter(text_encoder=2, transformer=STEPS) + Counter(vae=0)
    assert np.array_equal(video(items), video(run(context, request(picture))))


def test_guidance_of_one_or_less_needs_one_pass(
    context: CountingContext, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "BATCHED_TOKENS", 0)
    run(context, request(picture))
    assert context.passes["transformer"] == 2 * STEPS
    one = video(run(context, request(picture, guidance=1.0)))
    assert np.array_equal(one, video(run(context, request(picture, guidance=0.0))))
    assert context.passes["transformer"] == 4 * STEPS


def test_a_picture_much_smaller_than_the_clip_gets_a_note(context: CountingContext, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "small.png")
    items = run(context, request(tmp_path / "small.png", width=64, height=32))
    assert [item.message for item in items if isinstance(item, Note)] == [
        "The picture of 16x16 pixels is enlarged 4.0 times: a larger one gives a sharper clip."
    ]


def test_a_text_to_video_model_is_refused_before_it_ignores_the_picture(
    files: dict[str, tuple[Path, ...]], picture: Path, tmp_path: Path
) -> None:
    wrong = CountingContext(files | {"transformer": tiny_wan.write_model(tmp_path)["transformer"]})
    with pytest.raises(IncompatibleCheckpoint, match=r"is not a FlashI2V transformer: it looks like a Wan"):
        run(wrong, request(picture))


@pytest.mark.parametrize("flavour", KERNELS)
def test_published_files_bring_their_way_of_resizing(
    flavour: str, files: dict[str, tuple[Path, ...]], tmp_path: Path
) -> None:
    save_file(published_names(tiny(flavour), flavour), tmp_path / "published.safetensors")
    here = CountingContext(files | {"transformer": (tmp_path / "published.safetensors",)})
    model = WanModel.find(here, transformer_kind=FLASHI2V)
    assert model.transformer.config["interpolation"] == {"main": "bicubic", "npu": "bilinear"}[flavour]


# Pictures


@pytest.mark.parametrize("size", [(30, 90), (300, 40), (17, 17), (640, 480)])
def test_a_picture_is_never_stretched(size: tuple[int, int]) -> None:
    """A checkerboard keeps square fields: its period is the same along both axes."""
    side = min(size) // 2
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    disc = ((x - size[0] / 2) ** 2 + (y - size[1] / 2) ** 2 < (0.8 * side) ** 2).astype(np.uint8) * 255
    for interpolation in ("bicubic", "bilinear"):
        seen = cover(np.stack([disc] * 3, -1), width=96, height=96, interpolation=interpolation)[..., 0] > 127
        assert seen.shape == (96, 96)
        across, down = seen.any(0).sum(), seen.any(1).sum()
        assert abs(int(across) - int(down)) <= max(2, 96 // min(size))


def test_the_crop_lies_where_it_is_put() -> None:
    ramp = np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    left, middle, right = (cover(ramp, width=32, height=32, position=at).mean() for at in (0.0, 0.5, 1.0))
    assert left < middle - 50 and middle < right - 50


def sentences(**values: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPECS["flashi2v"], {"prompt": "a star falls", **values})
    return {problem.field: problem.message for problem in caught.value.problems}


def test_bad_requests_get_one_sentence_each(tmp_path: Path, picture: Path) -> None:
    assert "it becomes the first frame" in sentences()["picture"]
    assert "no picture" in sentences(picture={"path": tmp_path / "gone.png"})["picture"]
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    assert "only 8x8 pixels" in sentences(picture={"path": tmp_path / "tiny.png"})["picture"]
    Image.new("L", (17_000, 20)).save(tmp_path / "huge.png")
    assert "17,000x20 pixels" in sentences(picture={"path": tmp_path / "huge.png"})["picture"]
    assert "Write a prompt" in sentences(prompt=" ", picture={"path": picture})["prompt"]
    assert "between 0 and 1" in sentences(picture={"path": picture}, detail=1.5)["detail"]
    assert "background" in sentences(picture={"path": picture, "keep_background": False})["picture"]
    assert "33 or 37" in sentences(picture={"path": picture}, frames=35)["frames"]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "I;16", "turned"])
def test_odd_pictures_are_read_as_they_are_seen(context: CountingContext, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "odd.png"
    if mode == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # held on its side
        Image.new("RGB", (40, 60), "red").save(path, exif=exif)
    elif mode == "I;16":
        Image.fromarray(np.full((40, 60), 40_000, np.uint16)).save(path)
    else:
        Image.linear_gradient("L").resize((60, 40)).convert(mode).save(path)
    assert video(run(context, request(path))).shape == (9, 16, 32, 3)
