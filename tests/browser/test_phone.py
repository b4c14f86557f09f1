"""A clip made on a phone: the page goes to it when it is done, but not under somebody's fingers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.studio.server import Server

pytestmark = pytest.mark.browser

IN_VIEW = """() => {
  const card = [...document.querySelectorAll(".status .card.done")].find((one) => one.offsetParent);
  const box = card?.getBoundingClientRect();
  return box && box.top >= -5 && box.bottom <= innerHeight;
}"""
DONE = "() => [...document.querySelectorAll('.status .card.done')].some((one) => one.offsetParent)"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio with the stand-in engine, which makes clips in a moment."""
    with Server(tmp_path_factory.mktemp("phone") / "outputs") as server:
        yield server


@pytest.fixture(params=["no-preference", "reduce"])
def phone(browser, quick: Server, request: pytest.FixtureRequest) -> Iterator[object]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion=request.param
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(quick.url)
    page.get_by_role("button", name="Generate").wait_for()
    yield page
    context.close()


def test_the_clip_comes_to_whom_waits_and_leaves_alone_whom_writes(phone) -> None:
    page = phone
    page.get_by_label("Prompt", exact=True).fill("it goes slowly")
    page.locator("#phantom-wan-go").tap()
    page.wait_for_function("() => document.querySelector('.status .card.running, .status .card.waiting')")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")  # by no gesture: nobody went away
    page.wait_for_function(IN_VIEW)
    page.get_by_label("Prompt", exact=True).fill("it goes slowly on")
    page.locator("#phantom-wan-go").tap()
    page.wait_for_function("() => document.querySelector('.status .card.running, .status .card.waiting')")
    page.wait_for_timeout(700)
    page.get_by_label("Prompt", exact=True).focus()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function(DONE)
    page.wait_for_timeout(1500)
    assert not page.evaluate(IN_VIEW)
