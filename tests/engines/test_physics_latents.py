"""Physics latents on a tiny V-JEPA 2: tubelets and windows, what features may see, pooling, statistics, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engines.errors import IncompatibleCheckpoint
from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics import latents
from engines.phantom_physics.encoder import VideoEncoder, pixel_values
from engines.phantom_physics.keys import VIDEO_ENCODER
from engines.phantom_physics.latents import PhysicsSpace, Statistics, Window, encode, normalised, windows
from engines.phantom_physics.picture import best_output_size, cover
from tests.engines import tiny_physics
from tests.engines.tiny_physics import SPACE


def clip(frames: int, *, seed: int = 0, size: tuple[int, int] = (40, 56)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder() -> VideoEncoder:
    return tiny_physics.encoder()


@pytest.mark.parametrize("n", [0, 1, 2, 8, 30])
def test_a_clip_of_4n_plus_1_frames_has_2n_plus_1_tubelets(n: int, encoder: VideoEncoder) -> None:
    frames = 4 * n + 1
    assert latents.tubelet_count(frames) == 2 * n + 1
    assert len(latents.doubled_first(np.zeros((frames, 1)))) == 2 * (2 * n + 1)
    if n < 3:
        assert encode(encoder, clip(frames), SPACE).shape == (tiny_physics.CHANNELS, 2 * n + 1, 2, 2)


def test_windows_cover_every_tubelet_once_and_the_last_ends_with_the_clip() -> None:
    """P11: of 121 frames, tubelets 0 to 31 of the first and the last 29 of the second window."""
    assert windows(61, longest=32) == [Window(0, 32, 0), Window(29, 61, 32)]
    assert windows(32, longest=32) == [Window(0, 32, 0)]
    assert windows(5, longest=32) == [Window(0, 5, 0)]
    for tubelets in range(1, 140):
        found = windows(tubelets, longest=32)
        kept = [index for window in found for index in range(window.first, window.stop)]
        assert kept == list(range(tubelets))
        assert all(stop - start == min(32, tubelets) for start, stop, _ in found)


def test_a_long_clip_is_two_passes_of_the_encoder(encoder: VideoEncoder) -> None:
    """P11: 7 tubelets in windows of 4: the first four of one pass, the last three of another."""
    frames = clip(13)
    made = encode(encoder, frames, SPACE)
    shown = latents.doubled_first(frames)
    parts = []
    for start, stop, skipped in ((0, 8, 0), (6, 14, 1)):
        video = pixel_values(shown[start:stop], size=64)[None]
        features = encoder(video)[0].T.unflatten(1, (4, 4, 4)).detach()
        parts.append(features.unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5))[:, skipped:])
    torch.testing.assert_close(made, torch.cat(parts, 1), atol=1e-6, rtol=1e-5)


def test_given_frames_know_nothing_of_the_future(encoder: VideoEncoder) -> None:
    """P9."""
    one, other, past = clip(13), clip(13), clip(13)
    other[5:] = 255 - other[5:]
    past[4] = 255 - past[4]
    alone = encode(encoder, one[:5], SPACE)
    assert torch.equal(alone, encode(encoder, other[:5], SPACE))
    assert not torch.equal(alone, encode(encoder, past[:5], SPACE))
    # What the rule prevents: features of the whole clip differ in their given part.
    whole, changed = (encode(encoder, frames, SPACE)[:, :3] for frames in (one, other))
    assert not torch.equal(whole, changed) and not torch.equal(whole, alone)


def test_rows_and_columns_are_those_of_the_clip_on_any_grid(encoder: VideoEncoder) -> None:
    """A clip turned on its side has the features of one whose encoder counts rows for columns; a square hides that."""
    ids = encoder.encoder.layer[0].attention
    encoder(torch.zeros(1, 3, 4, 32, 80))
    assert [position.tolist() for position in ids.get_position_ids(torch.zeros(1, 20, 1))] == [
        [index // 10 for index in range(20)],
        [index % 10 // 5 for index in range(20)],
        [index % 5 for index in range(20)],
    ]


def test_half_a_tubelet_is_refused(encoder: VideoEncoder) -> None:
    with pytest.raises(ValueError, match="odd"):
        encode(encoder, clip(4), SPACE)
    with pytest.raises(ValueError, match="3 frames"):
        encoder(torch.zeros(1, 3, 3, 64, 64))


def test_frames_are_squashed_whole(encoder: VideoEncoder) -> None:
    """A mark in any corner of a wide frame counts; the release's own crop would not see it."""
    frames = np.zeros((1, 64, 200, 3), np.uint8)
    marked = frames.copy()
    marked[:, :20, :20] = 255
    for resize, seen in (("squash", True), ("crop", False)):
        difference = pixel_values(marked, size=64, resize=resize) - pixel_values(frames, size=64, resize=resize)
        assert bool(difference.abs().max() > 1) is seen
    assert encode(encoder, frames, SPACE).shape == (tiny_physics.CHANNELS, 1, 2, 2)


