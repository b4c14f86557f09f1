"""Every call of an engine's transformer is told its passes and its step, whatever loop makes it."""

from __future__ import annotations

from typing import Any

import pytest

from engines.phantom_physics import sampling
from engines.sampling import guidance
from engines.sampling.guidance import NetworkCall
from tests.engines.test_contract import Bench
from tests.engines.tiny_models import TINY

STEPS = 2


@pytest.mark.parametrize("engine", TINY)
def test_the_network_of_every_engine_is_told_what_it_is_called_for(
    engine: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[NetworkCall] = []

    def recorded(*arguments: Any, **named: Any) -> NetworkCall:
        calls.append(NetworkCall(*arguments, **named))
        return calls[-1]

    own_loops = [sampling] if engine == "phantom-physics" else []
    for module in (guidance, *own_loops):
        monkeypatch.setattr(module, "NetworkCall", recorded, raising=False)
    Bench(TINY[engine], tmp_path_factory.mktemp(engine)).clip()
    assert calls
    for call in calls:
        assert call.passes and set(call.passes) <= {"cond", "uncond", "pos_it", "pos_i", "neg"}
        assert call.step.total >= STEPS and 0 <= call.step.index < call.step.total and 0 < call.step.sigma <= 1
    assert {call.step.index for call in calls} == set(range(calls[0].step.total))
