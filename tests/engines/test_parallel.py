"""One clip made by two processes is the clip of one: every engine, over gloo, on tiny real networks.

Two processes are started once and go through all cases of two_members.py; each test reads one of their finds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.parallel.choosing import Share, choose
from engines.registry import SPECS
from engines.request import Request
from engines.sampling import guidance
from tests.engines.tiny_models import TINY

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)  # two processes that wait for each other, on a machine of few cores

Finds = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def finds(tmp_path_factory: pytest.TempPathFactory) -> Finds:
    """What each of the two members found, by case."""
    return members(tmp_path_factory.mktemp("members"))


def members(folder: Path, *cases: str) -> Finds:
    """What each of two processes of two_members.py found."""
    words = [sys.executable, "-m", "tests.engines.two_members", str(folder)]
    logs = [(folder / f"{rank}.log").open("w+") for rank in range(2)]
    started = [
        subprocess.Popen([*words, str(rank), *cases], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        for rank, log in enumerate(logs)
    ]
    try:
        for one in started:
            one.wait(timeout=500)
    finally:
        for one, log in zip(started, logs, strict=True):
            one.kill()
            one.wait()
            log.close()
    said = "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(2))
    assert [one.returncode for one in started] == [0, 0], said
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    return first, second


def made_alike(finds: Finds, case: str, *, levels: int) -> None:
    """The clip is that of one process, up to `levels` of 255; the helper decodes nothing; no network is changed."""
    first, second = finds[0][case], finds[1][case]
    assert first["levels"] <= levels and first["frames"] > 0
    assert second["frames"] == 0
    assert first["as it was"] and second["as it was"]


@pytest.mark.parametrize("engine", SPECS)
def test_guidance_dealt_to_two_is_the_guidance_of_one(finds: Finds, engine: str) -> None:
    case = f"guidance {engine}"
    made_alike(finds, case, levels=1)
    passes = SPECS[engine].passes(request(engine))
    rows = [finds[rank][case]["rows"] for rank in range(2)]
    alone = rows[0][1]
    assert [row[0] for row in rows] == [alone * -(-passes // 2) // passes, alone * (passes // 2) // passes]
    assert finds[0][case]["told"] | {"split": "guidance", "devices": "CPU, CPU"} == finds[0][case]["told"]


def test_a_member_without_a_pass_changes_nothing(finds: Finds) -> None:
    made_alike(finds, "guidance, one pass", levels=0)


def test_a_group_whose_first_member_stops_parts_and_its_members_meet_again(finds: Finds) -> None:
    assert finds[0]["left"] == finds[1]["left"] == {"ended": True}
    made_alike(finds, "met again", levels=1)


def request(engine: str, **values: Any) -> Request:
    spec = TINY[engine].spec
    return spec.request_type.model_construct(**spec.default_values("tiny") | values)


@pytest.mark.parametrize(
    ("engine", "values", "passes"),
    [
        ("phantom-wan", {"image_guidance": 4.0, "text_guidance": 3.0}, 3),
        ("phantom-wan", {"image_guidance": 3.0, "text_guidance": 3.0}, 2),
        ("phantom-wan", {"image_guidance": 1.0, "text_guidance": 1.0}, 1),
        ("flashi2v", {"guidance": 5.0}, 2),
        ("flashi2v", {"guidance": 1.0}, 1),
        ("bindweave", {"guidance": 0.5}, 1),
        ("pyramid-flow", {"guidance": 0.0, "video_guidance": 5.0}, 1),
        ("pyramid-flow", {"guidance": 1.0, "video_guidance": 5.0}, 2),
        ("pyramid-flow", {"guidance": 0.0, "video_guidance": 1.0}, 1),
        ("phantom-physics", {"guidance": 1.0, "physics_guidance": 3.0}, 2),
        ("phantom-physics", {"guidance": 1.0, "physics_guidance": 3.0, "physics_scale": 0.0}, 1),
        ("phantom-physics", {"guidance": 1.0, "physics_guidance": -1.0}, 1),
    ],
)
def test_how_many_passes_a_request_takes_is_known_before_anything_is_loaded(
    engine: str, values: dict[str, Any], passes: int
) -> None:
    assert SPECS[engine].passes(request(engine, **values)) == passes


@pytest.mark.parametrize(
    ("setting", "given", "chosen"),
    [
        ("none", {"passes": 3, "devices": 8}, Share(None)),
        ("guidance", {"passes": 3, "devices": 1}, Share(None)),
        ("guidance", {"passes": 3, "devices": 2}, Share("guidance", 2)),
        ("guidance", {"passes": 2, "devices": 8}, Share("guidance", 2)),
        ("sequence", {"passes": 1, "devices": 4}, Share("sequence", 4)),
        ("auto", {"passes": 3, "devices": 3}, Share("guidance", 3)),
        ("auto", {"passes": 2, "devices": 3}, Share("guidance", 2)),
        ("auto", {"passes": 2, "devices": 4}, Share("sequence", 4)),
        ("auto", {"passes": 1, "devices": 2}, Share("sequence", 2)),
        ("auto", {"passes": 2, "devices": 8}, Share("sequence", 8)),
        ("weights", {"passes": 3, "devices": 1}, Share(None)),
        ("weights", {"passes": 3, "devices": 4}, Share("weights", 4)),
        ("auto", {"passes": 3, "devices": 3, "holders": 2}, Share("weights", 3)),
        ("auto", {"passes": 3, "devices": 2, "holders": 3}, Share("guidance", 2)),
        ("sequence", {"passes": 3, "devices": 2, "holders": 2}, Share("sequence", 2)),
    ],
)
def test_what_suits_a_clip(setting: str, given: dict[str, Any], chosen: Share) -> None:
    assert choose(setting, **given) == chosen


# Pyramid Flow's coarsest stage has fewer tokens than a processor multiplies at once: there, rounding depends on who
# has how many.
LEVELS = dict.fromkeys(SPECS, 0) | {"pyramid-flow": 1}


@pytest.mark.parametrize("engine", SPECS)
def test_tokens_shared_by_two_are_those_of_one(finds: Finds, engine: str) -> None:
    made_alike(finds, f"sequence {engine}", levels=LEVELS[engine])
    assert finds[0][f"sequence {engine}"]["told"]["split"] == "sequence"


def test_tokens_and_heads_that_do_not_divide_are_shared_too(finds: Finds) -> None:
    made_alike(finds, "sequence, odd tokens", levels=0)


@pytest.mark.parametrize("engine", SPECS)
def test_weights_shared_by_two_make_the_clip_of_one(finds: Finds, engine: str) -> None:
    case = f"weights {engine}"
    made_alike(finds, case, levels=LEVELS[engine])
    roles = {"transformer", "text_encoder"} | ({"physics"} if engine == "phantom-physics" else set())
    for find in finds:
        held = find[case]["held"]
        assert roles <= held.keys() and all(0.45 < share < 0.55 for share in held.values()), held
        assert find[case]["kept"] == [], "what is of no use without the others is let go"
    assert finds[0][case]["told"]["split"] == "weights"


@pytest.mark.parametrize("case", ["odd tokens", "adapter", "GGUF", "float8"])
def test_weights_of_every_kind_are_shared(finds: Finds, case: str) -> None:
    made_alike(finds, f"weights, {case}", levels=0)
    assert all(find[f"weights, {case}"]["held"]["transformer"] < 0.55 for find in finds)


def test_a_network_that_cannot_be_shared_is_held_whole_and_the_clip_says_so(finds: Finds) -> None:
    made_alike(finds, "weights, adapter of norms", levels=0)
    first = finds[0]["weights, adapter of norms"]
    assert "transformer" not in first["held"]
    assert any("held whole by each device" in note for note in first["notes"])


@pytest.mark.parametrize("split", ["guidance", "sequence", "weights"])
def test_a_step_cache_decides_alike_on_every_member(finds: Finds, split: str) -> None:
    made_alike(finds, f"cached, {split}", levels=int(split == "guidance"))
    assert finds[0][f"cached, {split}"]["calls"] == finds[1][f"cached, {split}"]["calls"]


def test_nothing_to_split_is_told() -> None:
    assert "one pass" in choose("guidance", passes=1, devices=2).why


def test_who_deals_is_forgotten_after_the_block() -> None:
    class Second:
        own: Callable[..., dict[str, float]] = staticmethod(lambda weights: dict(list(weights.items())[1:]))
        total: Callable[..., float] = staticmethod(lambda part: part * 10)

    def predict(names: list[float]) -> list[float]:
        return names

    def guided() -> float:
        return guidance.guided(predict, {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 0.5}, batched=True)

    with pytest.raises(KeyError), guidance.dealt(Second()):
        assert guided() == 10.0
        raise KeyError
    assert guided() == 4.0
