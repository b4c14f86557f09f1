"""The trainer with a tiny network: exact resume, files with their recipe inside, settings, schedule."""

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from engines.evaluation import cases, long_clips, own_motions, picture_clips
from engines.training import networks
from engines.training import trainer as trainer_module
from engines.training.__main__ import main
from engines.training.data import own_numbers
from engines.training.files import read_facts, read_network
from engines.training.latents import Blocks
from engines.training.optimizers import Optimizers
from engines.training.prepare import fit_latents
from engines.training.recipe import ReferenceMix, Stage, with_settings
from engines.training.recipes import recipe_module, text_to_video, vae
from engines.training.recipes.vae import VaeRecipe, VaeTask
from engines.training.tokens import load_tokenizer, train_tokenizer
from engines.training.trainer import Trainer, learning_rate
from engines.training.world import WorldConfig
from engines.training.world.clip import generator

TINY = {
    "num_attention_heads": 1,
    "attention_head_dim": 16,
    "ffn_dim": 32,
    "num_layers": 1,
    "in_channels": 8,
    "out_channels": 8,
}
WORLD = WorldConfig(width=32, height=32, frames=5, two_subjects=0, photo_background=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    fit_latents(Blocks(8, 4), 8, clips=12).save(folder / vae.CODE)
    train_tokenizer(vocabulary=600, captions=200).save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture
def recipe(files, monkeypatch):
    monkeypatch.setattr(networks, "TRANSFORMER", networks.TRANSFORMER | TINY)
    stage = Stage(until=10**9, batch=2, world=WORLD, mix=ReferenceMix(none=1, one=1))
    return dataclasses.replace(
        text_to_video.RECIPE,
        start="",
        train_text=True,
        steps=6,
        minutes=0.0,
        stages=(stage,),
        files=str(files),
        bfloat16=False,
        compiled=False,
        text_len=24,
    )


def _run(recipe, folder, *, stop_at: int | None = None, resume: bool = False) -> Trainer:
    torch.manual_seed(0)
    trainer = Trainer(recipe, text_to_video.build(recipe), folder, workers=0)
    if resume:
        trainer.resume()
    if stop_at is not None:
        update = trainer._update

        def stopping(batch):
            update(batch)
            trainer.stopping = trainer.step + 1 >= stop_at

        trainer._update = stopping
    trainer.run(log_every=1)
    return trainer


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_unbroken_one(recipe, monkeypatch, tmp_path, optimizer):
    monkeypatch.setattr(trainer_module, "half_precision", lambda device: torch.bfloat16)
    recipe = dataclasses.replace(recipe, optimizer=optimizer)
    whole = _run(recipe, tmp_path / "whole")
    _run(recipe, tmp_path / "parts", stop_at=3)
    parts = _run(recipe, tmp_path / "parts", resume=True)
    assert parts.step == whole.step == 6
    for (name, a), (_, b) in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.equal(a, b), name
        assert torch.equal(whole.average[name], parts.average[name])


def test_muon_makes_the_updates_of_matrices_in_blocks_orthogonal():
    torch.manual_seed(0)
    network = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(6, 6)]), "head": nn.Linear(6, 6)})
    parameters = list(network.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters}
    optimizers = Optimizers(parameters, name="muon", betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, fused=False)
    for _, parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    network["blocks"][0].weight.grad = torch.diag(torch.tensor([1.0, 0.5, 0.3, 0.2, 0.1, 0.1]))
    optimizers.step(0.01)
    changes = {name: p.detach() - before[name] for name, p in parameters}
    inside = torch.linalg.svdvals(changes["blocks.0.weight"] / (0.01 * 0.2 * 6**0.5))
    assert inside[-1] > 0.6 and inside[0] < 1.3  # Newton-Schulz leaves singular values near 1
    torch.testing.assert_close(changes["head.weight"].abs(), torch.full((6, 6), 0.01), rtol=0.01, atol=0)


