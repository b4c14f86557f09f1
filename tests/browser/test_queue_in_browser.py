"""The queue as a person uses it, in a real Chromium: what waits is moved, changed, copied, and outlives all."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.browser.conftest import unfold
from tests.studio.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # a busy machine takes minutes for what a person sees
PATIENCE_MS = 120_000

ROWS = "[...document.querySelectorAll('.queue-list:not([hidden]) .queue-row')]"
TITLES = f"{ROWS}.map(row => row.querySelector('b').textContent)"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio with the stand-in engine, which makes clips in a moment."""
    with Server(tmp_path_factory.mktemp("queue") / "outputs") as server:
        yield server


def opened(browser, server: Server):
    """The page in a profile of its own, its queue unfolded."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(server.url)
    page.get_by_role("button", name="Generate").wait_for()
    page.locator(".queue-chip").click()
    return page


def press(page, title: str, action: str) -> None:
    row = page.locator(".queue-row").filter(has_text=title)
    row.locator(f"[data-name={action}]").click()


def wait_for_titles(page, *titles: str) -> None:
    page.wait_for_function(f"JSON.stringify({TITLES}) == {json.dumps(json.dumps(titles, separators=(',', ':')))}")


def add(page, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#phantom-wan-go").click()
    page.locator(".queue-row").filter(has_text=prompt).wait_for()


def test_everything_that_waits_can_be_changed_and_outlives_reload_second_browser_and_kill(
    browser, quick: Server
) -> None:
    page = opened(browser, quick)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused: nothing begins.").wait_for()
    for prompt in ("first one", "second one", "third one"):
        add(page, prompt)
    wait_for_titles(page, "first one", "second one", "third one")
    assert page.locator(".queue-row img").first.evaluate("image => image.naturalWidth > 0")
    assert page.locator(".queue-chip").inner_text().split() == ["Queue", "3", "·", "paused"]
    page.wait_for_function("document.title == '(3 waiting) Kinora'")

    press(page, "third one", "top")
    wait_for_titles(page, "third one", "first one", "second one")
    press(page, "third one", "down")
    wait_for_titles(page, "first one", "third one", "second one")
    page.locator(".queue-row").filter(has_text="second one").locator("[data-name=up]").focus()
    page.keyboard.press("Enter")
    wait_for_titles(page, "first one", "second one", "third one")
    focused = "document.activeElement.closest('.queue-row')?.querySelector('b').textContent"
    assert page.evaluate(focused) == "second one", "the keyboard stays where it was"

    press(page, "second one", "edit")
    page.get_by_role("button", name="Save to the queue").wait_for()
    page.wait_for_function("document.querySelector('#phantom-wan-prompt textarea').value == 'second one'")
    page.get_by_label("Prompt", exact=True).fill("a better second one")
    page.locator("#phantom-wan-go").click()
    wait_for_titles(page, "first one", "a better second one", "third one")
    page.get_by_role("button", name="Generate", exact=True).wait_for()

    press(page, "third one", "copy")
    wait_for_titles(page, "first one", "a better second one", "third one", "third one")
    about = page.locator(".queue-row").filter(has_text="third one").locator(".about").all_inner_texts()
    assert about[0] != about[1], "with a seed of its own"
    press(page, "first one", "cancel")
    page.get_by_role("heading", name="Not made").wait_for()
    press(page, "first one", "remove")
    wait_for_titles(page, "a better second one", "third one", "third one")

    page.reload()
    wait_for_titles(page, "a better second one", "third one", "third one")
    page.get_by_role("tab", name="History").click()
    page.locator(".queue-drawer").wait_for()
    quick.kill()
    quick.start()
    second = opened(browser, quick)
    wait_for_titles(second, "a better second one", "third one", "third one")
    assert second.locator(".queue-chip").inner_text().endswith("paused")
    second.get_by_role("button", name="Go on").click()
    second.get_by_text("Nothing waits.").wait_for(timeout=PATIENCE_MS)
    second.wait_for_function("document.title == '✓ Kinora'")
    page.context.close()
    second.context.close()


def test_what_failed_can_be_tried_again_or_smaller_and_harms_no_other(browser, quick: Server) -> None:
    page = opened(browser, quick)
    add(page, "it dies at once")
    add(page, "it lives slowly")
    row = page.locator(".queue-row.failed")
    row.get_by_text("ended unexpectedly").wait_for(timeout=PATIENCE_MS)
    page.get_by_text("Nothing waits.").wait_for(timeout=PATIENCE_MS)
    wait_for_titles(page, "it dies at once")
    assert row.get_by_role("button", name="64 × 64").count() == 1
    row.locator("[data-name=smaller]").click()
    page.get_by_text("64 × 64 · 2.75 s").wait_for()
    row.get_by_text("ended unexpectedly").wait_for(timeout=PATIENCE_MS)
    row.locator("[data-name=remove]").click()
    page.locator(".queue-row").wait_for(state="detached")
    page.keyboard.press("Tab")
    page.locator(".queue-drawer header button").focus()
    page.keyboard.press("Escape")
    page.locator(".queue-drawer").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.className").startswith("queue-chip")
    page.context.close()


def test_a_clip_that_runs_can_be_held_and_goes_on(browser, quick: Server) -> None:
    from playwright.sync_api import expect

    page = opened(browser, quick)
    unfold(page.locator("#phantom-wan-settings > button"))
    unfold(page.get_by_role("button", name="Advanced settings"))
    page.get_by_label("number input for Steps").fill("150")
    page.get_by_label("number input for Steps").press("Tab")
    page.locator("#phantom-wan-settings").get_by_text("150 steps").wait_for()
    add(page, "it goes slowly")
    row = page.locator(".queue-row.running")
    expect(row.locator(".line")).to_contain_text(" of 150", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Pause now").click()
    page.locator("#phantom-wan-status").get_by_text("Paused").wait_for()
    page.wait_for_timeout(1500)  # the step that was being made is finished
    line = row.locator(".line").inner_text()
    assert line.startswith("Paused at ")
    questions: list[str] = []
    page.on("dialog", lambda dialog: (questions.append(dialog.message), dialog.dismiss()))
    page.keyboard.press("Escape")
    page.locator(".queue-drawer").wait_for(state="hidden")
    assert questions == [], "what lies on top is closed, and no clip is ended"
    page.locator(".queue-chip").click()
    page.wait_for_timeout(1500)
    assert row.locator(".line").inner_text() == line
    page.get_by_role("button", name="Go on").click()
    expect(row.locator(".line")).to_contain_text("left", timeout=PATIENCE_MS)
    row.locator("[data-name=cancel]").click()
    page.get_by_text("Nothing waits.").wait_for()
    page.context.close()


def test_a_done_clip_is_told_to_those_who_want_to_hear_of_it(browser, quick: Server) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, permissions=["notifications"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(
        "window.told = []; window.tones = 0;"
        "window.Notification = class { static permission = 'granted'; static requestPermission = async () => 'granted';"
        " constructor(title, { body }) { told.push([title, body]); } };"
        "const start = OscillatorNode.prototype.start;"
        "OscillatorNode.prototype.start = function (...given) { tones += 1; return start.apply(this, given); };"
    )
    page.goto(quick.url)
    page.get_by_role("button", name="Generate").wait_for()
    page.locator(".queue-chip").click()
    add(page, "nobody asked slowly")
    page.get_by_text("Nothing waits.").wait_for(timeout=PATIENCE_MS)
    assert page.evaluate("[told.length, tones]") == [0, 0], "nobody asked"
    page.get_by_label("Notification").check()
    page.get_by_label("Sound").check()
    add(page, "told of it slowly")
    page.wait_for_function("told.length == 1", timeout=PATIENCE_MS)
    assert page.evaluate("told") == [["Your clip is done", "told of it slowly"]]
    assert page.evaluate("tones") == 4, "two when it was switched on, two when it was done"
    page.reload()
    page.locator(".queue-chip").wait_for()
    assert page.evaluate("[told.length]") == [0], "what is old is not told again"
    assert page.get_by_label("Sound").is_checked()
    context.close()


def test_on_a_phone_the_list_covers_the_page_and_all_of_it_can_be_touched(browser, quick: Server) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(quick.url)
    page.locator(".queue-chip").click()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Paused: nothing begins.").wait_for()
    page.get_by_role("button", name="Close").click()
    page.locator("#phantom-wan-go").click()
    page.locator(".queue-chip").click()
    page.locator(".queue-row.queued").wait_for()
    sizes = page.locator(".queue-drawer button").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert min(side for size in sizes for side in size) >= 40
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".queue-row.queued [data-name=cancel]").click()
    page.get_by_role("button", name="Go on").click()
    context.close()
