"""A force drawn on the first picture in a real Chromium: pressed and dragged, it is what the clip is made with."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.media import metadata
from tests.browser.conftest import fresh_page, unfold
from tests.studio.server import Server

pytestmark = pytest.mark.browser
NAME = "phantom-physics"


class Tiny(Server):
    """The studio with a tiny physics model."""

    def command(self) -> list[str]:
        """The words that start it."""
        return [sys.executable, "-m", "tests.studio.serve_physics", str(self.port), str(self.outputs)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with Tiny(tmp_path_factory.mktemp("physics") / "outputs") as server:
        yield server


@pytest.fixture
def physics(browser, tiny: Tiny, picture: Path):
    """The Physics tab with a picture given."""
    with fresh_page(browser, tiny, width=1440) as page:
        unfold(page.get_by_role("tab", name="Physics", exact=True))
        page.locator(f"#{NAME}-picture-1 input[type=file]").set_input_files(picture)
        page.locator(f"#{NAME}-picture .crop-view img").wait_for()
        unfold(page.locator(f"#{NAME}-force-fold > button"))
        yield page


def number(page, name: str) -> float:
    return float(page.locator(f"#{NAME}-{name} input[type=number]").input_value())


def until(page, name: str, value: float) -> None:
    page.wait_for_function(
        "([id, value]) => Math.abs(Number(document.querySelector(id).value) - value) < 0.011",
        arg=[f"#{NAME}-{name} input[type=number]", value],
    )


def test_an_arrow_dragged_on_the_picture_is_the_force_of_the_clip(physics, tiny: Tiny) -> None:
    page = physics
    assert not page.locator("svg.force").count(), "nothing pushes until it is said"
    page.locator(f"#{NAME}-force").get_by_text("At a point").click()
    sheet = page.locator(f"#{NAME}-picture svg.force")
    sheet.wait_for()
    box = sheet.bounding_box()

    def at(across: float, down: float) -> tuple[float, float]:
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    # From a quarter of the width and three quarters down, straight up by a third of the width.
    page.mouse.move(*at(0.25, 0.75))
    page.mouse.down()
    rise = box["width"] / 3 / box["height"]
    page.mouse.move(*at(0.25, 0.75 - rise / 2))
    page.mouse.move(*at(0.25, 0.75 - rise))
    page.mouse.up()
    for name, value in {"x": 0.25, "y": 0.25, "angle": 90, "strength": (1 / 3 - 1 / 8) / (3 / 8)}.items():
        until(page, f"force_{name}", value)
    # A click moves the point alone.
    page.mouse.click(*at(0.5, 0.5))
    until(page, "force_x", 0.5)
    assert number(page, "force_angle") == 90
    # What is typed moves the arrow.
    page.locator(f"#{NAME}-force_angle input[type=number]").fill("180")
    page.locator(f"#{NAME}-force_angle input[type=number]").press("Tab")
    page.locator("svg.force[aria-label*='180 degrees']").wait_for()

    page.locator(f"#{NAME}-go").click()
    page.locator(f"#{NAME}-status").get_by_text(re.compile("^Done")).wait_for()
    (clip,) = tiny.outputs.glob("*.mp4")
    told = metadata.read(clip).parameters
    assert (told["force"], told["force_x"], told["force_y"], told["force_angle"]) == ("point", 0.5, 0.5, 180.0)
    assert told["force_strength"] == pytest.approx((1 / 3 - 1 / 8) / (3 / 8), abs=0.011)


def test_only_a_checkpoint_that_takes_a_force_offers_one(physics) -> None:
    page = physics
    page.locator(f"#{NAME}-force").get_by_text("Wind").click()
    page.locator(f"#{NAME}-force_angle").wait_for()
    assert not page.locator(f"#{NAME}-force_x").is_visible()
    page.locator(f"#{NAME}-settings > button").click()
    page.locator(f"#{NAME}-model input").click()
    page.get_by_role("option", name=re.compile("Wan2.2 5B ")).first.click()
    page.locator(f"#{NAME}-force-fold").wait_for(state="hidden")
    page.locator("svg.force").wait_for(state="detached")
