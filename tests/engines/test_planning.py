"""The planner takes the best rung that fits, never more than the budget, and says what would fit where nothing does."""

from __future__ import annotations

import random

import pytest

from engines.memory.planning import SMALL_BYTES, Abilities, Counted, Room, Share, Way, forms, ladder, plan


@pytest.mark.parametrize(
    ("size", "working", "idle", "busy", "turns", "mode", "swaps"),
    [
        (5, 2, 3, 0, None, "resident", False),
        (5, 2, 4, 0, None, "resident", True),
        (5, 2, 0, 4, 2, "turns", False),
        (5, 2, 0, 4, None, "refused", False),
        (9, 2, 0, 0, 9, "refused", False),
        (10, 0, 0, 0, 3, "resident", False),
    ],
)
def test_a_plan_takes_the_fastest_way_that_fits(size, working, idle, busy, turns, mode, swaps):
    made = plan([Way("bfloat16", size, working, turns)], Room(10, busy_bytes=busy, idle_bytes=idle))
    assert (made.mode, made.swaps) == (mode, swaps)
    assert made.reason


def test_quantised_weights_come_before_turns_and_where_weights_are_shared_that_comes_first():
    full, small = Way("bfloat16", 10, 2, 4, block_bytes=1), Way("int8", 5, 2, 2, block_bytes=1)

    def chosen(budget: int) -> tuple[str, str]:
        made = plan([full, small], Room(budget))
        return made.mode, made.way.form

    assert [chosen(budget) for budget in (12, 11, 7, 6, 5, 4)] == [
        ("resident", "bfloat16"),
        ("resident", "int8"),
        ("resident", "int8"),
        ("turns", "bfloat16"),
        ("turns", "int8"),
        ("turns", "int8"),
    ]
    whole = [Way("bfloat16", 10, 2, block_bytes=1, outside_bytes=2)]
    assert plan(whole, Room(99, devices=2)).mode == "split" and plan(whole, Room(9)).mode == "refused"
    assert plan(whole, Room(10, devices=2)).device_bytes == 2 + 8 // 2 + 2
    assert plan(whole, Room(99, devices=2, ram_bytes=1)).mode == "split", "no device reads all of it"
    assert plan([Way("bfloat16", 10, 9, fixed_bytes=1)], Room(16, members=2)).needs_bytes == 10 + 1 + 8 * 1.25 / 2
    assert Room(9, members=2).of("text_encoder").members == 1
    assert Room(9, devices=2).of("vae").devices == 1 and Room(9, devices=2).of("text_encoder").devices == 2


def test_where_the_next_precision_is_slow_blocks_take_turns_first():
    ways = [Way("float32", 8, 0, 3), Way("bfloat16", 4, 0, 2)]
    assert [rung.way.form for rung in ladder(ways)] == ["float32", "bfloat16", "float32", "bfloat16"]
    patient = [(rung.mode, rung.way.form) for rung in ladder(ways, turns_first=True)]
    assert patient == [("resident", "float32"), ("turns", "float32"), ("resident", "bfloat16"), ("turns", "bfloat16")]
    assert plan(ways, Room(4), turns_first=True).mode == "turns" and plan(ways, Room(4)).mode == "resident"


def test_a_next_try_begins_below_the_rung_that_failed():
    ways = [Way("bfloat16", 10, 2, 4), Way("int8", 5, 2, 2)]
    tried, lower = [], 0
    while (made := plan(ways, Room(100), lower=lower)).possible:
        tried.append((made.mode, made.way.form))
        lower = made.rung + 1
    assert tried == [("resident", "bfloat16"), ("resident", "int8"), ("turns", "bfloat16"), ("turns", "int8")]


def test_a_refusal_says_what_would_fit():
    made = plan([Way("float32", 6, 4)], Room(8))
    assert not made.possible and made.fits == 0.5 and made.needs_bytes == 10 and "may be used" in made.reason
    assert plan([Way("float32", 9, 4)], Room(8)).fits == 0
    starved = plan([Way("bfloat16", 10, 1, 3)], Room(100, ram_bytes=9))
    assert "of RAM" in starved.reason and starved.fits == 0


