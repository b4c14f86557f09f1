"""Batches that a GPU sees again while others are drawn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest
import torch

from engines.training.replay import Replay, numbers

CPU = torch.device("cpu")


def drawn(count: int) -> Iterator[dict[str, torch.Tensor]]:
    for number in range(count):
        yield {"number": torch.tensor(number)}


def test_every_batch_is_shown_and_none_more_often_on_average_than_it_may() -> None:
    shown = [int(batch["number"]) for batch in Replay(drawn(10), CPU, shown=3.0)]
    assert set(shown) == set(range(10))
    assert len(shown) == 30


def test_what_is_new_comes_first() -> None:
    going = threading.Event()

    def slow() -> Iterator[dict[str, torch.Tensor]]:
        yield from drawn(2)
        going.wait(10)
        yield {"number": torch.tensor(2)}

    replay = Replay(slow(), CPU, shown=3.0)
    early = [int(batch["number"]) for batch in islice(replay, 6)]  # as often as two may be shown
    assert set(early) == {0, 1}
    going.set()
    assert int(next(replay)["number"]) == 2
    replay.close()


def test_a_fault_of_the_drawing_is_told_where_the_batch_is_wanted() -> None:
    def broken() -> Iterator[dict[str, torch.Tensor]]:
        yield from drawn(1)
        raise ValueError("no such word")

    with pytest.raises(ValueError, match="no such word"):
        list(Replay(broken(), CPU, shown=2.0))


def test_the_oldest_goes_when_there_is_no_more_room() -> None:
    replay = Replay(drawn(20), CPU, shown=1.0, kept=4)
    assert len(list(replay)) == 20
    assert len(replay._seen) == 4


def test_the_oldest_goes_when_it_takes_too_many_bytes() -> None:
    replay = Replay(drawn(20), CPU, shown=1.0, room=3 * 8)
    assert len(list(replay)) == 20
    assert len(replay._seen) == 3


def test_drawing_follows_training_that_is_ahead_and_keeps_the_turns_of_stages() -> None:
    trained, found = [100], []
    for number in numbers(lambda: trained[0], turns=3, end=170):
        found.append(number)
        trained[0] += 5  # every batch is shown five times
    assert found[0] == 100 and all(later > before for before, later in pairwise(found))
    assert all(100 + 5 * index - number < 3 + 5 for index, number in enumerate(found))  # less than a turn and a batch
    assert {number % 3 for number in found} == {0, 1, 2}
    assert list(numbers(lambda: 7, turns=3, end=12)) == [7, 8, 9, 10, 11]


def test_closing_ends_the_drawing() -> None:
    def endless() -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from drawn(1)

    replay = Replay(endless(), CPU)
    next(replay)
    replay.close()
    assert not replay._thread.is_alive()
