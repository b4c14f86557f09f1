"""Which worker makes a clip, as a table."""

from __future__ import annotations

import pytest

from studio.jobs.assign import Candidate, Needs, assign, has_memory

GB = 2**30
CPU = Candidate("cpu", free_bytes=60 * GB, total_bytes=64 * GB)
SMALL = Candidate("cuda:0", free_bytes=7 * GB, total_bytes=8 * GB)
LARGE = Candidate("cuda:1", free_bytes=20 * GB, total_bytes=24 * GB)
LIGHT, HEAVY = Needs("e/starter"), Needs("e/14B", 24 * GB)


def busy(worker: Candidate) -> Candidate:
    return Candidate(worker.name, worker.free_bytes, worker.total_bytes, True, worker.warm)


def warm(worker: Candidate, model: str, size: int) -> Candidate:
    return Candidate(worker.name, worker.free_bytes, worker.total_bytes, worker.busy, ((model, size),))


@pytest.mark.parametrize(
    ("needs", "workers", "chosen"),
    [
        (LIGHT, [], None),
        (LIGHT, [busy(CPU)], None),
        (LIGHT, [CPU], "cpu"),
        (LIGHT, [SMALL, LARGE], "cuda:1"),
        (LIGHT, [CPU, SMALL], "cuda:0"),
        (LIGHT, [CPU, busy(SMALL)], "cpu"),
        (LIGHT, [warm(SMALL, "e/starter", 5), LARGE], "cuda:0"),
        (LIGHT, [warm(SMALL, "e/other", 5), LARGE], "cuda:1"),
        (LIGHT, [warm(SMALL, "e/starter", 5), warm(LARGE, "e/starter", 9)], "cuda:1"),
        (LIGHT, [warm(CPU, "e/starter", 5), SMALL], "cuda:0"),
        (HEAVY, [SMALL, LARGE], "cuda:1"),
        (HEAVY, [warm(SMALL, "e/14B", 5), LARGE], "cuda:1"),
        (HEAVY, [SMALL, busy(LARGE)], None),
        (HEAVY, [CPU, SMALL, busy(LARGE)], None),
        (HEAVY, [CPU, SMALL], "cpu"),
        (HEAVY, [SMALL], "cuda:0"),
        (HEAVY, [busy(SMALL), CPU], "cpu"),
        (HEAVY, [Candidate("cuda:2")], "cuda:2"),
    ],
)
def test_the_right_worker_makes_it(needs: Needs, workers: list[Candidate], chosen: str | None) -> None:
    found = assign(needs, workers)
    assert (found.name if found else None) == chosen


def test_a_card_reports_less_than_its_name_says() -> None:
    assert has_memory(25_386_352_640, 24 * GB)  # an RTX 4090
    assert not has_memory(16 * GB, 24 * GB)
