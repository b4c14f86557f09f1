"""`all` with tiny networks: what it trains first, how it goes on from files alone, and that nothing gets worse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engines.training import everything, jobs, networks
from engines.training.__main__ import main
from engines.training.bindweave import networks as own
from engines.training.everything import Everything
from engines.training.files import read_facts, read_network, save_network
from engines.training.jobs import JOBS, NEXT, State, allotted, gain, newest, ready, score, superseded
from engines.training.latents import Blocks
from engines.training.prepare import fit_latents
from engines.training.recipe import Stage
from engines.training.recipes import recipe_module, text_to_video, vae
from engines.training.tokens import train_tokenizer
from engines.training.world import WorldConfig

WORLD = WorldConfig(width=32, height=32, frames=5, two_subjects=0, photo_background=0)
SMALL = {"stages": (Stage(until=10**9, batch=1, world=WORLD),), "bfloat16": False}
VAE, BASE, *_ = JOBS
RGB_FACTORS = vae.rgb_factors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter folder with the codes, the tokenizer and the text encoder, and no network of the new latents."""
    small = {"z_dim": 8, "base_dim": 8, "decoder_base_dim": 8, "latents_mean": [0.0] * 8, "latents_std": [1.0] * 8}
    tiny = {"num_attention_heads": 1, "attention_head_dim": 16, "ffn_dim": 32, "num_layers": 1}
    monkeypatch.setattr(networks, "VAE", networks.VAE | small)
    monkeypatch.setattr(networks, "TRANSFORMER", networks.TRANSFORMER | tiny | {"in_channels": 8, "out_channels": 8})
    monkeypatch.setattr(vae, "rgb_factors", lambda code: {})
    folder = tmp_path / "starter"
    folder.mkdir()
    fit_latents(Blocks(8, 4), 8, clips=8).save(folder / vae.CODE)
    train_tokenizer(vocabulary=600, captions=100).save_pretrained(folder / "tokenizer")
    tensors = networks.build_text_encoder().state_dict()
    tensors.pop("encoder.embed_tokens.weight")
    save_network(folder / "text_encoder.safetensors", tensors, facts={"config": networks.TEXT_ENCODER})
    return folder


class Judge:
    """Stands for the evaluations: gives each file the figure that the test says, and remembers what it was shown."""

    def __init__(self, *values: float) -> None:
        self.values, self.seen = list(values), []

    def __call__(self, job: jobs.Job, folder: Path, file: Path, device: str) -> list[dict]:
        self.seen.append((job.recipe, file.name))
        assert (folder / job.file).resolve() == file.resolve()
        return [{"name": "right", "value": self.values.pop(0), "target": 100.0, "lower": False, "unit": "%"}]


def session(folder: Path, out: Path, judge: Judge, *, steps: int = 2, **changes: object) -> Everything:
    return Everything(folder, out, workers=0, measured=judge, changes={**SMALL, "steps": steps, **changes})


VAE_CHANGES = {"sizes": ((32, 32, 5),), "skeleton_steps": 0, "own_latents_from": 0}


def test_a_first_file_ships_and_a_worse_one_waits(folder: Path, tmp_path: Path) -> None:
    session(folder, tmp_path / "runs", Judge(50.0), **VAE_CHANGES).step(VAE, 1.0)
    shipped = (folder / VAE.file).read_bytes()
    # Another machine: no run folder, only what is in the starter folder.
    judge = Judge(40.0)
    session(folder, tmp_path / "other", judge, steps=4, **VAE_CHANGES).step(VAE, 1.0)
    assert (folder / VAE.file).read_bytes() == shipped
    assert read_facts(folder / NEXT / VAE.file)["recipe"]["step"] == 4, "the recipe's position came from the file"
    session(folder, tmp_path / "third", Judge(60.0), steps=6, **VAE_CHANGES).step(VAE, 1.0)
    assert read_facts(folder / VAE.file)["recipe"]["step"] == 6, "what waited was gone on with, and ships now"
    assert not (folder / NEXT / VAE.file).exists()
    known = json.loads((folder / jobs.STATE).read_text())["vae"]
    assert (known["step"], known["shipped"], known["trained"]) == (6, 0.6, 0.6)
    assert judge.seen == [("vae", VAE.file)], "a file that was measured once is not measured again"


