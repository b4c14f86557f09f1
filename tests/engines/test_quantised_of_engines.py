"""Every engine makes its clip with a quantised transformer, nearly the same, and says what it was held in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engines.errors import NotFinite
from engines.media import metadata
from engines.media.video import read_frames
from engines.registry import SPECS
from tests.engines.quantised import save, scaled_float8, write_gguf
from tests.engines.test_contract import Bench, session
from tests.engines.tiny_models import TINY


@pytest.fixture(scope="module", params=SPECS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


def quantised(bench: Bench, kind: str, *, damaged: bool = False) -> Path:
    """The engine's transformer in a quantised file, in the names it has."""
    path = bench.files["transformer"][0]
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["kinora"])
    tensors = load_file(path)
    if damaged:
        broken = next(key for key in tensors if key.endswith("bias"))
        tensors[broken] = torch.full_like(tensors[broken], torch.nan)
    if kind == "GGUF":
        return write_gguf(path.with_name(f"transformer{damaged:d}.gguf"), tensors, **facts)
    return save(path.with_name(f"float8{damaged:d}.safetensors"), scaled_float8(tensors), **facts)


def frames(path: str) -> np.ndarray:
    return np.stack(list(read_frames(Path(path)))).astype(int)


@pytest.mark.parametrize(("kind", "told"), [("GGUF", "GGUF Q8_0 in float32"), ("float8", "scaled float8 in float32")])
def test_a_clip_is_nearly_the_same_and_says_what_made_it(bench: Bench, kind: str, told: str, tmp_path: Path) -> None:
    files = bench.files | {"transformer": (quantised(bench, kind),)}
    *_, whole = bench.run(tmp_path / "whole")
    *_, done = bench.run(tmp_path / "small", session(bench.tiny, files))
    described = metadata.read(Path(done.result.video))
    assert described is not None and described.precisions["transformer"] == told
    assert described.precisions["vae"] == "float32"
    difference = np.abs(frames(whole.result.video) - frames(done.result.video))
    assert 0 < difference.mean() < 8


def test_numbers_in_a_gguf_that_are_not_finite_never_become_a_clip(bench: Bench, tmp_path: Path) -> None:
    files = bench.files | {"transformer": (quantised(bench, "GGUF", damaged=True),)}
    with pytest.raises(NotFinite) as stopped:
        list(bench.run(tmp_path / "out", session(bench.tiny, files)))
    sentence = str(stopped.value)
    assert "transformer1.gguf made numbers that are not finite" in sentence
    assert "\n" not in sentence and str(bench.folder) not in sentence and list((tmp_path / "out").iterdir()) == []
