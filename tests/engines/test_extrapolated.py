"""Step caches of the loops of this project's own: Pyramid Flow's stages, and pictures and physics side by side."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.errors import InvalidRequest
from engines.media import metadata
from engines.registry import SPECS, implementation
from engines.sampling.caches import CACHES, FIELD, calibrates
from engines.sampling.extrapolated import Extrapolated
from studio.command_line import main
from tests.engines.test_contract import Bench, differ
from tests.engines.tiny_models import TINY

STEPS = 9
ENGINES = [name for name, spec in SPECS.items() if not calibrates(spec.request_type)]
COMPUTED = {"half": 7, "third": 6}  # of nine


def test_what_is_left_out_lies_on_the_line_through_what_was_computed_last() -> None:
    memory, computed = Extrapolated("third"), []

    def at(step: int) -> float:
        def compute() -> list[torch.Tensor]:
            computed.append(step)
            return [torch.tensor(3.0 + 2.0 * step), torch.tensor(-1.0 * step)]

        first, second = memory.at(step, compute)
        assert float(second) == -step
        return float(first)

    assert [at(step) for step in range(14)] == [3.0 + 2.0 * step for step in range(14)]
    assert computed == [0, 1, 2, 3, 4, 6, 9, 12]  # as diffusers' TaylorSeer
    everything = Extrapolated("none")
    assert [float(everything.at(step, lambda step=step: [torch.tensor(step)])[0]) for step in (0, 7, 1)] == [0, 7, 1]


@pytest.fixture(scope="module", params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(TINY[request.param], tmp_path_factory.mktemp(request.param))


def clip(bench: Bench, **values: object) -> np.ndarray:
    return bench.clip(
        **{"steps": STEPS, **({"later_steps": STEPS} if bench.spec.name == "pyramid-flow" else {}), **values}
    )


def calls(bench: Bench, **values: object) -> tuple[np.ndarray, dict[str, int]]:
    """A clip, and how often each network of the steps was called for it."""
    count: Counter[str] = Counter()
    handles = []
    real = type(bench.session.cache)._bring

    def bring(cache: object, entry: object, *given: object, **told: object) -> None:
        real(cache, entry, *given, **told)
        role = entry.key.split()[0]
        if role in ("transformer", "physics"):
            handles.append(entry.module.register_forward_pre_hook(lambda *_: count.update([role])))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(bench.session.cache), "_bring", bring)
        made = clip(bench, **values)
    for handle in handles:
        handle.remove()
    return made, dict(count)


def test_steps_are_left_out_of_every_run_and_nothing_stays_behind(bench: Bench) -> None:
    whole = clip(bench)
    with_all, all_calls = calls(bench)
    assert np.array_equal(with_all, whole)
    for name, computed in COMPUTED.items():
        cached, some_calls = calls(bench, step_cache=name)
        assert differ(cached, whole)
        assert set(some_calls) == set(all_calls) and all_calls
        for role, count in all_calls.items():
            assert some_calls[role] / count == computed / STEPS
    assert np.array_equal(cached, clip(bench, step_cache=name))
    context = bench.session.context(bench.spec.name, bench.spec.model("tiny"))
    with closing(implementation(bench.spec).generate(bench.request(steps=STEPS, step_cache="third"), context)) as made:
        next(item for item in made if getattr(item, "index", 0) == 7)  # cancelled in the middle of its steps
    assert np.array_equal(whole, clip(bench))


def test_a_clip_says_that_steps_were_left_out(bench: Bench, tmp_path: Path) -> None:
    *_, done = bench.run(tmp_path, steps=STEPS, step_cache="half")
    told = metadata.read(Path(done.result.video))
    assert told.parameters[FIELD] == "half" and CACHES["half"].note in told.notes
    *_, done = bench.run(tmp_path, steps=STEPS)
    assert not any("step cache" in note for note in done.result.notes)


def test_what_does_not_apply_is_refused_in_a_sentence(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequest, match="Step cache must be 'none', 'half' or 'third'"):
        bench.request(step_cache="calibrated")
    with pytest.raises(InvalidRequest, match="never acts in a clip of 6 steps: choose none, or at least 7"):
        bench.request(steps=6, step_cache="half")
    assert main(["calibrate", bench.spec.name, "--prompt", "a star"]) == 2
    assert "has no calibrated step cache: there is nothing to calibrate." in capsys.readouterr().err
