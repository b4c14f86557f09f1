"""BindWeave's recipe at full size on tiny networks of the published kinds: real videos with masks, resume, dry run."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image

from engines.bindweave.keys import BINDWEAVE
from engines.loading.checkpoints import load, open_checkpoint
from engines.media.video import VideoWriter
from engines.training.__main__ import main
from engines.training.recipes import bindweave_full
from engines.training.recipes.bindweave_full import RECIPE, FullRecipe
from engines.training.trainer import Trainer
from engines.training.video_list import Bucket, write_samples
from tests.engines import tiny_bindweave, tiny_wan

BUCKET = Bucket(width=64, height=32, frames=5, fps=24.0, min_area=1)
BASE = {name: value for name, value in tiny_bindweave.TRANSFORMER.items() if name not in ("mllm_dim", "clip_token_len")}


def write_start(folder: Path) -> None:
    """The folders of the published files: Wan's image-to-video for diffusers, and Qwen."""
    for name in ("transformer", "vae", "text_encoder", "image_encoder", "tokenizer", "qwen", "other"):
        (folder / name).mkdir(parents=True)
    files = tiny_bindweave.write_model(folder / "other")
    (folder / "vae/diffusion_pytorch_model.safetensors").write_bytes(files["vae"][0].read_bytes())
    for role in ("text_encoder", "image_encoder"):
        (folder / role / "model.safetensors").write_bytes(files[role][0].read_bytes())
    (folder / "tokenizer/tokenizer.json").write_bytes(files["tokenizer"][0].read_bytes())
    (folder / "qwen/model.safetensors").write_bytes(files["mllm"][0].read_bytes())
    (folder / "qwen/tokenizer.json").write_bytes(files["mllm_tokenizer"][0].read_bytes())
    base = tiny_wan.seeded(lambda: WanTransformer3DModel(**BASE))
    tiny_wan.write(folder / "transformer/diffusion_pytorch_model.safetensors", base, BASE)


def write_videos(folder: Path) -> None:
    """Two clips of a red square on blue; one tells no subjects."""
    frames = np.zeros((12, 64, 96, 3), np.uint8)
    frames[..., 2] = 200
    frames[:, 16:48, 24:64] = (220, 20, 20)
    samples = []
    for name in ("a", "b"):
        writer = VideoWriter(folder / f"{name}.mp4", fps=24, tags={})
        writer.write(frames)
        writer.close()
        samples.append(
            {"path": str(folder / f"{name}.mp4"), "cap": "A red star", "fps": 24, "num_frames": 12, "bucket": 0}
        )
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 24:64] = 255
    Image.fromarray(mask).save(folder / "square.png")
    samples[0]["subjects"] = [{"frame": 3, "mask": "square.png", "aesthetic": 5.0}]
    write_samples(folder / "clips.lmdb", samples)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> FullRecipe:
    folder = tmp_path_factory.mktemp("start")
    write_start(folder)
    write_videos(folder)
    return dataclasses.replace(
        RECIPE, steps=4, samples=str(folder), start=str(folder), mllm=str(folder / "qwen"), buckets=(BUCKET,),
        text_len=tiny_wan.TEXT_LEN, bfloat16=False, learning_rate=1e-3, scale=0.2,
    )  # fmt: skip