def test_going_on_from_a_file_keeps_its_average_and_warms_up_again(folder: Path, tmp_path: Path) -> None:
    session(folder, tmp_path / "runs", Judge(50.0), **VAE_CHANGES).step(VAE, 1.0)
    before, _ = read_network(folder / VAE.file)
    still = session(folder, tmp_path / "other", Judge(10.0), steps=3, learning_rate=0.0, **VAE_CHANGES)
    still.step(VAE, 1.0)
    after, _ = read_network(folder / NEXT / VAE.file)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_network_of_other_latents_is_not_gone_on_with_but_keeps_shipping(folder: Path, tmp_path: Path) -> None:
    session(folder, tmp_path / "runs", Judge(50.0), **VAE_CHANGES).step(VAE, 1.0)
    old = networks.build_transformer(networks.TRANSFORMER | {"in_channels": 16, "out_channels": 16})
    facts = {"class": "WanTransformer3DModel", "config": dict(old.config), "text_len": 24, "recipe": {"step": 9}}
    facts["config"] = {name: value for name, value in old.config.items() if not name.startswith("_")}
    save_network(folder / BASE.file, old.state_dict(), facts=facts)
    assert newest(BASE, folder) is None
    judge = Judge(30.0, 45.0)  # the new one, then the shipped one, which was never measured
    session(folder, tmp_path / "runs", judge, compiled=False, text_len=24).step(BASE, 1.0)
    assert newest(BASE, folder) == folder / NEXT / BASE.file
    made = read_facts(newest(BASE, folder))
    assert made["vae"] == VAE.file
    assert made["recipe"]["recipe"]["files"] == "starter", "no folder of this machine is told"
    assert "vae" not in read_facts(folder / BASE.file)
    assert judge.seen == [("text-to-video", BASE.file)] * 2


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's word on float32 norms under autocast
def test_a_session_measures_for_real_and_from_any_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true evaluations, of tiny files that show nothing: the new one, then the shipped one to compare it with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(everything, "COUNT", 1)
    monkeypatch.setattr(vae, "rgb_factors", RGB_FACTORS)
    session(folder, tmp_path / "runs", Judge(50.0), **VAE_CHANGES).step(VAE, 1.0)
    changes = {**SMALL, "compiled": False, "text_len": 24, "start": ""}
    for steps in (1, 2):
        here = Everything(Path("starter"), Path("runs"), workers=0, changes=changes | {"steps": steps})
        here.step(BASE, 1.0)
    known = here.state.jobs[BASE.recipe]
    assert known.shipped is not None and known.trained is not None
    assert {"colour right", "right reference of 8, one subject"} <= set(known.figures)


def test_an_interrupt_loses_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = everything.Trainer._update
    monkeypatch.setattr(everything.Trainer, "_update", lambda self, batch: (update(self, batch), self._stop()))
    judge = Judge()
    stopped = session(folder, tmp_path / "runs", judge, steps=100, **VAE_CHANGES)
    stopped.run(20.0)
    assert stopped.stopped and not judge.seen
    assert read_facts(folder / NEXT / VAE.file)["recipe"]["step"] == State(folder).jobs["vae"].step == 1


def test_it_steps_back_behind_other_sessions() -> None:
    told = "import os; from engines.training.__main__ import _step_back; _step_back(); print(os.nice(0))"
    group = Path("/proc/self/autogroup")
    told += f"; print(open({str(group)!r}).read())" if group.is_file() else ""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, start_new_session=True)
    nice, *grouped = done.stdout.split("\n", 1)
    assert nice == "19", done.stderr
    assert not group.is_file() or "nice 19" in grouped[0]


def test_the_order_and_what_gains_most(folder: Path) -> None:
    state = State(folder)
    assert {job.recipe for job in ready(JOBS, folder)} == {"vae", "pyramid-vae", "physics-encoder"}
    plan = allotted(state, 36.0, least=1.5)
    assert [job for job, _ in plan] == list(JOBS) and sum(part for _, part in plan) == pytest.approx(36.0)
    assert max(JOBS, key=lambda job: gain(job, state.jobs[job.recipe])) is BASE
    assert allotted(state, 10.0, least=10.0) == [(VAE, 10.0)], "the base gains most, and lacks its autoencoder"
    some = [job for job, _ in allotted(state, 30.0, least=5.0)]
    assert some[:2] == [VAE, BASE] and len(some) < len(JOBS)
    state.jobs["text-to-video"].trained = 1.1
    assert gain(BASE, state.jobs["text-to-video"]) < gain(VAE, state.jobs["vae"])
    long, short = jobs.Progress(trained=0.5, minutes=500), jobs.Progress(trained=0.5)
    assert gain(BASE, long) < gain(BASE, short)


