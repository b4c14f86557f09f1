"""The Settings tab in a browser: what it prefers, kept over a reload, and what gets into the settings file."""

from __future__ import annotations

import tomllib

import pytest

from tests.browser.conftest import Studio

pytestmark = pytest.mark.browser


def opened(page) -> None:
    page.get_by_role("tab", name="Settings", exact=True).click()
    page.get_by_role("button", name="Save").wait_for()


def is_dark(page) -> bool:
    return page.evaluate("document.body.classList.contains('dark')")


def test_theme_and_view_are_this_browsers_and_last(page, server: Studio) -> None:
    assert not is_dark(page)
    opened(page)
    page.get_by_label("Theme").select_option("Dark")
    page.get_by_label("Show").select_option("Only what a clip needs")
    assert is_dark(page)
    page.reload()
    page.get_by_role("button", name="Save").wait_for()
    assert is_dark(page)
    folds = page.locator("#phantom-wan-area .advanced")
    page.get_by_role("tab", name="Subject references").click()
    page.get_by_role("button", name="Generate", exact=True).wait_for()
    assert folds.count() and not any(fold.is_visible() for fold in folds.all())
    opened(page)
    page.emulate_media(color_scheme="light")
    assert page.get_by_label("Theme").input_value() == "dark" and is_dark(page)
    page.get_by_label("Theme").select_option("As the system")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.body.classList.contains('dark')")
    page.get_by_label("Show").select_option("Everything")
    page.get_by_role("tab", name="Subject references").click()
    assert page.get_by_text("Try several values").first.is_visible()


def test_the_switches_of_the_queue_are_those_of_the_settings(page) -> None:
    opened(page)
    page.locator("kinora-preferences").get_by_label("Sound").check()
    page.get_by_role("button", name="Queue").click()
    drawer = page.locator("#queue-drawer")
    assert drawer.get_by_label("Sound").is_checked()
    drawer.get_by_label("Sound").uncheck()
    assert not page.locator("kinora-preferences").get_by_label("Sound").is_checked()


def test_what_is_saved_stands_in_the_file_and_the_tab_says_when_it_counts(page, server: Studio) -> None:
    file = server.outputs.parent / "kinora.toml"
    opened(page)
    page.locator("#settings-attention input").click()
    page.get_by_role("option", name="torch", exact=True).click()
    page.get_by_label("Settings inside clips").uncheck()
    page.get_by_role("button", name="Save").click()
    said = page.locator("#settings-said")
    said.get_by_text("Attention: once Kinora is started again.").wait_for()
    assert said.get_by_text("Settings inside clips: from the next clip on.").is_visible()
    assert tomllib.loads(file.read_text()) == {"attention": "torch", "metadata": False}
    page.locator("#settings-memory_gb").get_by_label("Memory (GB)").fill("lots")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Memory (GB) must be a number of gigabytes above 0").wait_for()
    page.locator("#settings-memory_gb").get_by_label("Memory (GB)").fill("")
    page.locator("#settings-attention input").click()
    page.get_by_role("option", name="auto", exact=True).click()
    page.get_by_label("Settings inside clips").check()
    page.get_by_role("button", name="Save").click()
    said.get_by_text("Settings inside clips").wait_for()
    assert tomllib.loads(file.read_text()) == {}
