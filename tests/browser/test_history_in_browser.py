"""History as a person uses it: found, opened on a wide page and on a phone, thrown away, taken back, handed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.jobs.store import JobStore
from tests.browser.conftest import PATIENCE_MS
from tests.engines.test_foreign import DRAWN, video
from tests.studio.kept_clips import keep
from tests.studio.server import Server

pytestmark = pytest.mark.browser

CARDS = "document.querySelectorAll('#history button img').length"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio that has made some clips: five alone, three together, and one that failed."""
    outputs = tmp_path_factory.mktemp("history") / "outputs"
    store = JobStore(outputs / "studio.sqlite3")
    colours = {"red": (200, 30, 30), "green": (30, 150, 40), "orange": (230, 140, 20), "navy": (20, 30, 110)}
    for name, colour in {**colours, "teal": (0, 120, 120)}.items():
        keep(store, outputs, f"a {name} ball rolls", colour=colour)
    for seed in (5, 6, 7):
        keep(store, outputs, "a blue ball bounces", colour=(30, 60, 220), batch="together", seed=seed)
    keep(store, outputs, "it breaks", state="failed")
    store.close()
    with Server(outputs) as server:
        yield server


def opened(browser, server: Server, width: int, height: int) -> Iterator[object]:
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 600)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.get_by_role("button", name="Generate").first.wait_for()
    page.get_by_role("tab", name="History").click()
    page.locator("#history button img").first.wait_for()
    yield page
    context.close()
    assert not errors


@pytest.fixture
def wide(browser, server: Server) -> Iterator[object]:
    yield from opened(browser, server, 1400, 900)


@pytest.fixture
def phone(browser, server: Server) -> Iterator[object]:
    yield from opened(browser, server, 390, 844)


def until(page, condition: str) -> None:
    page.wait_for_function(condition)


def test_clips_are_found_and_opened_where_they_are(wide) -> None:
    page = wide
    until(page, f"{CARDS} == 6")
    before = page.locator("#history").bounding_box()
    page.locator("#history button").first.click()
    page.locator("#history-said").get_by_text("a blue ball bounces").wait_for()
    after = page.locator("#history").bounding_box()
    assert (before["x"], before["width"]) == (after["x"], after["width"]), "the cards stay where they are"
    page.locator("#history-variations button").nth(2).click()
    page.locator("#history-facts").get_by_text("7", exact=True).wait_for()

    page.locator("#history-words input, #history-words textarea").fill("red")
    until(page, f"{CARDS} == 1")
    page.locator("#history button").first.click()
    page.locator("#history-said").get_by_text("a red ball rolls").wait_for()
    page.locator(".queue-chip").click()
    page.keyboard.press("Escape")
    page.locator(".queue-drawer").wait_for(state="hidden")
    assert page.locator("#history-said").is_visible(), "only what lies on top is closed"
    page.keyboard.press("Escape")
    page.locator("#history-said").wait_for(state="hidden")


def test_a_starred_clip_is_deleted_and_taken_back(wide) -> None:
    page = wide
    page.locator("#history button").nth(1).click()
    page.locator("#history-said").get_by_text("a teal ball rolls").wait_for()
    page.locator("#history-star").click()
    page.locator("#history-star").get_by_text("Starred").wait_for()
    choose(page, "show", "Starred")
    until(page, f"{CARDS} == 1")
    page.locator("#history button").first.click()
    page.locator("#history-delete").click()
    page.locator("#history-empty").get_by_text("No starred clips yet").wait_for()
    page.locator("#history-undo").click()
    until(page, f"{CARDS} == 1")


def test_what_failed_is_there_with_its_reason_and_can_be_tried_again(wide) -> None:
    page = wide
    choose(page, "show", "Failed and cancelled")
    page.locator("#history button").first.click()
    page.locator("#history-status").get_by_text("There was not enough memory.").wait_for()
    page.locator("#history-smaller").get_by_text("Try it with 64 × 64").wait_for()
    choose(page, "show", "Trash")
    page.locator("#history-empty").get_by_text("The trash is empty").wait_for()


def choose(page, name: str, word: str) -> None:
    page.locator(f"#history-{name} input").click()
    page.get_by_role("option", name=word, exact=True).click()


def test_a_clip_goes_on_in_another_tab(wide) -> None:
    page = wide
    page.locator("#history button").nth(1).click()
    page.locator("#history-give-phantom-physics").click()
    page.locator("#phantom-physics-clip video").wait_for()


def test_on_a_phone_a_clip_opens_over_the_list_in_two_columns(phone, tmp_path: Path) -> None:
    page = phone
    first, second = (page.locator("#history button").nth(index).bounding_box() for index in range(2))
    assert first["y"] == second["y"] and first["x"] < second["x"]
    page.locator("#history button").nth(2).scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    page.locator("#history button").nth(2).click()
    video = page.locator("#history-video video")
    video.wait_for()
    page.wait_for_timeout(500)
    shown = video.bounding_box()
    assert 0 <= shown["y"] < 200 and shown["width"] > 200, "seen at once, without scrolling"
    for button in page.locator(".doing button").all():
        if button.is_visible():
            assert button.bounding_box()["height"] >= 40
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#history-close").click()
    video.wait_for(state="hidden")
    assert page.evaluate("scrollY") == scrolled, "back where one was in the list"


DROP = """async ([bytes, name]) => {
  const given = new DataTransfer();
  given.items.add(new File([new Uint8Array(bytes)], name, { type: "video/mp4" }));
  const place = document.querySelector(".brand");
  for (const kind of ["dragover", "drop"]) {
    place.dispatchEvent(new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true }));
  }
}"""


def test_a_video_of_comfyui_dropped_anywhere_fills_a_form(wide, tmp_path: Path) -> None:
    page = wide
    page.get_by_role("tab", name="Subject references").click()
    clip = video(tmp_path / "other.mp4", {"workflow": json.dumps(DRAWN)}, custom=True)
    page.evaluate(DROP, [list(clip.read_bytes()), clip.name])
    said = page.locator("#history-import-said")
    said.get_by_text("ComfyUI").wait_for()
    assert said.get_by_text("a robot dances").is_visible() and said.get_by_text("42").first.is_visible()
    page.locator("#history-import-use").click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some((one) => one.value == 'a robot dances')"
    )
