"""The Phantom engine on a tiny model of the real classes: what it yields, counts, remembers and leaves behind."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.events import Note, Stage
from engines.phantom_wan.engine import PhantomWan, sample
from engines.phantom_wan.spec import PHANTOM_WAN, PhantomWanRequest
from engines.sampling import guidance
from engines.sampling.denoise import unipc
from engines.types import Frames, LatentStep
from engines.wan import transformer
from engines.wan.weights import NEGATIVE_CHINESE
from tests.engines import tiny_wan
from tests.engines.tiny_wan import CountingContext

STEPS = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return tiny_wan.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def context(files: dict[str, tuple[Path, ...]]) -> CountingContext:
    return CountingContext(files)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    gradient = np.asarray(Image.linear_gradient("L").resize((40, 30)))
    paths = [tmp_path / f"{name}.png" for name in ("red", "blue")]
    for channel, path in enumerate(paths):
        Image.fromarray(np.stack([gradient * (index == channel) for index in range(3)], axis=-1)).save(path)
    return paths


def request(*pictures: Path, **changes: Any) -> PhantomWanRequest:
    values = {
        "prompt": "a red star moves right",
        "references": tuple({"path": path} for path in pictures),
        "width": 32,
        "height": 16,
        "frames": 9,
        "steps": STEPS,
        "seed": 4,
    }
    return PhantomWanRequest(**(values | changes))


def run(context: CountingContext, wanted: PhantomWanRequest) -> list[Any]:
    return list(PhantomWan().generate(wanted, context))


def video(items: list[Any]) -> np.ndarray:
    return np.concatenate([item.pixels for item in items if isinstance(item, Frames)])


def test_a_run_from_pictures_to_frames(context: CountingContext, pictures: list[Path]) -> None:
    items = run(context, request(*pictures))
    names = ["Reading the prompt", "Reading the pictures", "Making the video", "Decoding"]
    assert [item.name for item in items if isinstance(item, Stage)] == names
    steps = [item for item in items if isinstance(item, LatentStep)]
    assert [(step.index, step.total) for step in steps] == [(1, STEPS), (2, STEPS), (3, STEPS)]
    assert all(step.preview().shape == (3, 4, 8, 3) for step in steps)
    assert [len(item.pixels) for item in items if isinstance(item, Frames)] == [1, 4, 4]
    assert video(items).shape == (9, 16, 32, 3) and video(items).dtype == np.uint8
    assert not context.in_use
    assert context.passes == Counter(text_encoder=2, transformer=STEPS) + Counter(vae=0)


def test_a_repeated_run_encodes_nothing(context: CountingContext, pictures: list[Path], files: dict[str, Any]) -> None:
    run(context, request(*pictures))
    later = CountingContext(files)
    later.remembered = context.remembered
    encoded = len(context.remembered)
    run(later, request(*pictures, seed=99, steps=2))
    assert len(later.remembered) == encoded == 4  # two texts, two pictures
    assert later.builds == Counter(transformer=1, vae=1)  # the text encoder is not even loaded


def test_a_changed_picture_is_read_again(context: CountingContext, pictures: list[Path]) -> None:
    before = video(run(context, request(pictures[0])))
    Image.new("RGB", (40, 30), "lime").save(pictures[0])
    assert not np.array_equal(before, video(run(context, request(pictures[0]))))


@pytest.mark.parametrize(
    ("image", "text", "passes"), [(5.0, 7.5, 3), (3.0, 3.0, 2), (2.0, 0.0, 2), (1.0, 4.0, 2), (1.0, 1.0, 1)]
)
def test_unneeded_passes_are_skipped(
    context: CountingContext,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    image: float,
    text: float,
    passes: int,
) -> None:
    monkeypatch.setattr(transformer, "BATCHED_TOKENS", 0)
    run(context, request(pictures[0], image_guidance=image, text_guidance=text))
    assert context.passes["transformer"] == passes * STEPS


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states(*, batched: bool, references: int = 2) -> Iterator[Any]:
    return sample(
        tiny_wan.transformer(),
        noise=draw(4, 3 + references, 4, 6),
        references=draw(4, references, 4, 6, seed=1),
        prompt=draw(12, 16, seed=2),
        negative=draw(12, 16, seed=3),
        weights=guidance.subject(5.0, 7.5),
        scheduler=unipc(STEPS, shift=5.0),
        batched=batched,
    )


@pytest.mark.parametrize("references", [1, 2, 3, 4])
def test_batched_and_single_passes_agree(references: int) -> None:
    for together, apart in zip(
        states(batched=True, references=references), states(batched=False, references=references), strict=True
    ):
        torch.testing.assert_close(together.latents, apart.latents, atol=3e-5, rtol=3e-5)
        assert together.latents.shape == (4, 3 + references, 4, 6)


def test_a_long_prompt_is_cut_with_a_note(context: CountingContext, pictures: list[Path]) -> None:
    for _ in range(2):  # the second time it is remembered, the note too
        items = run(context, request(*pictures, prompt="red star " * 20))
        (note,) = [item for item in items if isinstance(item, Note)]
        assert "first 12 tokens of the prompt" in note.message and '"star red star' in note.message


def test_a_picture_without_a_subject_keeps_its_background(context: CountingContext, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "flat.png")
    wanted = request(references=({"path": tmp_path / "flat.png", "keep_background": False},))
    items = run(context, wanted)
    assert any(isinstance(item, Note) and "picture 1" in item.message for item in items)


def test_published_models_start_with_their_negative_prompt_and_the_starter_with_none() -> None:
    digest = hashlib.sha256(NEGATIVE_CHINESE.encode()).hexdigest()
    assert digest == "ce96e0324e4b54ce4b6e867f669ca520952e1a34cc116543516b1897f0d3c47e"
    values = {model.name: PHANTOM_WAN.default_values(model.name)["negative_prompt"] for model in PHANTOM_WAN.models}
    assert values == {"starter": "", "1.3B": NEGATIVE_CHINESE, "14B": NEGATIVE_CHINESE}


def test_files_that_do_not_belong_together_are_refused(
    files: dict[str, Any], pictures: list[Path], tmp_path: Path
) -> None:
    config = tiny_wan.VAE | {"z_dim": 6, "latents_mean": [0.0] * 6, "latents_std": [1.0] * 6}
    other = tiny_wan.write(tmp_path / "other.safetensors", tiny_wan.vae(config), config)
    with pytest.raises(IncompatibleCheckpoint, match=r"other\.safetensors has 6 latent channels"):
        run(CountingContext(files | {"vae": (other,)}), request(*pictures))
    with pytest.raises(IncompatibleCheckpoint, match=r"vae\.safetensors is not a Wan video transformer"):
        run(CountingContext(files | {"transformer": files["vae"]}), request(*pictures))
    with pytest.raises(MissingWeights, match=r"^tokenizer\.json is not on this machine"):
        run(CountingContext(files | {"tokenizer": (tmp_path / "tokenizer.json",)}), request(*pictures))


def test_an_image_to_video_transformer_is_refused(files: dict[str, Any], pictures: list[Path], tmp_path: Path) -> None:
    config = tiny_wan.TRANSFORMER | {"in_channels": 9}
    network = tiny_wan.seeded(lambda: tiny_wan.WanTransformer3DModel(**config))
    other = tiny_wan.write(tmp_path / "i2v.safetensors", network, config, text_len=12)
    with pytest.raises(IncompatibleCheckpoint, match=r"i2v\.safetensors was made for image-to-video"):
        run(CountingContext(files | {"transformer": (other,)}), request(*pictures))
