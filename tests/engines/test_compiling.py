"""Compiled blocks: the numbers of eager ones, only where nothing is on them and where it pays, and gone afterwards."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.adapters.applying import applied
from engines.adapters.matching import Change, FittedAdapter
from engines.inputs import Adapter
from engines.media import metadata
from engines.registry import implementation
from engines.runtime import compiling
from engines.runtime.compiling import (
    AUTO,
    OFF,
    ON,
    CannotCompile,
    Compiling,
    compiled,
    hindrance,
    steps_alike,
    unusable,
)
from engines.runtime.second_try import second_try
from engines.runtime.session import Session
from engines.sampling.caches import CACHES
from engines.types import Frames
from tests.engines import tiny_wan
from tests.engines.test_contract import Bench
from tests.engines.tiny_models import TINY

COMPILER = pytest.mark.skipif(bool(unusable("cpu")), reason="this machine has no C++ compiler")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY["phantom-wan"], tmp_path_factory.mktemp("compiled"))


@COMPILER
def test_a_compiled_block_computes_the_numbers_of_an_eager_one_and_is_eager_again() -> None:
    """The compiler is what takes the time: one shape of one tiny block."""
    network = tiny_wan.transformer()
    network.blocks = network.blocks[:1]
    inputs = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4),
        "timestep": torch.tensor([300.0]),
        "encoder_hidden_states": torch.randn(1, tiny_wan.TEXT_LEN, 16),
    }
    with torch.no_grad():
        eager = network(**inputs, return_dict=False)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler imports parts of its own that torch will do without
            from torch._inductor import config

            with config.patch(compile_threads=1), compiled(network):  # no processes that outlive the test
                assert network.blocks[0]._compiled_call_impl is not None
                made = network(**inputs, return_dict=False)[0]
        assert network.blocks[0]._compiled_call_impl is None
        assert torch.equal(network(**inputs, return_dict=False)[0], eager)
    assert (made - eager).norm() <= 1e-6 * eager.norm()


@pytest.fixture
def eager_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch captures the blocks whole, as for its compiler, and runs what it captured: a second, not twenty."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: compile_(self, backend="eager", **how))


def test_a_clip_says_that_it_was_compiled_and_is_the_same(bench: Bench, tmp_path: Path, eager_backend: None) -> None:
    session = Session("cpu", store=bench.session.store, compile=ON)
    model = bench.spec.model("tiny")
    context = session.context(bench.spec.name, model, compiles=True)
    made = [
        item.pixels
        for item in implementation(bench.spec).generate(bench.request(), context)
        if isinstance(item, Frames)
    ]
    assert context.computed["blocks"] == "compiled"
    assert np.abs(np.concatenate(made).astype(int) - bench.clip()).max() <= 1
    *_, done = second_try(session, bench.spec, bench.request(), output_dir=tmp_path, job_id="clip")
    assert metadata.read(Path(done.result.video)).computed["blocks"] == "compiled"
    assert session.compiling.made == {"phantom-wan 9 16 tiny 32"}


@pytest.mark.parametrize("engine", ["flashi2v", "bindweave", "phantom-wan"])
def test_what_is_on_the_blocks_keeps_them_eager_and_people_are_told(
    engine: str, tmp_path: Path, eager_backend: None
) -> None:
    bench = Bench(TINY[engine], tmp_path)
    ordinary = bench.clip(steps=7, step_cache="half")
    bench.session = Session("cpu", store=bench.session.store, compile=ON)
    told = second_try(
        bench.session, bench.spec, bench.request(steps=7, step_cache="half"), output_dir=tmp_path, job_id="clip"
    )
    *_, done = told
    described = metadata.read(Path(done.result.video))
    assert "blocks" not in described.computed
    assert any("was not compiled: its blocks take turns, or a step cache" in note for note in described.notes)
    assert np.array_equal(ordinary, bench.clip(steps=7, step_cache="half"))


def test_what_keeps_blocks_from_being_compiled_is_seen() -> None:
    network = tiny_wan.transformer()
    assert hindrance(network) == ""
    handle = network.blocks[1].ffn.net[2].register_forward_hook(lambda *_: None)
    assert "adapters" in hindrance(network)
    handle.remove()
    assert hindrance(network) == ""
    adapter = Change("blocks.0.attn1.to_q.weight", 1.0, whole=torch.zeros_like(network.blocks[0].attn1.to_q.weight))
    with applied([FittedAdapter(Adapter(path=Path("a")), (adapter,))], network):
        assert "adapters" in hindrance(network)
    assert hindrance(network) == ""
    with CACHES["half"].on(network):
        assert "step cache" in hindrance(network)
    assert hindrance(network) == "", "of what the cache leaves behind nothing is in the way"
    assert hindrance(torch.nn.Linear(2, 2)) == "its blocks are of several kinds"


def test_where_nothing_can_be_compiled_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Apple" in unusable("mps")
    monkeypatch.setattr(compiling, "find_spec", lambda module: None)
    assert "pip install triton" in unusable("cuda")
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert "C++ compiler" in unusable("cpu") and "\n" not in unusable("cpu")
    with pytest.raises(CannotCompile, match="has none"):
        Compiling(ON, "cpu")
    assert not Compiling(AUTO, "cuda").wanted("a", steps=10**6, step_s=10.0), "auto asks for nothing it cannot have"


def test_it_is_done_where_it_pays_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "unusable", lambda kind: "")
    auto = Compiling(AUTO, "cuda")
    assert not auto.wanted("a", steps=1000, step_s=None), "nothing is known yet"
    assert not auto.wanted("a", steps=50, step_s=1.3)
    assert auto.wanted("a", steps=150, step_s=1.3), "and the clips that wait count"
    assert auto.wanted("a", steps=50, step_s=9.0)
    auto.made.add("a")
    assert auto.wanted("a", steps=1, step_s=0.1) and not auto.wanted("b", steps=1, step_s=0.1)
    assert not Compiling(AUTO, "cpu").wanted("a", steps=10**6, step_s=100.0)
    assert Compiling(ON, "cpu").wanted("a", steps=1, step_s=None)
    assert not Compiling(OFF, "cuda").wanted("a", steps=10**6, step_s=100.0)


def test_clips_that_wait_count_where_they_have_the_same_shape() -> None:
    clip = {"model": "1.3B", "width": 832, "height": 480, "frames": 81, "steps": 50, "seed": 1}
    others = [
        ("phantom-wan", clip | {"steps": 30, "seed": 2}),
        ("phantom-wan", clip | {"frames": 49}),
        ("flashi2v", clip),
        ("phantom-wan", clip | {"steps": None}),
    ]
    assert steps_alike(("phantom-wan", clip), others) == 30
