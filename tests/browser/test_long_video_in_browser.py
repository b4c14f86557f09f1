"""The Long video tab in a real Chromium: what a length comes to, and what a storyboard means while it is written."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


def test_length_and_storyboard_are_told_in_units(page) -> None:
    page.get_by_role("tab", name="Long video").click()
    page.get_by_text("16 units, 121 frames @ 24 fps = 5.04 s, 640x384, at most 5.04 s").wait_for()
    page.locator("#pyramid-flow-seconds input").fill("2")
    page.get_by_text("7 units, 49 frames @ 24 fps = 2.04 s, 640x384, at most 5.04 s").wait_for()

    board, reading = page.locator("#pyramid-flow-storyboard textarea"), page.locator("#pyramid-flow-storyboard-reading")
    assert board.get_attribute("placeholder").startswith("0-2: ")
    board.fill("0-1: a fox runs")
    reading.get_by_role("alert").get_by_text("no prompt for 1-2.04 s").wait_for()
    board.fill("0-1.1: a fox runs\n1.1-2: it sits down")
    reading.get_by_text("2 scenes: units 1-4, units 5-7.").wait_for()
    assert not page.locator("#pyramid-flow-keep").is_visible()
    assert page.locator("#pyramid-flow-continues").is_visible()