def test_a_run_keeps_its_optimizer(recipe, monkeypatch, tmp_path):
    _run(recipe, tmp_path, stop_at=1)
    monkeypatch.setattr(trainer_module, "half_precision", lambda device: torch.bfloat16)
    with pytest.raises(ValueError, match="begun without Muon"):
        _run(dataclasses.replace(recipe, optimizer="muon"), tmp_path, resume=True)


def test_a_signal_to_all_of_the_group_does_not_reach_those_that_draw(recipe, tmp_path):
    trainer = Trainer(dataclasses.replace(recipe, steps=2), text_to_video.build(recipe), tmp_path, workers=1)
    update, groups = trainer._update, set()

    def observed(batch):
        groups.update(os.getpgid(child.pid) for child in multiprocessing.active_children())
        update(batch)

    trainer._update = observed
    trainer.run()
    assert groups and os.getpgrp() not in groups


def test_a_signal_to_the_drawing_processes_too_saves_what_there_is(recipe, tmp_path):
    cv2.setNumThreads(4)  # as where flow was measured before: threads that a fork does not take along
    flat = np.zeros((500, 500), np.uint8)
    cv2.calcOpticalFlowFarneback(flat, flat, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    torch.manual_seed(0)
    trainer = Trainer(dataclasses.replace(recipe, steps=1000), text_to_video.build(recipe), tmp_path, workers=1)
    update = trainer._update

    def signalled(batch):
        update(batch)
        if trainer.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            for child in multiprocessing.active_children():
                child.terminate()
            for child in multiprocessing.active_children():
                child.join()
            trainer._told_to_stop = lambda: False  # it came while a batch was awaited

    trainer._update = signalled
    trainer.run()
    assert (tmp_path / "state.pt").is_file() and 2 <= trainer.step < 1000


def test_exported_files_say_what_they_are(recipe, tmp_path):
    _run(dataclasses.replace(recipe, steps=2), tmp_path)
    facts = read_facts(tmp_path / "export" / "wan_t2v.safetensors")
    assert facts["class"] == "WanTransformer3DModel"
    assert facts["recipe"]["step"] == 2
    assert facts["recipe"]["recipe"]["name"] == "text-to-video"
    tensors, facts = read_network(tmp_path / "export" / "wan_t2v.safetensors")
    networks.build_transformer(facts["config"]).load_state_dict(tensors)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_the_vae_recipe_trains_skeleton_and_blocks(files, monkeypatch, tmp_path):
    small = {"z_dim": 8, "base_dim": 8, "decoder_base_dim": 8, "latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    monkeypatch.setattr(networks, "VAE", networks.VAE | small)
    stage = Stage(until=10**9, batch=1, world=WORLD)
    recipe = VaeRecipe(
        name="vae", steps=3, stages=(stage,), files=str(files), skeleton_steps=1, own_latents_from=1,
        encoder_every=1, joint_from=2,
        sizes=((32, 32, 5),), bfloat16=False,
    )  # fmt: skip
    task = VaeTask(recipe)
    Trainer(recipe, task, tmp_path, workers=0).run()
    facts = read_facts(tmp_path / "export" / vae.FILE)
    assert len(facts["rgb_factors"]["weight"]) == 8
    conv = task.vae.decoder.up_blocks[0].resnets[0].conv2
    assert conv.weight.abs().sum() > 0


def test_world_words_are_single_tokens_and_anything_can_be_said(files):
    tokenizer = load_tokenizer(files / "tokenizer")
    ids = tokenizer("a red star moves right, dark blue background")["input_ids"]
    assert len(ids) == 10
    assert ids[-1] == tokenizer.eos_token_id == networks.TEXT_ENCODER["eos_token_id"]
    assert tokenizer("")["input_ids"] == [tokenizer.eos_token_id]
    text = "zebra 你好 ß"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_settings_are_checked():
    recipe = with_settings(text_to_video.RECIPE, ["learning_rate=2e-4", "start=somewhere"])
    assert recipe.learning_rate == 2e-4
    assert recipe.start == "somewhere"
    with pytest.raises(ValueError, match="Unknown setting"):
        with_settings(text_to_video.RECIPE, ["colour=red"])
    for seed in {cases.TEXT_SEED, cases.VAE_SEED, long_clips.PICTURE_SEED, own_motions.SEED, picture_clips.OBJECT_SEED}:
        with pytest.raises(ValueError, match="none of 41 to 48, whose clips are held out"):
            with_settings(text_to_video.RECIPE, [f"seed={seed}"])
    with pytest.raises(ValueError, match="no recipe"):
        recipe_module("nothing")
    assert main(["text-to-video", "--set", "colour=red"]) == 2


def test_the_rate_warms_up_and_falls():
    recipe = dataclasses.replace(text_to_video.RECIPE, warmup=10, decay_share=0.5)
    rates = [learning_rate(recipe, step, step / 100) for step in range(101)]
    assert rates[0] < rates[9] == rates[50] == recipe.learning_rate
    assert rates[100] < 1e-6 * recipe.learning_rate
    assert rates[60] > rates[80] > rates[100]


def test_stages_with_the_same_end_take_turns():
    stages = tuple(Stage(until=u, batch=b, world=WORLD) for u, b in ((5, 1), (9, 2), (9, 3)))
    recipe = dataclasses.replace(text_to_video.RECIPE, stages=stages)
    assert [recipe.stage(step).batch for step in (0, 4, 5, 6, 100, 101)] == [1, 1, 3, 2, 2, 3]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--device", "gpu"], "no device"), (["--device", "cuda:99"], "no device"), (["--device", "meta"], "no device"),
        (["--minutes", "nan"], "minutes above 0"), (["--minutes", "-3"], "minutes above 0"),
        (["--minutes", "inf"], "minutes above 0"), (["--minutes", "ten"], "minutes above 0"),
        (["--threads", "-1"], "from 1 on"), (["--threads", "two"], "from 1 on"),
        (["--out", "FILE"], "a file stands in its way"), (["--out", "FILE/run"], "a file stands in its way"),
        (["--folder", "nowhere"], 'no "nowhere"'),
        (["--resume", "--out", "FOLDER"], "no run in"),
        (["--set", "steps"], "Unknown setting"), (["--set", "steps=abc"], "steps cannot be"),
        (["--set", "steps=-1"], "steps must be"), (["--set", "steps=2.5"], "steps cannot be"),
        (["--set", "learning_rate=NaN"], "learning_rate must be"), (["--set", "learning_rate=fast"], "learning_rate"),
        (["--set", "bfloat16=perhaps"], "bfloat16 cannot be"), (["--set", "betas=3"], "betas cannot be"),
        (["--set", "betas=[0.9]"], "betas cannot be"), (["--set", "stages=[]"], "stages must be"),
        (["--set", "stages=7"], "stages cannot be"), (["--set", 'stages=[{"until":3}]'], "stages cannot be"),
        (["--set", 'stages=[{"until":3,"batch":1,"world":{"colour":1}}]'], "stages cannot be"),
        (["--set", "start=nowhere"], "nowhere"),
    ],
)  # fmt: skip
def test_a_bad_command_is_refused_in_one_sentence(
    given: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("I am a file.")
    told = [str(tmp_path / word) if word.startswith(("FILE", "FOLDER")) else word for word in given]
    place = [] if "--out" in told else ["--out", str(tmp_path / "run")]
    try:
        code = main(["text-to-video", *told, *place])
    except SystemExit as stopped:  # argparse's own way
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2 and says in said.splitlines()[-1] and "Traceback" not in said and str(tmp_path) not in said


def test_a_batch_draws_nothing_that_one_of_its_clips_draws() -> None:
    """Which texts are left out, say: by a clip's numbers, only clips on a brown floor had lost theirs."""
    own = {tuple(own_numbers(*seed).integers(0, 2**62, 3)) for seed in ((0, 7), (0, 7, 1), (0, 8))}
    world = WorldConfig()
    clips = {tuple(generator((0, 7, index), world).integers(0, 2**62, 3)) for index in range(64)}
    assert len(own) == 3 and len(clips) == 64 and not own & clips
