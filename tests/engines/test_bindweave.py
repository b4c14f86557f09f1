"""The engine `bindweave` on a tiny model of the real classes: the published order of things, counted, and compared."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from engines.bindweave.engine import BindWeave
from engines.bindweave.spec import NEGATIVE_PROMPT, NEGATIVE_READ_ON
from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.events import Note, Stage
from engines.types import Frames, LatentStep
from engines.validation import build_request
from tests.engines import tiny_bindweave, tiny_wan
from tests.engines.tiny_bindweave import CLIP_TOKENS, CLIP_WIDTH, MLLM_WIDTH, SPEC, TRANSFORMER, BindWeaveContext
from tests.engines.tiny_wan import TEXT_LEN, write

SLOTS, FRAMES = 4, 3  # latent ones of a clip of 9


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_bindweave.write_model(tmp_path_factory.mktemp("bindweave"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    scene = Image.new("RGB", (200, 120), "#335577")
    ImageDraw.Draw(scene).ellipse((70, 30, 130, 90), fill="orange")
    tiny_bindweave.noise(96, 64).save(folder / "noise.png")
    scene.save(folder / "scene.png")
    return [folder / "noise.png", folder / "scene.png"]


def request(pictures: list[Path], *, cut: bool = False, **values: Any) -> Any:
    references = [{"path": str(path), "keep_background": not cut} for path in pictures]
    given = {"model": "tiny", "prompt": "a red star falls", "references": references, "seed": 5}
    return build_request(SPEC, given | values)


def run(context: BindWeaveContext, asked: Any) -> list[Any]:
    return list(BindWeave().generate(asked, context))


def clip(events: list[Any]) -> np.ndarray:
    return np.concatenate([event.pixels for event in events if isinstance(event, Frames)])


def notes(events: list[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


def test_a_clip_from_prompt_and_pictures(files: dict[str, Any], pictures: list[Path]) -> None:
    context = BindWeaveContext(files)
    events = run(context, request(pictures))
    assert [event.name for event in events if isinstance(event, Stage)] == [
        "Reading the prompt",
        "Reading the pictures",
        "Reading prompt and pictures together",
        "Making the video",
        "Decoding",
    ]
    assert [event.index for event in events if isinstance(event, LatentStep)] == [1, 2]
    assert events[-2].pixels.dtype == np.uint8
    assert clip(events).shape == (9, 64, 96, 3)
    assert clip(events).std() > 5
    assert notes(events) == []
    np.testing.assert_array_equal(clip(events), clip(run(BindWeaveContext(files), request(pictures))))
    assert not np.array_equal(clip(events), clip(run(context, request(pictures, seed=6))))


def test_no_encoder_runs_twice_and_what_was_read_is_remembered(files: dict[str, Any], pictures: list[Path]) -> None:
    context = BindWeaveContext(files)

    def counted(**values: Any) -> Counter[str]:
        context.passes.clear()
        run(context, request(pictures, **values))
        return Counter({name: count for name, count in context.passes.items() if name != "transformer"})

    # One pass for each text of each encoder, one for each picture, one for the grey clip; the pictures of the
    # multimodal model are looked at once for both texts.
    assert counted() == Counter(text_encoder=2, image_encoder=2, encoded=3, vision=1, language=2)
    assert counted(seed=9, steps=3) == Counter()
    assert counted(prompt="a blue star falls") == Counter(text_encoder=1, language=1)
    assert counted(prompt="a red star falls", frames=5) == Counter(encoded=1)
    assert counted(width=64) == Counter(image_encoder=2, encoded=3)  # other canvases; the pictures as they are
    assert context.builds == Counter(transformer=1, vae=1, text_encoder=1, image_encoder=1, mllm=1)


def test_without_guidance_the_negative_prompt_is_not_even_read(files: dict[str, Any], pictures: list[Path]) -> None:
    context = BindWeaveContext(files)
    run(context, request(pictures, guidance=1.0))
    assert context.passes["text_encoder"] == context.passes["language"] == 1
    assert context.passes["transformer"] == 2


def seen_by_the_transformer(files: dict[str, Any], asked: Any) -> list[dict[str, torch.Tensor]]:
    """Latents, timestep and all conditions of every pass."""
    context, passes = BindWeaveContext(files), []
    original = context.use

    def use(component: Any, **given: Any) -> Any:
        manager = original(component, **given)
        if component.role == "transformer" and component.key not in context.modules:
            context.modules[component.key] = module = component.build()
            module.register_forward_pre_hook(
                lambda _, args, given: passes.append({"latents": args[0], "timestep": args[1], **given}),
                with_kwargs=True,
            )
        return manager

    context.use = use
    run(context, asked)
    return passes


def test_the_transformer_is_given_what_the_published_code_gives(files: dict[str, Any], pictures: list[Path]) -> None:
    passes = seen_by_the_transformer(files, request(pictures))
    cond, uncond = passes[:2]
    assert [cond["timestep"].tolist(), passes[2]["timestep"].tolist()] == [[999], [749]]
    assert cond["latents"].shape == (1, 4, FRAMES, 16, 24)
    noise = torch.randn(4, FRAMES, 16, 24, generator=torch.Generator().manual_seed(5), dtype=torch.bfloat16)
    torch.testing.assert_close(cond["latents"][0], noise.float())
    for name in ("latents", "clip", "condition"):
        torch.testing.assert_close(cond[name], uncond[name], rtol=0, atol=0)

    condition = cond["condition"][0]
    assert condition.shape == (8, SLOTS + FRAMES, 16, 24)
    assert condition[0, 0].all() and condition[0, 1].any() and not condition[0, 1].all(), "masks of what is filled"
    assert not condition[1:4].any() and not condition[:, 2:SLOTS].any() and not condition[:4, SLOTS:].any()
    vae = tiny_wan.vae().bfloat16().float()  # as its file has it
    mean, deviation = (
        torch.tensor(tiny_wan.VAE[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    grey = (vae.encode(torch.zeros(1, 3, 9, 64, 96)).latent_dist.mode() - mean) / deviation
    torch.testing.assert_close(condition[4:, SLOTS:], grey[0], rtol=1e-4, atol=1e-4)
    assert condition[4:, SLOTS:].abs().max() > 0.01, "grey is not zero"
    first = torch.from_numpy(np.array(Image.open(pictures[0]))).float().permute(2, 0, 1)[None, :, None] / 127.5 - 1
    latent = (vae.encode(first).latent_dist.mode() - mean) / deviation
    torch.testing.assert_close(condition[4:, :1], latent[0], rtol=1e-4, atol=1e-4)

    assert cond["clip"].shape == (1, SLOTS * CLIP_TOKENS, CLIP_WIDTH)
    assert not cond["clip"][:, 2 * CLIP_TOKENS :].any()
    assert cond["text"].shape == uncond["text"].shape == (1, TEXT_LEN, 16)
    assert not cond["text"][0, 5:].any(), "five tokens and zeros"
    assert cond["mllm"].shape[2] == MLLM_WIDTH
    # The negative text has the published words after it, so it is longer.
    assert uncond["mllm"].shape[1] > cond["mllm"].shape[1]


def test_the_published_texts() -> None:
    # Of the reference's own string; in Qwen's vocabulary both texts have the published lengths, 99 and 115 tokens.
    digest = hashlib.sha256((NEGATIVE_PROMPT + NEGATIVE_READ_ON).encode()).hexdigest()
    assert digest == "55c76d0035b8ddfdf29b201e5bcfea9872c9debfa500a154b7609b6f01e12b51"
    assert SPEC.default_values("14B")["negative_prompt"] == NEGATIVE_PROMPT


def test_a_subject_cut_out_is_seen_on_white_with_its_silhouette(files: dict[str, Any], pictures: list[Path]) -> None:
    whole = seen_by_the_transformer(files, request(pictures[1:]))[0]["condition"][0]
    cut = seen_by_the_transformer(files, request(pictures[1:], cut=True))[0]["condition"][0]
    assert set(cut[0, 0].unique().tolist()) == {0.0, 1.0}
    rows, columns = cut[0, 0].any(1).sum(), cut[0, 0].any(0).sum()
    assert cut[0, 0].sum() < 0.9 * rows * columns, "a disc fills less than its box"
    assert cut[0, 0].sum() < whole[0, 0].sum()
    assert not torch.allclose(cut[4:, 0], whole[4:, 0])
    events = run(BindWeaveContext(files), request(pictures[:1], cut=True))
    assert notes(events) == ["No clear subject was found in picture 1: its background was kept."]


def test_what_is_unverified_or_hardly_seen_is_said(files: dict[str, Any], pictures: list[Path], tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "dot.png")
    asked = request([tmp_path / "dot.png"], width=64, prompt="a red star " * 8)
    assert [note.partition(":")[0] for note in notes(run(BindWeaveContext(files), asked))] == [
        "This model was published for 96x64 alone",
        "The prompt is too long for one of this model's encoders",
        "What is used of picture 1 has only 20x20 pixels. It is not enlarged, so a larger picture is seen better.",
    ]


def test_cancelling_leaves_nothing_in_use(files: dict[str, Any], pictures: list[Path]) -> None:
    context = BindWeaveContext(files)
    events = BindWeave().generate(request(pictures), context)
    assert any(isinstance(event, LatentStep) for event in events)
    events.close()
    assert context.in_use == []


@pytest.mark.parametrize(
    ("role", "changes", "sentence"),
    [
        ("transformer", {"mllm_dim": 16}, r"model\.safetensors has 24 channels of states, but other\.safetensors was"),
        ("transformer", {"image_dim": 8}, r"image_encoder\.safetensors has 12 image channels"),
        ("transformer", {"clip_token_len": 257}, r"image_encoder\.safetensors has 5 tokens of a picture"),
        ("transformer", {"in_channels": 9}, r"other\.safetensors has 9 channels for pictures"),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_told_apart(
    role: str, changes: dict[str, Any], sentence: str, files: dict[str, Any], pictures: list[Path], tmp_path: Path
) -> None:
    config = TRANSFORMER | changes
    network = tiny_wan.seeded(lambda: tiny_bindweave.BindWeaveTransformer3DModel(**config))
    other = write(tmp_path / "other.safetensors", network, config, text_len=TEXT_LEN)
    context = BindWeaveContext(files | {role: (other,)})
    with pytest.raises(IncompatibleCheckpoint, match=sentence):
        run(context, request(pictures))
    assert context.builds == Counter(), "nothing was loaded to find this out"


@pytest.mark.parametrize("role", ["transformer", "image_encoder", "mllm", "mllm_tokenizer"])
def test_a_foreign_file_is_named_for_what_it_is(role: str, files: dict[str, Any], pictures: list[Path]) -> None:
    foreign = files["vae"] if role != "mllm_tokenizer" else files["mllm"]
    expected = r"it looks like a Wan video autoencoder" if role != "mllm_tokenizer" else "tokenizer.json"
    with pytest.raises(Exception, match=expected):
        run(BindWeaveContext(files | {role: foreign}), request(pictures))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"references": []}, "Add a reference picture"),
        ({"prompt": " "}, "Write a prompt"),
        ({"guidance": 21}, "Text guidance must be between 0 and 20"),
        ({"frames": 10}, "choose 9 or 13"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(values: dict[str, Any], sentence: str, pictures: list[Path]) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        request(pictures, **values)
    with pytest.raises(InvalidRequest, match="at most 4 reference pictures; you gave 5"):
        request(pictures[:1] * 5)
