"""Every engine obeys adapters: they change its clip, over their steps, and leave its network as it was."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.inputs import AdaptableRequest, media_fields
from engines.media import metadata
from engines.registry import SPECS
from engines.sampling import calibration
from engines.sampling.caches import FIELD
from tests.engines.test_contract import Bench, session
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


def test_one_of_every_weight_is_as_those_weights_whatever_the_step_cache(
    bench: Bench, first: np.ndarray, tmp_path: Path
) -> None:
    """Inside the blocks and outside of them: embeddings, modulations, the head that step caches keep outputs of."""
    (path,), draw = bench.files["transformer"][:1], torch.Generator().manual_seed(3)
    weights, changes = load_file(path), {}
    names = {".weight": ".diff", ".bias": ".diff_b"}
    for key, value in weights.items():
        layer, kind, _ = next((key.rpartition(end) for end in names if key.endswith(end)), (key, "", ""))
        changes[layer + names.get(kind, ".diff")] = 0.05 * torch.randn(value.shape, generator=draw)
    save_file(changes, tmp_path / "all.safetensors")
    changed = Bench(bench.tiny, tmp_path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    new = {key: value.float() + change for (key, value), change in zip(weights.items(), changes.values(), strict=True)}
    save_file(new, changed.files["transformer"][0], metadata=facts)
    caches = get_args(bench.spec.request_type.model_fields[FIELD].annotation)
    for each in (bench, changed):
        if "calibrated" in caches:
            calibration.write(each.files["transformer"], [1.0] * 8)
    changed.session = session(changed.tiny, changed.files)
    steps = {name: 8 for name in bench.spec.request_type.model_fields if name in ("steps", "later_steps")}
    for cache in caches:
        with_adapter = bench.clip(adapters=[{"path": tmp_path / "all.safetensors"}], step_cache=cache, **steps)
        assert np.abs(with_adapter.astype(int) - changed.clip(step_cache=cache, **steps)).max() <= 2, cache
        assert np.abs(with_adapter.astype(int) - bench.clip(step_cache=cache, **steps)).mean() > 1, "it does something"
    assert np.array_equal(first, bench.clip())


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
