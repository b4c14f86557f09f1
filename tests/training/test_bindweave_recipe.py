"""BindWeave's starter recipe on tiny networks: batches, padding, the start, resume, and a clip from its files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engines.bindweave import spec
from engines.bindweave.conditions import MASK_CHANNELS
from engines.evaluation.product import Product
from engines.loading.store import Store
from engines.qwen.chat import read
from engines.training import networks
from engines.training.bindweave import chat_tokenizer, reading
from engines.training.bindweave import networks as own
from engines.training.files import read_facts, read_network, save_network
from engines.training.latents import Blocks
from engines.training.prepare import fit_latents
from engines.training.recipe import ReferenceMix, Stage
from engines.training.recipes import bindweave, text_to_video, vae
from engines.training.tokens import train_tokenizer
from engines.training.trainer import Trainer
from engines.training.world import WorldConfig

CHANNELS = 8
TINY = {"num_attention_heads": 1, "attention_head_dim": 16, "ffn_dim": 32, "num_layers": 1,
        "in_channels": CHANNELS, "out_channels": CHANNELS}  # fmt: skip
WORLD = WorldConfig(
    width=64, height=48, frames=5, subject_shares=(0.2, 0.8, 0, 0), photo_background=0, told_apart=0.8, own_motions=True
)
MIX = ReferenceMix(none=0.0, one=0.3, two=0.4, many=0.3)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "TRANSFORMER", networks.TRANSFORMER | TINY)
        patch.setattr(own, "LANGUAGE", own.LANGUAGE | {"num_hidden_layers": 1})
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny: None) -> Path:
    """A folder as assets/starter is, with an (untrained) base and autoencoder."""
    folder = tmp_path_factory.mktemp("assets") / "starter"
    folder.mkdir()
    fit_latents(Blocks(8, 4), CHANNELS, clips=8).save(folder / vae.CODE)
    train_tokenizer(vocabulary=720, captions=100).save_pretrained(folder / "tokenizer")
    chat_tokenizer.write(folder / chat_tokenizer.FOLDER, tokenizer=folder / "tokenizer" / "tokenizer.json")
    recipe = dataclasses.replace(
        text_to_video.RECIPE, files=str(folder), start="", train_text=True, compiled=False, text_len=32
    )
    task = text_to_video.build(recipe)
    weights = {name: network.state_dict() for name, network in task.networks().items()}
    weights["text_encoder"].pop("encoder.embed_tokens.weight")
    task.export(folder, weights, {})
    small = {"z_dim": CHANNELS, "base_dim": 8, "decoder_base_dim": 8, "latents_mean": [0.0] * CHANNELS}
    config = networks.VAE | small | {"latents_std": [1.0] * CHANNELS}
    facts = {"class": "AutoencoderKLWan", "config": config}
    save_network(folder / vae.FILE, networks.build_vae(config).state_dict(), facts=facts)
    return folder


@pytest.fixture
def recipe(start: Path) -> bindweave.BindWeaveRecipe:
    stages = (
        Stage(until=2, batch=2, world=dataclasses.replace(WORLD, frames=1), mix=MIX),
        Stage(until=10**9, batch=2, world=WORLD, mix=MIX),
    )
    return dataclasses.replace(
        bindweave.RECIPE, steps=4, minutes=0.0, stages=stages, files=str(start), start=str(start), bfloat16=False,
        compiled=False, text_len=32, decay_share=0.0,
    )  # fmt: skip


def train(recipe: bindweave.BindWeaveRecipe, folder: Path, *, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(recipe, bindweave.build(recipe), folder, workers=0)
    if resume:
        trainer.resume()
    trainer.run()
    return trainer


def test_a_few_steps_make_a_starter_that_is_listed_and_makes_clips(
    recipe: bindweave.BindWeaveRecipe, start: Path, tmp_path: Path
) -> None:
    assert spec.shipped(start) == (), "the starter appears with its files"
    trainer = train(recipe, tmp_path)
    assert {"loss_answers", "answers_right", "loss_2_frames"} <= set(trainer.figures)
    folder = tmp_path / "assets" / "starter"
    folder.mkdir(parents=True)
    for path in [*start.iterdir(), *(tmp_path / "export").iterdir()]:
        (folder / path.name).symlink_to(path)
    (model,) = spec.shipped(folder)
    assert read_facts(folder / "bindweave.safetensors")["vae"] == vae.FILE
    assert Store(assets=folder.parent).state("bindweave", model).state == "bundled"
    assert model.geometry.multiple == 8 and not model.geometry.problems(width=96, height=64, frames=33)
    pictures = tuple(np.full((48, 60, 3), level, np.uint8) for level in (40, 200))
    clips = {}
    for name, shown in (("both", pictures), ("turned", pictures[::-1])):
        product = Product("bindweave", model=model, folder=folder)
        told = {"seed": 1, "width": 64, "height": 48, "frames": 5, "steps": 2}
        clips[name] = product.make("the striped one jumps and the dotted one slides to the right", shown, **told)
    assert clips["both"].shape == (5, 48, 64, 3)
    assert not np.array_equal(clips["both"], clips["turned"])


def test_one_missing_part_leaves_the_starter_out(start: Path, tmp_path: Path) -> None:
    for name in list(spec.STARTER_FILES.values())[:-1]:
        save_network(tmp_path / name, {"x": torch.zeros(1)}, facts={})
    assert spec.shipped(tmp_path) == ()


def test_training_resumes_exactly_in_the_middle_of_the_curriculum(
    recipe: bindweave.BindWeaveRecipe, tmp_path: Path
) -> None:
    whole = train(recipe, tmp_path / "whole")
    train(dataclasses.replace(recipe, steps=1), tmp_path / "parts")
    parts = train(recipe, tmp_path / "parts", resume=True)
    for (name, one), (_, other) in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.equal(one, other), name
    fresh = dict(bindweave.build(recipe).mllm.named_parameters())
    trained = dict(whole.networks["mllm"].named_parameters())
    assert not torch.equal(fresh["lm_head.weight"], trained["lm_head.weight"])


def test_every_trained_network_learns_from_the_clip(recipe: bindweave.BindWeaveRecipe) -> None:
    task = bindweave.build(dataclasses.replace(recipe, asked=0.0))
    torch.nn.init.normal_(task.transformer.proj_out.weight, std=0.1)
    loss, _ = task.loss(task.dataset()[3], torch.Generator().manual_seed(0), step=3)
    loss.backward()
    unused = ("lm_head", "encoder.layers.2", "post_layernorm")
    for role in ("transformer", "mllm", "image_encoder"):
        still = [name for name, p in task.networks()[role].named_parameters() if p.grad is None or not p.grad.any()]
        assert all(any(part in name for part in unused) for name in still), (role, still)
    assert all(p.grad is None for p in task.text_encoder.parameters())


def test_the_start_is_the_base(recipe: bindweave.BindWeaveRecipe, start: Path) -> None:
    task, base = bindweave.build(recipe), networks.build_transformer()
    base.load_state_dict(read_network(start / "wan_t2v.safetensors")[0])
    own_blocks = task.transformer.state_dict()
    assert all(
        torch.equal(own_blocks[name], value) for name, value in base.state_dict().items() if "patch_embed" not in name
    )
    code, pixels = task.clips.code, torch.zeros(1, 3, 5, 16, 16)
    noisy, picture = torch.randn(2, 1, CHANNELS, 1, 2, 2).unbind(0)
    grey, mask = code.encode(pixels)[:, :, 1:], torch.zeros(1, MASK_CHANNELS, 1, 2, 2)
    embed, known = task.transformer.patch_embedding, base.patch_embedding
    seen = embed(torch.cat([noisy, mask, grey], 1))
    torch.testing.assert_close(seen, known(noisy), atol=1e-4, rtol=1e-4)
    mask[:, 0] = 1
    seen = embed(torch.cat([torch.zeros_like(noisy), mask, picture], 1))
    torch.testing.assert_close(seen, known(picture), atol=1e-4, rtol=1e-4)


def test_a_base_of_another_network_is_refused(recipe: bindweave.BindWeaveRecipe, tmp_path: Path) -> None:
    save_network(tmp_path / "wan_t2v.safetensors", {"patch_embedding.weight": torch.zeros(4, 4, 1, 1, 1)}, facts={})
    with pytest.raises(ValueError, match="another network"):
        own.begin_as(own.build_transformer(), read_network(tmp_path / "wan_t2v.safetensors")[0], torch.zeros(CHANNELS))


def test_padding_changes_nothing(recipe: bindweave.BindWeaveRecipe) -> None:
    """A sample in a padded batch is read and denoised as it is alone, when a clip is made."""
    task = bindweave.build(recipe)
    torch.nn.init.normal_(task.transformer.proj_out.weight, std=0.1)
    task.transformer.eval(), task.mllm.eval()
    batch, generator = task.dataset()[3], torch.Generator().manual_seed(0)
    lengths = batch["chat_mask"].sum(1).tolist()
    assert max(lengths) < batch["chat"].shape[1]
    with torch.no_grad():
        together = reading.states(
            task.mllm, batch["chat"], batch["chat_mask"], batch["patches"], batch["grids"]
        )  # fmt: skip
        pictures, first = batch["shown"].tolist(), 0
        noisy = torch.randn(batch["latents"].shape, generator=generator)
        text = torch.randn(2, 32, networks.TEXT_WIDTH, generator=generator)
        clip = task._looks(batch["clip"], batch["shown"])
        task._keep(batch["chat_mask"], clip=clip.shape[1], text=text.shape[1])
        time = torch.tensor([500.0, 500.0])
        told = {"text": text, "clip": clip, "condition": batch["condition"]}
        padded = task.transformer(noisy, time, mllm=together, **told)
        for block in task.transformer.blocks:
            block.attn2.processor.kept = None
        for row, length in enumerate(lengths):
            grids = batch["grids"][first : first + pictures[row]]
            begin = int(batch["grids"][:first].prod(1).sum())
            patches = batch["patches"][begin : begin + int(grids.prod(1).sum())]
            features = torch.cat(task.mllm.model.get_image_features(patches, grids, return_dict=True).pooler_output)
            alone = read(task.mllm, batch["chat"][row : row + 1, :length], features, grids)
            torch.testing.assert_close(together[row, :length], alone, atol=1e-4, rtol=1e-4)
            mine = {name: value[row : row + 1] for name, value in told.items()}
            one = task.transformer(noisy[row : row + 1], time[:1], mllm=alone[None], **mine)
            torch.testing.assert_close(padded[row : row + 1], one, atol=1e-4, rtol=1e-4)
            first += pictures[row]


def test_a_batch_shows_every_subject_and_asks_how_it_moves(recipe: bindweave.BindWeaveRecipe) -> None:
    data = bindweave.build(recipe).dataset()
    words = {token: motion for motion, token in data.answers.items()}
    trait_orders = set()
    for step in range(2, 10):
        batch, again = data[step], data[step]
        assert all(torch.equal(batch[name], again[name]) for name in batch)
        assert batch["condition"].shape[1:3] == (MASK_CHANNELS + CHANNELS, 4 + batch["latents"].shape[2])
        for row, count in enumerate(batch["shown"].tolist()):
            filled = batch["condition"][row, 0].any(dim=(1, 2))
            assert filled[:count].all() and not filled[count:].any(), "the mask marks the filled slots alone"
            assert not batch["condition"][row, :, count:4].any()
            asked = [words[int(token)] for token in batch["moves"][row] if token != reading.UNASKED]
            assert len(set(asked)) == len(asked) and len(asked) in (0, count)
            assert all(batch["chat"][row, end] == data.end for end in batch["ends"][row, :count])
            text = data.chat_tokenizer.decode(batch["chat"][row].tolist())
            if len(asked) == 2 and all(f" {chat_tokenizer.ANSWERS[motion]}" in text for motion in asked):
                places = [text.index(chat_tokenizer.ANSWERS[motion]) for motion in asked]
                trait_orders.add(places == sorted(places))
    assert trait_orders == {True, False}, "pictures come in any order"
    assert set(data[0]) == {"chat", "chat_mask", "patches", "grids", "ends", "moves"}, "reading alone draws no clip"


def test_a_long_prompt_is_cut_and_its_pictures_stay(recipe: bindweave.BindWeaveRecipe) -> None:
    data = bindweave.build(recipe).dataset()
    chat = data._chat("字" * 300, [12, 12, 12])
    assert len(chat) <= 96 and chat.count(data.end) == 3


def test_the_answers_are_told_apart_and_control_tokens_are_one_token_each(start: Path) -> None:
    tokenizer = chat_tokenizer.with_control(start / "tokenizer" / "tokenizer.json")
    assert len(set(chat_tokenizer.answer_ids(tokenizer).values())) == len(chat_tokenizer.ANSWERS)
    for token in (*chat_tokenizer.CONTROL, *chat_tokenizer.FIXED):
        assert len(tokenizer.encode(token, add_special_tokens=False).ids) == 1
    shipped = Path(spec.ASSETS) / "starter"
    made = chat_tokenizer.with_control(shipped / "tokenizer" / "tokenizer.json").to_str()
    assert (shipped / chat_tokenizer.FOLDER / "tokenizer.json").read_text(encoding="utf-8") == made


def test_a_large_picture_is_seen_in_few_tokens(recipe: bindweave.BindWeaveRecipe) -> None:
    from engines.bindweave.reading import reference_patches

    for size in ((64, 64), (144, 96), (1024, 768), (3000, 400)):
        (tokens,) = reference_patches([Image.new("RGB", size)], max_pixels=own.MAX_PIXELS).tokens
        assert 4 <= tokens <= 12
