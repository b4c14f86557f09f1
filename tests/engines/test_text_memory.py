"""Texts embedded once a clip: the same clip to the bit, from a fraction of the projections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from engines.wan import text_memory
from tests.engines.test_contract import Bench
from tests.engines.tiny_models import TINY

STEPS = 4
ENGINES = {"phantom-wan": 3, "flashi2v": 2, "bindweave": 2, "phantom-physics": 2}  # passes


@pytest.fixture(scope="module", params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


@contextmanager
def projections(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts what is really computed of texts: keys, values, their norm and the embedding, in all transformers."""
    count: Counter[str] = Counter()
    names: dict[int, str] = {}
    linear, norm = torch.nn.Linear.forward, torch.nn.RMSNorm.forward

    def call(network: Any, *given: Any, **told: Any) -> Any:
        count["blocks"] = len(network.blocks)
        for name, module in network.named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v", "attn2.norm_k", "text_embedder.linear_1")):
                names[id(module)] = name.rpartition(".")[2]
        return forward(network, *given, **told)

    def counted(plain: Any) -> Any:
        def compute(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
            count[names.get(id(module), "")] += 1
            return plain(module, given)

        return compute

    forward = WanTransformer3DModel.__call__
    with patch.context() as patched:
        patched.setattr(WanTransformer3DModel, "__call__", call)
        patched.setattr(torch.nn.Linear, "forward", counted(linear))
        patched.setattr(torch.nn.RMSNorm, "forward", counted(norm))
        yield count


def without(patch: pytest.MonkeyPatch) -> None:
    """No device has memory to spare for it."""
    real = text_memory.width
    patch.setattr(text_memory, "width", lambda config: real(config) * 10**12)


def test_each_text_is_projected_once_and_the_clip_is_the_same_to_the_bit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with projections(monkeypatch) as kept:
        clip = bench.clip(steps=STEPS)
    with monkeypatch.context() as patch, projections(monkeypatch) as anew:
        without(patch)
        assert np.array_equal(clip, bench.clip(steps=STEPS))
    for name in ("to_k", "to_v", "norm_k", "linear_1"):
        assert anew[name] == STEPS * kept[name] > 0
    assert np.array_equal(clip, bench.clip(steps=STEPS)), "nothing is left on the networks"


def test_passes_that_share_a_text_share_its_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Phantom's third pass reads what its second does; one by one it makes no keys of its own."""
    bench = Bench(TINY["phantom-wan"], tmp_path)
    monkeypatch.setattr(bench.tiny.batching, 0)
    with projections(monkeypatch) as kept:
        clip = bench.clip(steps=STEPS)
    layers = kept["blocks"]
    assert kept["to_k"] == kept["to_v"] == 2 * layers and kept["linear_1"] == 2
    with monkeypatch.context() as patch, projections(monkeypatch) as anew:
        without(patch)
        assert np.array_equal(clip, bench.clip(steps=STEPS))
    assert anew["to_k"] == STEPS * ENGINES["phantom-wan"] * layers


def test_what_is_kept_is_booked_and_given_back(bench: Bench) -> None:
    cache, seen = bench.session.cache, []
    real = cache.use

    @contextmanager
    def use(component: Any, *, working_bytes: int = 0) -> Iterator[Any]:
        with real(component, working_bytes=working_bytes) as module:
            if not component.role:
                seen.append((component.key, working_bytes, cache.device_bytes))
            yield module

    cache.use = use
    try:
        bench.clip(steps=2)
    finally:
        cache.use = real
    assert seen and all(booked > 0 for _, booked, _ in seen)
    assert not any(entry.working_bytes or entry.locks for entry in cache._entries.values())
