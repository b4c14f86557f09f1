"""Takes the README's picture of the page: the real studio, its example, one click, the finished clip.

python -m tests.browser.screenshot docs/screenshot.png
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, Studio

WIDTH, HEIGHT = 1400, 1000
PATIENCE_MS = 600_000


def take(target: Path) -> None:
    """Generate the example in a real browser and save the page as it then looks."""
    with tempfile.TemporaryDirectory() as folder, Studio(Path(folder) / "outputs") as studio, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(studio.url, timeout=PATIENCE_MS)
        page.get_by_role("button", name="Generate").click()
        page.locator("#phantom-wan-status").get_by_text(re.compile("^Done")).wait_for(timeout=PATIENCE_MS)
        video = page.locator("#phantom-wan-video video")
        video.evaluate("async video => { await video.play(); video.pause(); video.currentTime = video.duration / 2; }")
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1500)
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
