"""Step caches: on every engine that has them they save calls and change the clip, leave nothing behind, and no clip is
made with the calibration of another checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttention

from engines.errors import IncompatibleCheckpoint, InvalidRequest
from engines.media import metadata
from engines.registry import SPECS, implementation
from engines.runtime import calibrating
from engines.sampling import calibration
from engines.sampling.caches import CACHES, FIELD, calibrates
from engines.sampling.calibration import NotCalibrated
from tests.engines.test_contract import Bench, differ
from tests.engines.tiny_models import TINY

STEPS = 9
ENGINES = [name for name, spec in SPECS.items() if calibrates(spec.request_type)]
# Five, then every second or third.
COMPUTED = {"half": 7, "third": 6}


@pytest.fixture(scope="module", params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def whole(bench: Bench) -> np.ndarray:
    """The clip without a cache."""
    with attentions() as count:
        clip = bench.clip(steps=STEPS)
    bench.computed = count[0]
    return clip


@contextmanager
def attentions() -> Iterator[list[int]]:
    """Counts how often an attention of a transformer computes."""
    count = [0]

    def counted(module: torch.nn.Module, *_: Any) -> None:
        count[0] += isinstance(module, WanAttention)

    with closing(_Removed(torch.nn.modules.module.register_module_forward_hook(counted))):
        yield count


class _Removed:
    def __init__(self, handle: Any) -> None:
        self.close = handle.remove


def calibrated(bench: Bench, **values: Any) -> str:
    """Calibrates the tiny model; the name of the file that it says."""
    request = bench.request(**({"steps": STEPS} | values))
    *words, answer = calibrating.calibrate(bench.spec, request, bench.session)
    assert [piece.text for piece in words] == [f"Step {index} of {STEPS}.\n" for index in range(1, STEPS + 1)]
    return answer.text


def test_engines_have_them() -> None:
    assert {"phantom-wan", "flashi2v", "bindweave"} <= set(ENGINES)


def test_a_cache_saves_what_it_says_and_changes_the_clip(bench: Bench, whole: np.ndarray) -> None:
    for name, computed in COMPUTED.items():
        with attentions() as count:
            cached = bench.clip(steps=STEPS, step_cache=name)
        assert count[0] / bench.computed == computed / STEPS
        assert differ(cached, whole)


def test_nothing_of_a_cache_is_left_behind(bench: Bench, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    context = bench.session.context(bench.spec.name, bench.spec.model("tiny"))
    with closing(implementation(bench.spec).generate(bench.request(steps=STEPS, step_cache="third"), context)) as made:
        next(item for item in made if getattr(item, "index", 0) == 7)  # cancelled in the middle of its steps
    cached = bench.clip(steps=STEPS, step_cache="third")
    assert np.array_equal(cached, bench.clip(steps=STEPS, step_cache="third"))
    assert np.array_equal(whole, bench.clip(steps=STEPS))
    if bench.tiny.batching:
        monkeypatch.setattr(bench.tiny.batching, 0)
        apart = bench.clip(steps=STEPS, step_cache="third")
        assert np.abs(cached.astype(int) - apart).max() <= 1, "each pass has its own"


def test_a_clip_says_that_steps_were_left_out(bench: Bench, tmp_path: Path) -> None:
    *_, done = bench.run(tmp_path, steps=STEPS, step_cache="half")
    told = metadata.read(Path(done.result.video))
    assert told.parameters[FIELD] == "half"
    assert CACHES["half"].note in told.notes and CACHES["half"].title in CACHES["half"].note
    *_, done = bench.run(tmp_path, steps=STEPS)
    assert not any("step cache" in note for note in done.result.notes)


def test_a_cache_that_would_never_act_is_refused(bench: Bench) -> None:
    for name in set(CACHES) - {"none"}:
        least = CACHES[name].least_steps
        bench.request(steps=least, step_cache=name)
        with pytest.raises(
            InvalidRequest, match=f"never acts in a clip of {least - 1} steps: choose none, or at least"
        ):
            bench.request(steps=least - 1, step_cache=name)
    with pytest.raises(InvalidRequest, match="Step cache must be 'none', 'half', 'third' or 'calibrated'"):
        bench.request(step_cache="fast")


def test_a_checkpoint_is_calibrated_by_itself_and_no_other(bench: Bench, whole: np.ndarray) -> None:
    transformer = bench.files["transformer"]
    with pytest.raises(NotCalibrated, match="has no calibration") as refused:
        bench.clip(steps=STEPS, step_cache="calibrated")
    assert "python -m studio calibrate" in refused.value.hint
    with pytest.raises(InvalidRequest, match="8 steps or more"):
        calibrated(bench, steps=5)
    assert not calibration.place(transformer).exists()

    assert calibrated(bench) == calibration.place(transformer).name
    ratios = calibration.read(transformer)
    assert len(ratios) == STEPS and ratios[0] == 1.0
    assert np.array_equal(whole, bench.clip(steps=STEPS)), "calibrating leaves nothing on the network"
    with attentions() as count:
        cached = bench.clip(steps=STEPS, step_cache="calibrated")
    assert 0 < count[0] < bench.computed
    assert differ(cached, whole)
    assert np.array_equal(cached, bench.clip(steps=STEPS, step_cache="calibrated"))
    bench.clip(steps=2 * STEPS, step_cache="calibrated")

    path = calibration.place(transformer)
    told = json.loads(path.read_text(encoding="utf-8"))
    for wrong in (told | {"ratios": [1.0, float("nan")]}, told | {"ratios": []}, []):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(IncompatibleCheckpoint) as refused:
            bench.clip(steps=STEPS, step_cache="calibrated")
        assert str(path.parent) not in str(refused.value) and "\n" not in str(refused.value)


def test_other_weights_of_the_same_name_and_size_have_no_calibration(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"a" * 5_000_000)
    calibration.write([path], [1.0, 0.9])
    assert calibration.read([path]) == (1.0, 0.9)
    path.write_bytes(b"b" * 5_000_000)
    with pytest.raises(NotCalibrated, match="is not the checkpoint") as refused:
        calibration.read([path])
    assert str(tmp_path) not in str(refused.value) and "\n" not in str(refused.value)


def test_the_calibrated_cache_leaves_out_as_much_as_was_measured_to_be_good() -> None:
    cache = CACHES["calibrated"]
    assert (cache.threshold, cache.most_skipped, cache.full_share) == (0.06, 3, 0.2)


def test_what_a_cache_keeps_is_booked(bench: Bench) -> None:
    booked = {}
    for name in ("none", "half"):
        context = bench.session.context(bench.spec.name, bench.spec.model("tiny"))
        with closing(implementation(bench.spec).generate(bench.request(steps=STEPS, step_cache=name), context)) as made:
            next(item for item in made if getattr(item, "index", 0) == 1)  # the transformer is in use
            booked[name] = sum(entry.working_bytes for entry in bench.session.cache._entries.values())
    assert booked["half"] > booked["none"] > 0