def train(recipe: FullRecipe, folder: Path, *, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(recipe, bindweave_full.build(recipe), folder, workers=0)
    if resume:
        trainer.resume()
    trainer.run()
    trainer.task.dataset().close()
    return trainer


def test_a_run_ends_in_a_checkpoint_that_the_engine_reads_and_resumes_exactly(
    recipe: FullRecipe, tmp_path: Path
) -> None:
    whole = train(recipe, tmp_path / "whole")
    train(dataclasses.replace(recipe, steps=2), tmp_path / "parts")
    parts = train(recipe, tmp_path / "parts", resume=True)
    for (name, one), (_, other) in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.equal(one, other), name
    assert {name.partition(".")[0] for name, _ in whole.parameters} == {"transformer"}
    assert any("text_projector" in name for name, _ in whole.parameters)
    made = tmp_path / "whole/export/diffusion_pytorch_model.safetensors"
    network = load(open_checkpoint([made]), BINDWEAVE, dtype=torch.float32)
    assert network.config.mllm_dim == tiny_bindweave.MLLM_WIDTH
    assert network.config.clip_token_len == tiny_bindweave.CLIP_TOKENS
    assert whole.figures["pictures"] == 1


def test_the_networks_are_shown_the_subject_and_its_silhouette(recipe: FullRecipe) -> None:
    task = bindweave_full.build(recipe)
    data = task.dataset()
    batch, again = data[0], data[0]
    data.close()
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    (seen,), (mask,) = batch["references"], batch["masks"]
    assert seen.shape == (3, 1, 32, 64) and mask.shape == (8, 16), "a latent of this autoencoder is of 4x4 pixels"
    assert 0 < mask.mean() < 1
    inside = torch.nn.functional.interpolate(mask[None, None], (32, 64), mode="nearest")[0, 0] > 0
    red = seen[0, 0] - seen[2, 0]
    assert red[inside].mean() > 1 and abs(float(red[~inside].mean())) < 0.3, "nothing of the blue is left"
    assert seen[:, 0, 0, 0].tolist() == [-1, -1, -1], "black around it"
    assert batch["clip"].shape[-1] == 28 and int((batch["chat"] == 4).sum()) == batch["grids"].prod() // 4


def test_what_is_wrong_is_said_in_a_sentence(
    recipe: FullRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="batch must be 1"):
        bindweave_full.build(dataclasses.replace(recipe, batch=2)).dataset()
    assert main(["bindweave-14b", "--set", f"start={tmp_path}", "--out", str(tmp_path / "run")]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err
    write_start(tmp_path / "start")
    tiny_wan.write(
        tmp_path / "start/transformer/diffusion_pytorch_model.safetensors",
        tiny_wan.transformer(),
        tiny_wan.TRANSFORMER,
    )
    other = dataclasses.replace(recipe, start=str(tmp_path / "start"))
    with pytest.raises(ValueError, match="no image-to-video transformer"):
        bindweave_full.build(other)


def test_the_recipe_is_the_published_one_and_runs_dry(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (RECIPE.steps, RECIPE.learning_rate, RECIPE.betas, RECIPE.eps) == (5000, 1e-5, (0.9, 0.999), 1e-8)
    assert (RECIPE.weight_decay, RECIPE.clip_norm, RECIPE.shift, RECIPE.drop_text) == (5e-3, 1.0, 5.0, 0.0)
    assert (RECIPE.turn, RECIPE.scale, RECIPE.batch, RECIPE.text_len) == (45.0, 1.5, 1, 512)
    with torch.device("meta"):
        whole = bindweave_full.BindWeaveTransformer3DModel(**bindweave_full.WAN_I2V_14B)
        qwen = bindweave_full.Qwen2_5_VLForConditionalGeneration(
            bindweave_full.Qwen2_5_VLConfig(**bindweave_full.QWEN_7B)
        )
    assert sum(p.numel() for p in whole.parameters()) == 16_426_344_256
    assert sum(p.numel() for p in qwen.parameters()) == 8_292_166_656
    monkeypatch.setattr(bindweave_full, "WAN_I2V_14B", bindweave_full.WAN_I2V_14B | {"num_layers": 1})
    monkeypatch.setattr(bindweave_full, "UMT5_XXL", bindweave_full.UMT5_XXL | {"num_layers": 1})
    assert main(["bindweave-14b", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "condition [1, 20, 25, 90, 160], 90,000 tokens" in out and "2,913 tokens" in out
    assert "every parameter has a gradient: yes" in out
