"""Grids of clips that differ in numbers: what people write, and what is queued of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import InvalidRequest, StudioError
from engines.registry import SPECS
from studio import sweep
from studio.service import Studio
from studio.sweep import Axis
from tests.studio.conftest import values

PHANTOM = SPECS["phantom-wan"]


@pytest.mark.parametrize(
    ("name", "text", "means"),
    [
        ("seed", "1, 2, 3", (1, 2, 3)),
        ("seed", "7", (7,)),
        ("seed", "1..4", (1, 2, 3, 4)),
        ("steps", "10..30 by 10", (10, 20, 30)),
        ("steps", "10, 20..40 by 10, 10", (10, 20, 30, 40)),
        ("shift", "1 to 2 by 0.25", (1.0, 1.25, 1.5, 1.75, 2.0)),
        ("shift", " 3.5 ; 5,", (3.5, 5.0)),
    ],
)
def test_values_are_written_as_people_write_them(name: str, text: str, means: tuple) -> None:
    assert sweep.axis(PHANTOM, name, text) == Axis(name, means)


@pytest.mark.parametrize(
    "text", ["", " , ", "a", "1.5", "1..", "5..1", "1..9 by 0", "1..9999", "1e999", "1..9 by x", "--1"]
)
def test_anything_else_is_a_sentence(text: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        sweep.axis(PHANTOM, "steps", text)
    (problem,) = raised.value.problems
    assert problem.field == "steps" and problem.message.endswith(".")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_every_number_field_of_every_engine_can_differ(spec) -> None:
    names = [name for _, name in sweep.fields(spec)]
    assert names[0] == "seed" and {"steps", "frames"} <= set(names) | {"steps"}
    assert "prompt" not in names and "keep_background" not in names
    with pytest.raises(InvalidRequest):
        sweep.axis(spec, "prompt", "1, 2")


def test_a_grid_is_one_batch_in_reading_order(idle: Studio, picture: Path) -> None:
    axes = [sweep.axis(PHANTOM, "steps", "4, 6"), sweep.axis(PHANTOM, "seed", "1..3")]
    jobs = sweep.submit(idle, "phantom-wan", values(picture), axes)
    assert [(job.request["steps"], job.request["seed"]) for job in jobs] == [
        (4, 1),
        (4, 2),
        (4, 3),
        (6, 1),
        (6, 2),
        (6, 3),
    ]
    assert len({job.batch for job in jobs}) == 1
    assert [job.id for job in idle.store.queued()] == [job.id for job in jobs]
    assert len(list(idle.settings.pictures.iterdir())) == 1


def test_a_random_seed_is_the_same_over_the_grid(idle: Studio, picture: Path) -> None:
    jobs = sweep.submit(idle, "phantom-wan", values(picture, seed=-1), [sweep.axis(PHANTOM, "steps", "4..6")])
    assert len({job.request["seed"] for job in jobs}) == 1 and jobs[0].request["seed"] >= 0


def test_all_or_none_are_queued(idle: Studio, picture: Path) -> None:
    for axes in (
        [Axis("steps", (4, 0))],
        [Axis("steps", (4, 5)), Axis("steps", (6,))],
        [Axis("steps", tuple(range(1, 8))), Axis("seed", tuple(range(8)))],
    ):
        with pytest.raises(InvalidRequest):
            sweep.submit(idle, "phantom-wan", values(picture), axes)
    full = replace(idle, settings=replace(idle.settings, queue_limit=3))
    with pytest.raises(StudioError, match="queue is full"):
        sweep.submit(full, "phantom-wan", values(picture), [Axis("seed", (1, 2, 3, 4))])
    assert idle.store.queued() == []