@pytest.mark.parametrize("seed", range(200))
def test_no_plan_exceeds_its_room_and_none_that_fits_is_missed(seed):
    draw = random.Random(seed)

    def way() -> Way:
        size = draw.randint(1, 60)
        turns = draw.choice((None, draw.randint(1, size)))
        return Way(draw.choice("abc"), size, draw.randint(0, 30), turns, draw.choice((0, draw.randint(1, 9))))

    ways = [way() for _ in range(draw.randint(1, 4))]
    room = Room(
        draw.randint(1, 80),
        busy_bytes=draw.choice((0, draw.randint(0, 30))),
        idle_bytes=draw.randint(0, 30),
        ram_bytes=draw.choice((None, draw.randint(1, 80))),
        devices=draw.randint(1, 4),
    )
    patient, lower = draw.random() < 0.5, draw.choice((0, 0, draw.randint(0, 5)))
    made = plan(ways, room, turns_first=patient, lower=lower)

    def fits(rung) -> bool:
        taken = rung.device_bytes(room.devices) + rung.way.working_bytes + room.busy_bytes
        in_ram = room.ram_bytes is None or rung.mode == "split" or rung.way.size_bytes <= room.ram_bytes
        return taken <= room.budget_bytes and in_ram

    rungs = ladder(ways, turns_first=patient, devices=room.devices)
    possible = [number for number, rung in enumerate(rungs) if number >= lower and fits(rung)]
    assert made.possible == bool(possible)
    if possible:
        assert made.rung == possible[0] and rungs[made.rung].way is made.way
        assert made.needs_bytes + room.busy_bytes <= room.budget_bytes
    else:
        assert made.device_bytes == 0 and made.reason


def test_weights_are_counted_by_precision():
    counted = Counted(Share(100, 10), outside=Share(20, 10), block=Share(8), buffer_bytes=4)
    half, full = counted.way("bfloat16", 2, working_bytes=7), counted.way("float32", 4)
    assert (half.size_bytes, half.turn_bytes, half.working_bytes) == (90 * 2 + 40 + 4, 10 * 2 + 40 + 4 + 2 * 16, 7)
    assert (full.size_bytes, full.turn_bytes) == (404, 84 + 64)
    assert Counted(Share(100)).way("float32", 4).turn_bytes is None


ALL = ("bfloat16", "float16", "float32")


@pytest.mark.parametrize(
    ("able", "right", "size", "expected"),
    [
        (Abilities("cuda", "bfloat16"), ALL, 1, (("bfloat16",), False)),
        (Abilities("cuda", "bfloat16", "float32"), ALL, 1, (("float32",), False)),
        (Abilities("cuda", "bfloat16", "half"), ("float32",), 1, (("float32",), False)),
        (Abilities("cpu", "", "half"), ALL, 1, (("bfloat16",), False)),
        (Abilities("cpu", "bfloat16", "float32"), ALL, SMALL_BYTES + 1, (("float32",), False)),
        (Abilities("cpu", "", "int8"), ALL, 1, (("float32", "bfloat16"), True)),
        (Abilities("cuda", "float16"), ("bfloat16", "float32"), 1, (("float32",), False)),
        (Abilities("mps", "bfloat16"), ALL, 1, (("bfloat16",), False)),
        (Abilities("cpu"), ALL, 2 * SMALL_BYTES, (("float32", "bfloat16"), True)),
        (Abilities("cpu", "bfloat16"), ALL, SMALL_BYTES, (("float32", "bfloat16"), False)),
        (Abilities("cpu", "bfloat16"), ALL, SMALL_BYTES + 1, (("bfloat16",), False)),
        (Abilities("cpu", "bfloat16"), ("float32",), 2 * SMALL_BYTES, (("float32",), False)),
    ],
)
def test_the_precision_follows_what_the_device_computes_in(able, right, size, expected):
    assert forms(able, right, float32_bytes=size) == expected