def test_statistics_make_every_channel_alike_and_without_them_every_token() -> None:
    features = torch.randn(6, 5, 4, 4) * torch.tensor([1.0, 50, 0.01, 3, 7, 0]).view(-1, 1, 1, 1) + 2
    gathered = Statistics(6)
    for part in features.split(2, dim=1):
        gathered.add(part)
    mean, deviation = gathered.result()
    made = normalised(features, mean, deviation)
    torch.testing.assert_close(made.flatten(1).mean(1), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.flatten(1).std(1, correction=0)[:5], torch.ones(5), atol=1e-3, rtol=0)
    assert not made[5].any()
    plain = normalised(features)
    torch.testing.assert_close(plain.mean(0), torch.zeros(5, 4, 4), atol=1e-5, rtol=0)
    assert torch.equal(normalised(torch.stack([features, features]))[1], plain)
    with pytest.raises(ValueError, match="no clip"):
        Statistics(3).result()


def test_the_latents_side_follows_from_the_space() -> None:
    assert PhysicsSpace().side() == 8
    assert PhysicsSpace(size=384, pool=1).side() == 24


def test_both_published_layouts_of_the_encoder_give_the_same(tmp_path: Path, encoder: VideoEncoder) -> None:
    own = dict(encoder.state_dict())
    early = {name.replace(".attention.q", ".attention.attention.q"): value for name, value in own.items()}
    facebook = {"pos_embed": torch.zeros(1, 4, 24)}
    for name, value in own.items():
        name = name.replace("encoder.embeddings.patch_embeddings", "patch_embed").replace("encoder.layer.", "blocks.")
        name = name.replace("encoder.layernorm", "norm").replace(".attention.", ".attn.")
        facebook[name] = value
    for index in range(2):
        for kind in ("weight", "bias"):
            rows = [facebook.pop(f"blocks.{index}.attn.{part}.{kind}") for part in ("query", "key", "value")]
            facebook[f"blocks.{index}.attn.qkv.{kind}"] = torch.cat(rows)
    published = {"encoder": {f"module.backbone.{key}": value for key, value in facebook.items()}, "predictor": {}}
    published["predictor"]["module.backbone.predictor_embed.weight"] = torch.zeros(2, 2)
    torch.save(published, tmp_path / "vitx.pt")
    save_file(early | {"predictor.proj.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    video = pixel_values(clip(4), size=64)[None]
    for name in ("vitx.pt", "model.safetensors"):
        loaded = load(open_checkpoint([tmp_path / name]), VIDEO_ENCODER, dtype=torch.float32, num_attention_heads=2)
        torch.testing.assert_close(loaded(video), encoder(video))
    save_file({"encoder.embeddings.patch_embeddings.proj.weight": torch.zeros(2, 2)}, tmp_path / "half.safetensors")
    with pytest.raises(IncompatibleCheckpoint, match="with tensors missing"):
        load(open_checkpoint([tmp_path / "half.safetensors"]), VIDEO_ENCODER, dtype=torch.float32)


# The size and the pixels of a given picture


@pytest.mark.parametrize("size", [(1000, 1000), (1920, 1080), (30, 600), (600, 30), (832, 480), (4000, 17)])
@pytest.mark.parametrize("area", [480 * 832, 704 * 1280, 64 * 96])
def test_the_clip_keeps_the_picture_s_shape_within_its_area(size: tuple[int, int], area: int) -> None:
    width, height = best_output_size(*size, area)
    assert width % 32 == height % 32 == 0 and min(width, height) >= 32
    if min(width, height) > 32:
        assert width * height <= area
    assert cover(Image.new("RGB", size), width=width, height=height).size == (width, height)


def test_the_published_sizes_stay_what_they_are() -> None:
    assert best_output_size(832, 480, 480 * 832) == (832, 480)
    assert best_output_size(480, 832, 480 * 832) == (480, 832)
    assert best_output_size(1280, 704, 704 * 1280) == (1280, 704)
