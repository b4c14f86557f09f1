"""The Long video tab in a real Chromium: lengths and storyboards in units, and a clip watched, kept and continued."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import unfold
from tests.browser.test_in_browser import check_it_plays, open_settings

pytestmark = pytest.mark.browser


@pytest.fixture
def tab(page):
    unfold(page.get_by_role("tab", name="Long video"))
    open_settings(page, "pyramid-flow")
    page.get_by_text("49 frames @ 12 fps = 4.08 s, at most 8.08 s").wait_for()
    return page


def wait_for_status(page, words: str) -> None:
    page.locator("#pyramid-flow-status").get_by_text(re.compile(words)).first.wait_for()


def wait_for_text(page, text: str) -> None:
    """The scenes stand like this in the text behind their table."""
    page.wait_for_function(
        "text => document.querySelector('#pyramid-flow-storyboard textarea').value == text", arg=text
    )


def length_s(video) -> float:
    """Seconds of a clip, once the browser has read its head."""
    video.page.wait_for_function("video => video.readyState >= 1", arg=video.element_handle())
    return video.evaluate("video => video.duration")


def continue_it(page) -> None:
    """Choose the newest clip in the list of those to continue, which is read anew when a clip is done."""
    clip = page.get_by_role("option", name=re.compile("a blue square")).first
    for _ in range(20):
        page.locator("#pyramid-flow-continues input").click()
        page.wait_for_timeout(500)
        if clip.is_visible():
            clip.click()
            return
        page.locator("#pyramid-flow-status").click()  # closes the list
        page.wait_for_timeout(500)
    pytest.fail("the kept clip is not in the list")


def test_length_and_storyboard_are_told_in_units(tab) -> None:
    tab.locator("#pyramid-flow-seconds input[type=number]").fill("2")
    tab.get_by_text("25 frames @ 12 fps = 2.08 s, at most 8.08 s").wait_for()

    table, reading = tab.locator("#pyramid-flow-storyboard-scenes"), tab.locator("#pyramid-flow-storyboard-reading")
    table.get_by_role("button", name="As text").click()
    board = tab.locator("#pyramid-flow-storyboard textarea")
    assert board.get_attribute("placeholder").startswith("0-2: ")
    board.fill("0-1: a fox runs")
    tab.get_by_text("9 frames @ 12 fps = 0.75 s").or_(tab.get_by_text("17 frames @ 12 fps")).first.wait_for()
    board.fill("0-0.8: a fox runs\n0.8-2: it sits down")
    reading.get_by_text("2 scenes: 0-0.75 s, 0.75-2.08 s.").wait_for()
    table.get_by_label("What happens in scene 2").wait_for()

    table.get_by_label("Seconds of scene 1").fill("2")
    tab.get_by_text("41 frames @ 12 fps = 3.42 s").or_(tab.get_by_text("33 frames @ 12 fps")).first.wait_for()
    table.get_by_role("button", name="Move scene 2 up").click()
    wait_for_text(tab, "0-1.2: it sits down\n1.2-3.2: a fox runs")
    table.get_by_role("button", name="Add a scene").click()
    table.get_by_label("What happens in scene 3").fill("it yawns")
    table.get_by_role("button", name="Remove scene 1").click()
    wait_for_text(tab, "0-2: a fox runs\n2-4: it yawns")
    reading.get_by_text("2 scenes: 0-2.08 s, 2.08-4.08 s.").wait_for()
    assert not tab.locator("#pyramid-flow-keep").is_visible()
    start, continues = tab.locator("#pyramid-flow-start"), tab.locator("#pyramid-flow-continues")
    assert not continues.is_visible() and not tab.locator("#pyramid-flow-first_picture").is_visible()
    start.get_by_text("A clip to go on from").click()
    continues.wait_for()
    start.get_by_text("A picture").click()
    tab.locator("#pyramid-flow-first_picture").wait_for()
    assert not continues.is_visible()


def test_a_clip_is_made_anew_from_a_scene_with_another_text(tab) -> None:
    table = tab.locator("#pyramid-flow-storyboard-scenes")
    tab.locator("#pyramid-flow-quality").get_by_text("Draft").click()
    table.get_by_role("button", name="As text").click()
    tab.locator("#pyramid-flow-storyboard textarea").fill("0-0.7: a red star spins\n0.7-1.4: a blue square falls")
    tab.get_by_text("17 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-go").click()
    wait_for_status(tab, "^Done")
    tab.locator("#pyramid-flow-anew").click()
    tab.locator("#pyramid-flow-start").get_by_label("A clip to go on from").and_(tab.locator(":checked")).wait_for()
    tab.wait_for_function(
        "() => document.querySelector('#pyramid-flow-kept_frames input').value == '9: redo from scene 2, at 0.75 s'"
    )
    table.locator(".scene.kept").get_by_label("What happens in scene 1").wait_for()
    assert table.locator(".scene.kept").count() == 1
    table.get_by_label("What happens in scene 2").fill("a green circle grows")
    first = tab.locator("#pyramid-flow-video video").evaluate("video => video.currentSrc")
    tab.locator("#pyramid-flow-go").click()
    # It takes a second: that it is being made may be over before anybody sees it.
    tab.wait_for_function(
        "first => ![first, ''].includes(document.querySelector('#pyramid-flow-video video')?.currentSrc ?? '')",
        arg=first,
    )
    wait_for_status(tab, "^Done")
    tab.locator("#pyramid-flow-about").get_by_text("a green circle grows").or_(
        tab.locator("#pyramid-flow-status").get_by_text(re.compile("17 frames"))
    ).first.wait_for()


def test_a_long_clip_is_watched_while_it_is_made_then_kept_and_continued(tab) -> None:
    tab.locator("#pyramid-flow-seconds input[type=number]").fill("8")
    tab.get_by_text("97 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-go").click()
    tab.locator("#pyramid-flow-playback img").wait_for()
    tab.get_by_text("Finished so far").wait_for()
    tab.locator("#pyramid-flow-keep").click()
    wait_for_status(tab, "^Done")
    video = tab.locator("#pyramid-flow-video video")
    video.wait_for()
    assert 0 < length_s(video) < 8

    tab.locator("#pyramid-flow-seconds input[type=number]").fill("4")
    tab.get_by_text("49 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-continue").click()
    tab.get_by_text("97 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-seconds input[type=number]").fill("4")
    tab.get_by_text("49 frames @ 12 fps").wait_for()
    continue_it(tab)
    tab.get_by_text("97 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-quality").get_by_text("Draft").click()
    tab.locator("#pyramid-flow-go").click()
    tab.wait_for_function("() => document.querySelector('#pyramid-flow-video video')?.duration > 8")
    tab.locator("#pyramid-flow-continue").wait_for(state="hidden")  # it is as long as the model can make it
    check_it_plays(video)


def test_a_length_chosen_after_the_scenes_outlives_a_reload_and_another_rate_follows_them(tab) -> None:
    tab.locator("#pyramid-flow-storyboard-scenes").get_by_role("button", name="As text").click()
    tab.locator("#pyramid-flow-storyboard textarea").fill("0-2: a fox runs\n2-6: it sits down")
    tab.get_by_text("73 frames @ 12 fps").wait_for()
    tab.locator("#pyramid-flow-seconds input[type=number]").fill("4")
    tab.get_by_text("49 frames @ 12 fps").wait_for()
    kept = "() => JSON.parse(localStorage.getItem('kinora-forms')).forms['pyramid-flow'].frames[0] === 49"
    tab.wait_for_function(kept)
    tab.reload()
    open_settings(tab, "pyramid-flow")
    tab.get_by_text("49 frames @ 12 fps").wait_for()
    unfold(tab.get_by_role("button", name="Advanced settings").locator("visible=true"))
    tab.locator("#pyramid-flow-fps input[type=number]").fill("24")
    tab.locator("#pyramid-flow-fps input[type=number]").press("Tab")
    tab.get_by_text("97 frames @ 24 fps").wait_for()