def test_a_session_does_every_job_once_and_in_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped, clock = [], [0.0]

    def step(self: Everything, job: jobs.Job, minutes: float) -> None:
        stepped.append((job.recipe, minutes))
        clock[0] += 60 * minutes / everything.TRAINED
        made_by = {"recipe": {"latents_file": recipe_module(job.recipe).RECIPE.latents_file}}
        save_network(folder / job.file, {"x": torch.zeros(1)}, facts={"recipe": made_by})

    monkeypatch.setattr(everything, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Everything, "step", step)
    Everything(folder, tmp_path / "runs", device="cuda").run(36.0)
    assert [name for name, _ in stepped] == [job.recipe for job in JOBS]
    assert clock[0] / 60 == pytest.approx(36.0) and all(minutes > 1 for _, minutes in stepped)


def test_an_autoencoder_goes_with_the_last_network_that_uses_it(tmp_path: Path) -> None:
    def write(name: str, **facts: str) -> None:
        save_network(tmp_path / name, {"x": torch.zeros(1)}, facts=facts)

    for job in JOBS:
        write(job.file, **{"class": "AutoencoderKLWan"})  # what is trained stays whoever uses it
    write("older.safetensors", **{"class": "CausalVideoVAE"})
    write("pyramid_flow.safetensors", vae="newer.safetensors", **{"class": "PyramidFlux"})
    write("pyramid_flow_sd3.safetensors", vae="older.safetensors")
    assert superseded(tmp_path) == []
    write("pyramid_flow_sd3.safetensors", vae="newer.safetensors")
    assert superseded(tmp_path) == [tmp_path / "older.safetensors"]


def test_a_score_is_the_mean_share_of_the_targets() -> None:
    rows = [
        {"value": 33.0, "target": 30.0, "lower": False, "unit": "dB"},
        {"value": 8.0, "target": 4.0, "lower": True, "unit": "dE"},
        {"value": 5.0, "target": None, "lower": False, "unit": ""},
        {"value": 20.0, "target": 15.0, "lower": True, "unit": "MB"},
    ]
    assert score(rows) == pytest.approx((1.1 + 0.5) / 2)


def test_every_job_is_a_recipe_with_its_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    from engines.evaluation.starter import EVALUATIONS

    for job in JOBS:
        recipe = recipe_module(job.recipe).RECIPE
        assert recipe.name == job.recipe
        assert set(job.evaluations) <= set(EVALUATIONS)
    assert text_to_video.RECIPE.transformer_file == BASE.file
    assert main(["all", "--resume"]) == 2
    assert "goes on by itself" in capsys.readouterr().err


def test_a_starter_of_several_networks_travels_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "LANGUAGE", own.LANGUAGE | {"num_hidden_layers": 1})
    job = next(job for job in JOBS if job.parts)
    train_tokenizer(vocabulary=720, captions=100).save_pretrained(folder / "tokenizer")
    made_by = {"recipe": {"latents_file": vae.CODE}}
    base = networks.build_transformer()
    save_network(folder / BASE.file, base.state_dict(), facts={"recipe": made_by, "vae": VAE.file})
    told = {"compiled": False, "text_len": 64, "steps": 1}
    session(folder, tmp_path / "runs", Judge(50.0), **told).step(job, 1.0)
    first = {name: (folder / name).read_bytes() for name in job.files}
    again = {**told, "steps": 2, "learning_rate": 0.0}
    session(folder, tmp_path / "other", Judge(40.0), **again).step(job, 1.0)
    assert {name: (folder / name).read_bytes() for name in job.files} == first, "what is worse does not ship"
    for name in job.files:
        before, after = read_network(folder / name)[0], read_network(folder / NEXT / name)[0]
        assert all(torch.equal(before[key], after[key]) for key in before), "all networks were gone on with"
    (folder / NEXT / job.files[-1]).unlink()
    assert newest(job, folder) == folder / job.file, "a part alone is nothing to go on from"
    session(folder, tmp_path / "third", Judge(60.0), **told | {"steps": 3}).step(job, 1.0)
    assert all((folder / name).read_bytes() != first[name] for name in job.files)
    assert not any((folder / NEXT / name).exists() for name in job.files)
