"""The page in a real Chromium behind a reverse proxy that serves it under a path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import PATIENCE_MS, Studio
from tests.studio.proxy import Proxy

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, browser: object) -> Iterator[Proxy]:
    outputs = tmp_path_factory.mktemp("proxied") / "outputs"
    with (
        Studio(outputs, KINORA_ROOT_PATH="/kinora") as server,
        Proxy(server.port, prefix="/kinora", strips=True, keeps_host=True) as proxy,
    ):
        yield proxy


def test_the_page_lives_behind_a_path(proxied: Proxy, browser, picture: Path) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{proxied.url}/")
    page.locator("#devices", has_text="CPU").wait_for()  # an event, there and back
    page.locator("#phantom-wan-references input[type=file]").first.set_input_files(picture)
    page.locator("#phantom-wan-references .model-view img").first.wait_for()  # an upload, and a file
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("button", name="Cancel").first.click()
    page.locator(".card.cancelled, .card.done").first.wait_for()
    page.context.close()
