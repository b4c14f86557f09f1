"""An edit, the Models tab and the login as a person meets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.jobs.store import JobStore
from tests.browser.conftest import PATIENCE_MS, Studio, fresh_page, unfold
from tests.studio.kept_clips import keep
from tests.studio.server import Server

pytestmark = pytest.mark.browser

PASSWORD = "a word that opens"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio that has made a clip, and that has no models beside those built in."""
    outputs = tmp_path_factory.mktemp("doors") / "outputs"
    store = JobStore(outputs / "studio.sqlite3")
    keep(store, outputs, "a red ball rolls")
    store.close()
    with Studio(outputs) as server:
        yield server


def test_a_clip_is_turned_round_into_a_new_one(page) -> None:
    page.get_by_role("tab", name="History").click()
    page.locator("#history button img").first.click()
    page.locator("#history-edit > button").click()
    page.locator("#history-edits input").click()
    page.get_by_role("option", name=re.compile("^Reverse")).click()
    page.locator("#history-edit-make").click()
    page.locator("#history-edit-shown").click()
    page.wait_for_function("() => document.querySelectorAll('#history button img').length == 2")
    page.locator("#history button img").first.click()
    page.locator("#history-video video").wait_for()


def test_models_are_listed_and_what_cannot_be_had_is_said(page, tmp_path: Path) -> None:
    unfold(page.get_by_role("tab", name="Models"))
    listed = page.locator("#models-list")
    listed.get_by_text("Wan2.2 5B with physics").first.wait_for()
    assert "built in" in listed.inner_text() and "not installed" in listed.inner_text()
    page.locator("#models-folder input, #models-folder textarea").first.fill(str(tmp_path))
    page.locator("#models-use").click()
    page.locator("[data-testid=toast-body], #models-progress p").first.wait_for()
    page.locator("#models-download").click()
    page.locator("#models-progress").get_by_text("cannot be downloaded").wait_for()


def test_a_password_lets_in_and_another_word_does_not(browser, tmp_path: Path) -> None:
    with Server(tmp_path / "outputs", KINORA_PASSWORD=PASSWORD) as locked, fresh_page(browser, locked) as page:
        fields = page.locator("input")
        for word in ("wrong", PASSWORD):
            assert not page.get_by_role("button", name="Generate").is_visible()
            fields.nth(0).fill("kinora")
            page.locator("input[type=password]").fill(word)
            page.get_by_role("button", name="Login").click()
            if word == "wrong":
                page.get_by_text(re.compile("incorrect", re.I)).first.wait_for()
        page.get_by_role("button", name="Generate").wait_for(timeout=PATIENCE_MS)
