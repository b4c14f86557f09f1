"""What a form keeps: a preset, as a person saves, chooses, renames and deletes one; and itself, over a reload."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

PLACE = "#phantom-wan-preset"


def opened(page) -> None:
    page.locator("#phantom-wan-settings > .label-wrap").click()
    page.locator(f"{PLACE}-save").wait_for()


def steps(page):
    return page.locator("#phantom-wan-steps input[type=number]")


def test_settings_are_kept_under_a_name_and_set_again(page) -> None:
    opened(page)
    assert page.locator(PLACE).count() == 0, "nothing to choose from is not shown"
    page.get_by_text("Draft", exact=True).first.click()
    page.locator("#phantom-wan-prompt textarea").fill("a fox")
    page.locator(f"{PLACE}-save").click()
    page.locator(f"{PLACE}-name input, {PLACE}-name textarea").fill("Draft")
    page.locator(f"{PLACE}-yes").click()
    page.get_by_text('"Draft" is kept.').wait_for()

    page.get_by_text("Standard", exact=True).first.click()
    page.locator("#phantom-wan-prompt textarea").fill("a hen")
    page.wait_for_function("(sessionStorage.getItem('kinora-forms') ?? '').includes('a hen')")
    page.reload()
    page.get_by_role("button", name="Generate").first.wait_for()
    opened(page)
    page.locator(f"{PLACE} input").click()
    page.get_by_role("option", name="Draft").click()
    page.wait_for_function("document.querySelector('#phantom-wan-quality input:checked').value == 'Draft'")
    assert page.locator("#phantom-wan-prompt textarea").input_value() == "a hen", "it was kept without the prompt"

    # Set otherwise, and the same one chosen once more.
    page.get_by_text("Standard", exact=True).first.click()
    page.locator(f"{PLACE} input").click()
    page.get_by_role("option", name="Draft").click()
    page.wait_for_function("document.querySelector('#phantom-wan-quality input:checked').value == 'Draft'")

    page.locator(f"{PLACE}-rename").click()
    page.locator(f"{PLACE}-name input, {PLACE}-name textarea").fill("Quick <b>look</b>")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{PLACE} input').value == 'Quick <b>look</b>'")
    page.locator(f"{PLACE}-delete").click()
    page.get_by_text('Delete the preset "Quick <b>look</b>"?').wait_for()
    page.locator(f"{PLACE}-yes").click()
    page.locator(PLACE).wait_for(state="hidden")


def test_what_is_written_while_the_forms_are_filled_stays(page) -> None:
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("what was kept")
    page.wait_for_function("() => localStorage.getItem('kinora-forms')?.includes('what was kept')")

    def slow(route) -> None:
        if '"forms"' in (route.request.post_data or ""):
            page.wait_for_timeout(2000)
        route.continue_()

    page.route("**/run/**", slow)
    page.reload(wait_until="commit")
    prompt.wait_for()
    prompt.fill("what is written now")
    page.wait_for_function("() => localStorage.getItem('kinora-forms')?.includes('what is written now')")
    assert prompt.input_value() == "what is written now"
