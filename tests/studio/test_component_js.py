"""The functions of the page's own elements, run by node with the data that the page hands them."""

from __future__ import annotations

import json

import pytest

from tests.studio.node import evaluated, needs_node

NEWS = [
    {"id": "a", "state": "done", "at": 20, "title": "a fox"},
    {"id": "b", "state": "failed", "at": 30, "title": "a dog"},
]


@needs_node
def test_clips_of_any_length_and_rate_share_one_clock() -> None:
    clips = json.dumps([{"frames": 24, "fps": 12}, {"frames": 9, "fps": 6}, {"frames": 81, "fps": 16}])
    assert evaluated(f"kinora.clock({clips})") == {"fps": 16, "frames": 81}
    assert evaluated("kinora.secondsAt({frames: 9, fps: 6}, 12, 2)") == pytest.approx(2.5 / 12)
    assert evaluated("kinora.secondsAt({frames: 9, fps: 6}, 12, 23)") == pytest.approx(8.5 / 6), "over: its last frame"
    assert evaluated("[-1, 0, 0.49, 99].map(at => kinora.frameAt({fps: 10, frames: 30}, at))") == [0, 0, 4, 29]
    assert evaluated("kinora.position({fps: 12, frames: 24}, 12)") == "frame 13 of 24 · 1.08 s"


@needs_node
def test_the_title_tells_of_the_whole_queue_on_every_tab() -> None:
    asked = [
        "{percent: 42, waiting: 0}",
        "{percent: 42, waiting: 3}",
        "{percent: null, waiting: 2}",
        "{percent: 0, waiting: 0}",
    ]
    assert evaluated(f"[{', '.join(f'kinora.pageTitle({one})' for one in asked)}]") == [
        "(42 %) Kinora", "(42 % · 3 waiting) Kinora", "(2 waiting) Kinora", "(0 %) Kinora",
    ]  # fmt: skip
    assert evaluated("[true, false].map(fresh => kinora.pageTitle({percent: null, waiting: 0}, fresh))") == [
        "✓ Kinora",
        "Kinora",
    ]


@needs_node
def test_only_what_ended_since_the_last_look_is_told() -> None:
    news = json.dumps(NEWS)
    assert evaluated(f"kinora.ended(null, {news})") == [], "everything is old at the first look"
    assert evaluated(f"kinora.ended(new Map(), {news})") == NEWS
    assert evaluated(f"kinora.ended(new Map([['a', {{state: 'done', at: 20}}]]), {news})") == NEWS[1:]
    again = "new Map([['a', {state: 'failed', at: 10}], ['b', {state: 'failed', at: 15}]])"
    assert evaluated(f"kinora.ended({again}, {news})") == NEWS[:1], "tried again"
    newest = "new Map([['c', {state: 'done', at: 40}]])"
    assert evaluated(f"kinora.ended({newest}, {news})") == [], "what comes into view when c is deleted is old"
    told = evaluated(f"{json.dumps([*NEWS, {'id': 'c', 'state': 'cancelled', 'title': ''}])}.map(kinora.announcement)")
    assert told == [["Your clip is done", "a fox"], ["A clip could not be made", "a dog"], None]
