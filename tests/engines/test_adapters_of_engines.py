"""Every engine obeys adapters: they change its clip, over their steps, and leave its network as it was."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.inputs import AdaptableRequest, media_fields
from engines.media import metadata
from engines.registry import SPECS
from tests.engines.test_contract import Bench
from tests.engines.tiny_models import TINY


@pytest.fixture(scope="module", params=SPECS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def first(bench: Bench) -> np.ndarray:
    return bench.clip()


def adapter(network: Path, path: Path) -> Path:
    """A LoRA of all matrices in the blocks of a checkpoint, in the names of that file."""
    draw, tensors = torch.Generator().manual_seed(7), {}
    for key, value in load_file(network).items():
        if value.dim() == 2 and key.endswith(".weight") and "blocks." in key:
            layer = key.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.randn(2, value.shape[1], generator=draw)
            tensors[f"{layer}.lora_B.weight"] = torch.randn(value.shape[0], 2, generator=draw)
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def style(bench: Bench) -> Path:
    return adapter(bench.files["transformer"][0], bench.folder / "style.safetensors")


def test_every_engine_takes_adapters_by_one_declaration(bench: Bench) -> None:
    assert issubclass(bench.spec.request_type, AdaptableRequest)
    assert media_fields(bench.spec.request_type)["adapters"].parts == ("strength", "begin", "end")


def test_an_adapter_changes_the_clip_by_each_of_its_parts_and_leaves_nothing(
    bench: Bench, first: np.ndarray, style: Path
) -> None:
    built = len(bench.session.cache.state())

    def made(*parts: dict[str, Any]) -> np.ndarray:
        return bench.clip(adapters=[{"path": style} | one for one in parts])

    clips = [
        first,
        made({}),
        made({"strength": 0.4}),
        made({"begin": 0.5}),
        made({"end": 0.5}),
        made({"end": 0.5, "strength": -0.5}, {"begin": 0.5, "strength": 0.5}),
    ]
    same = [(i, j) for i, one in enumerate(clips) for j, other in enumerate(clips[:i]) if np.array_equal(one, other)]
    assert same == []
    assert np.array_equal(first, made({"strength": 0})) and np.array_equal(first, bench.clip())
    halves = made({"end": 0.5}, {"begin": 0.5})
    assert np.abs(halves.astype(int) - clips[1]).max() <= 1, "over both halves it counts in all steps"
    assert len(bench.session.cache.state()) == built, "the network was not loaded again"


def test_the_clip_says_which_adapters_changed_it(bench: Bench, style: Path, tmp_path: Path) -> None:
    *_, done = bench.run(tmp_path, adapters=[{"path": style, "strength": 0.5, "end": 0.75}])
    told = metadata.read(Path(done.result.video))
    assert told is not None
    assert told.parameters["adapters"] == [{"path": "style.safetensors", "strength": 0.5, "begin": 0.0, "end": 0.75}]
    assert any(entry["file"] == "style.safetensors" and len(entry["sha256"]) == 64 for entry in told.inputs)


def test_one_of_another_model_is_refused_before_anything_is_loaded(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({f"double_blocks.0.img_attn.qkv.lora_{part}.weight": torch.ones(2, 2) for part in "AB"}, path)
    loaded = bench.session.cache.state()
    with (
        pytest.raises(IncompatibleCheckpoint) as refused,
        closing(bench.run(tmp_path / "out", adapters=[{"path": path}])) as run,
    ):
        assert not any(event.type == "step" for event in run)
    sentence = str(refused.value)
    assert "other.safetensors was made for another network" in sentence and str(tmp_path) not in sentence
    assert bench.session.cache.state() == loaded and list((tmp_path / "out").iterdir()) == []


def test_one_that_counts_in_no_step_is_refused(bench: Bench, style: Path) -> None:
    with pytest.raises(
        InvalidRequest, match=r'"style\.safetensors" would count in no step: it counts from 0\.5 to 0\.5'
    ):
        bench.request(adapters=[{"path": style, "begin": 0.5, "end": 0.5}])
