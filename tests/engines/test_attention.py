"""One setting of attention: every network obeys it, it is left as it was found, and what is not there is a sentence."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from engines.errors import StudioError
from engines.loading.store import Store
from engines.media import metadata
from engines.registry import SPECS
from engines.runtime import attention
from engines.runtime.attention import CHOICES, KERNELS, Attention, BadAttention, choose, unusable
from engines.runtime.session import Session
from tests.engines.test_contract import Bench
from tests.engines.tiny_models import TINY

CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the dispatcher called each of torch's own ways."""
    counted: Counter[str] = Counter()

    def counting(name: AttentionBackendName) -> Any:
        way = _AttentionBackendRegistry._backends[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name.value] += 1
            return way(*args, **kwargs)

        return call

    for name in (AttentionBackendName.NATIVE, AttentionBackendName._NATIVE_MATH):
        monkeypatch.setitem(_AttentionBackendRegistry._backends, name, counting(name))
    return counted


def active() -> str:
    return AttentionBackendName(_AttentionBackendRegistry._active_backend).value


@pytest.mark.parametrize("engine", SPECS)
def test_every_attention_of_every_engine_obeys_it(engine: str, tmp_path: Path, calls: Counter[str]) -> None:
    bench, before = Bench(TINY[engine], tmp_path), active()
    *_, done = bench.run(tmp_path / "torch")
    ordinary, told = bench.clip(), metadata.read(Path(done.result.video))
    assert set(calls) == {"native"} and told.computed["attention"] == "torch, picked by auto"
    calls.clear()
    bench.session = Session("cpu", store=bench.session.store, kernel="torch-math")
    plain = bench.clip()
    assert set(calls) == {"_native_math"}
    assert np.abs(ordinary.astype(int) - plain.astype(int)).max() <= 1
    with pytest.raises(StudioError), closing(bench.run(tmp_path / "out")) as events:
        while next(events).type != "step":
            continue
        events.throw(RuntimeError("in the middle"))
    assert active() == before


@pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if not kernel.own])
def test_what_is_not_installed_or_not_for_this_device_is_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadAttention, match="on CUDA GPUs alone"):
        choose(name, CPU)
    monkeypatch.setattr(attention, "find_spec", lambda module: None)
    why = unusable(name, "cuda:0")
    assert KERNELS[name].install in why and KERNELS[name].least in why and why.count("\n") == 0
    monkeypatch.setattr(attention, "find_spec", lambda module: object())
    monkeypatch.setattr(attention, "version", lambda package: "0.0.1")
    assert KERNELS[name].package in unusable(name, "cuda:0"), "too old a one is none"
    monkeypatch.setattr(attention, "version", lambda package: "99.1.dev0+cu130")
    assert unusable(name, "cuda:0") == ""


def test_auto_is_the_fastest_that_computes_here_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda:0")
    there = {"flash-3", "flash-2", "sage", "xformers"}
    monkeypatch.setattr(attention, "find_spec", lambda module: object())
    monkeypatch.setattr(attention, "version", lambda package: "99.0")
    monkeypatch.setattr(attention, "_computes", lambda kernel, device: kernel in [KERNELS[name] for name in there])
    assert choose("auto", gpu) == Attention(KERNELS["flash-3"], picked=True)
    assert choose("auto", gpu, split=True).kernel == KERNELS["flash-2"], "diffusers cannot split the other"
    there.clear()
    assert choose("auto", gpu) == choose("auto", CPU) == Attention(KERNELS["torch"], picked=True)
    with pytest.raises(BadAttention, match="does not compute on this device"):
        choose("flash-2", gpu)
    with pytest.raises(BadAttention, match="cannot be split"):
        choose("xformers", gpu, split=True)


def test_networks_in_full_precision_keep_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    flash = Attention(KERNELS["flash-2"])
    assert flash.within(half=True).title == "flash-attn 2" and flash.within(half=False).title == "torch"
    with flash.active(half=False):
        assert active() == "native"
    assert Attention(KERNELS["sage"]).within(half=True).note and not Attention(KERNELS["sage"]).within(half=False).note


def test_what_cannot_be_split_by_sequence_is_refused_before_anything_is_loaded() -> None:
    model = SPECS["phantom-wan"].model("starter")
    with pytest.raises(BadAttention, match="cannot be split over devices by sequence"):
        Session("cpu", store=Store(), kernel="torch-math").context("phantom-wan", model, split=True)
    Session("cpu", store=Store()).context("phantom-wan", model, split=True)


def test_every_choice_names_a_way_that_diffusers_has() -> None:
    known = {name.value for name in AttentionBackendName}
    assert {kernel.backend for kernel in KERNELS.values()} <= known
    assert CHOICES[0] == "auto" and len(set(CHOICES)) == len(CHOICES)
    can = _AttentionBackendRegistry._supports_context_parallel
    assert {name for name, kernel in KERNELS.items() if kernel.splits} == {
        name for name, kernel in KERNELS.items() if kernel.backend in can
    }
