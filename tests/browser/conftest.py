from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.studio.server import Server

CHROMIUM = os.environ.get("KINORA_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 120_000


class Studio(Server):
    """The studio as it is shipped, with its starter model."""

    def command(self) -> list[str]:
        """The words that start it."""
        return [sys.executable, "-m", "studio", "serve", "--port", str(self.port), "--outputs", str(self.outputs)]


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A real Chromium; without one the tests are skipped, or fail where KINORA_REQUIRE_BROWSER=1."""
    required = os.environ.get("KINORA_REQUIRE_BROWSER") == "1"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        problem = "playwright is not installed"
    else:
        problem = "" if Path(CHROMIUM).exists() else "there is no Chromium: install it, or set KINORA_CHROMIUM"
    if problem:
        (pytest.fail if required else pytest.skip)(problem)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One studio for all tests of the page."""
    with Studio(tmp_path_factory.mktemp("browser") / "outputs") as server:
        yield server


@contextmanager
def fresh_page(browser, server: Server, *, width: int = 1400, height: int = 900) -> Iterator[object]:
    """A studio's page in a fresh profile; no error of the page's own goes unnoticed."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    yield page
    context.close()
    assert not errors


def unfold(what) -> None:
    """Click what opens a part of the page, and wait until gradio has written what stands there.

    It writes it once more in the frame after an accordion or a tab was first opened: what is typed before is lost.
    """
    what.click()
    what.page.evaluate("async () => { for (let left = 10; left; left--) await new Promise(requestAnimationFrame); }")


@pytest.fixture
def page(browser, server: Server) -> Iterator[object]:
    """The studio's page in a fresh profile, ready for use."""
    with fresh_page(browser, server) as page:
        page.get_by_role("button", name="Generate").wait_for()
        yield page


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "blue.png"
    image = Image.new("RGB", (120, 80), "white")
    ImageDraw.Draw(image).rectangle((35, 15, 85, 65), fill="blue")
    image.save(path)
    return path
