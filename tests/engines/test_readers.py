"""A clip whose prompts another device reads: two processes over gloo on tiny real networks, and who decides it."""

from __future__ import annotations

from typing import Any

import pytest

from engines.loading.store import ASSETS
from engines.memory import estimating, outlines
from engines.memory.estimating import Machine
from engines.memory.planning import Abilities
from engines.registry import SPECS
from studio.estimating import request_of
from tests.engines.test_parallel import members

pytestmark = pytest.mark.timeout(300)  # two processes that wait for each other, on a machine of few cores
READERS = {"text_encoder", "clip", "clip_2", "mllm"}
Finds = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def finds(tmp_path_factory: pytest.TempPathFactory) -> Finds:
    """What each of the two members found, by case."""
    return members(tmp_path_factory.mktemp("readers"), "reading")


@pytest.mark.parametrize("engine", SPECS)
def test_the_second_device_reads_and_only_states_travel(finds: Finds, engine: str) -> None:
    first, second = finds[0][engine], finds[1][engine]
    assert first["levels"] == [0, 0]
    read = set(second["roles"][0])
    assert "text_encoder" in read and read <= READERS  # it uses nothing else
    assert not read & set(first["roles"][0]) and "transformer" in first["roles"][0]
    assert first["told"]["text_encoder"]  # the clip tells what read its prompt, wherever that stood
    assert not second["roles"][1] and not read & set(first["roles"][1])  # remembered: nobody reads again


def test_a_reader_that_leaves_takes_nothing_with_it(finds: Finds) -> None:
    first, second = finds[0]["left"], finds[1]["left"]
    assert first["levels"] == [0, 0] and "text_encoder" in first["roles"][0] and second["roles"] == [[], []]


def gpu(gigabytes: float) -> Machine:
    return Machine(Abilities("cuda", "bfloat16"), int(gigabytes * 1e9), ram_bytes=int(64e9))


@pytest.mark.parametrize(
    ("model", "here", "there", "elsewhere"),
    [
        ("1.3B", 80, 80, False),  # everything stays side by side
        ("1.3B", 16, 24, True),  # the 1.3B and its encoder of 11 GB do not
        ("1.3B", 16, 8, False),  # nor would the encoder be whole over there
        ("14B", 80, 24, False),
        ("14B", 40, 24, True),
        ("14B", 24, 24, True),  # whose blocks take turns
    ],
)
def test_the_planner_decides_by_what_stays(model: str, here: float, there: float, elsewhere: bool) -> None:
    spec = SPECS["phantom-wan"]
    request = request_of(spec, {"model": model, "prompt": "A fox."})
    known = outlines.outlines(spec.model(model), assets=ASSETS)
    assert estimating.reads_elsewhere(spec, request, known, gpu(here), gpu(there)) is elsewhere


def test_on_one_machine_s_ram_nothing_is_won() -> None:
    spec = SPECS["phantom-wan"]
    request = request_of(spec, {"model": "14B", "prompt": "A fox."})
    known = outlines.outlines(spec.model("14B"), assets=ASSETS)
    small = Machine(Abilities("cpu", "bfloat16"), int(24e9))
    assert not estimating.reads_elsewhere(spec, request, known, small, small)
