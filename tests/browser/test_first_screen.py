"""What a newcomer sees before scrolling: nothing covers anything else, and the settings stand above Generate."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PATIENCE_MS


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_nothing_covers_anything_else(browser, server, width: int, height: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        page.locator("#phantom-wan-estimate").get_by_text("Takes").wait_for()
        page.locator(".slot .model-view img").first.wait_for()

        def box(selector: str) -> dict[str, float]:
            return page.locator(selector).first.bounding_box()

        name, queue = box(".brand h1"), box(".queue-chip")
        assert name["x"] + name["width"] <= queue["x"]
        chip = page.locator(".top .chip").first
        if chip.is_visible():
            assert name["x"] + name["width"] <= chip.bounding_box()["x"]
        if width > 1100:
            line, dock = box("#phantom-wan-settings"), box(".dock")
            assert line["y"] + line["height"] <= dock["y"], "what is set is read before Generate is pressed"
        places = [slot for slot in page.locator("#phantom-wan-references .slot").all() if slot.is_visible()]
        assert len(places) == (4 if width > 1100 else 2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width > 1100:
            check_the_open_settings(page, "phantom-wan")
    finally:
        context.close()


def check_the_open_settings(page, engine: str) -> None:
    """A seed that will be drawn is no number, and what stands in one line stands apart."""
    page.locator(f"#{engine}-settings > .label-wrap").click()
    field = f"#{engine}-seed input[type=number]"
    page.wait_for_function("field => document.querySelector(field)?.value === ''", arg=field)
    seed = page.locator(field)
    assert seed.is_disabled() and seed.get_attribute("placeholder") == "drawn anew"
    size, length = (page.locator(f"#{engine}-{name}").bounding_box() for name in ("width", "seconds"))
    assert size["x"] + size["width"] + 8 <= length["x"]


@pytest.mark.parametrize(("tab", "engine"), [("Physics", "phantom-physics"), ("Long video", "pyramid-flow")])
def test_the_prompt_stands_above_generate_whatever_a_clip_starts_from(browser, server, tab: str, engine: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(f"#{engine}-estimate").get_by_text("Takes").wait_for()

        def below(selector: str) -> float:
            box = page.locator(selector).bounding_box()
            return box["y"] + box["height"]

        dock = page.locator(f"#{engine}-area .dock").bounding_box()["y"]
        assert below(f"#{engine}-area .dock") <= 900
        assert below(f"#{engine}-area .pills") <= dock, "with nothing to start from, all that is written is seen"
        page.locator(f"#{engine}-start").get_by_text("A picture").click()
        page.locator(f"#{engine}-area .first-frame").wait_for()
        assert below(f"#{engine}-prompt textarea") <= dock
        assert page.locator(f"#{engine}-area .first-frame").bounding_box()["y"] > 0
        check_the_open_settings(page, engine)
    finally:
        context.close()
