"""Takes the pictures of the page that stand in docs/: the real studio, its starters, every tab wide and narrow.

python -m tests.browser.screenshot docs
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, Studio

PATIENCE_MS = 600_000
SIZES = {"wide": (1400, 1000), "narrow": (390, 844)}
FOLDER = "screens"
"""Of the pictures of all tabs, in the folder that is named; screenshot.png, which the read-me shows, lies beside it."""
_TABS = "#tabs > .tab-wrapper [role=tab]"
_COLOURS = 256  # are enough for a page, and a third of the bytes


def take_all(folder: Path) -> list[Path]:
    """Make a clip in every tab whose starter is built in, then take each tab; returns the files."""
    made: list[Path] = []
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as kept, Studio(Path(kept) / "outputs") as studio, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport=_viewport("wide"))
        page.set_default_timeout(PATIENCE_MS)
        page.goto(studio.url)
        page.locator("button.go").first.wait_for()
        titles = page.locator(_TABS).all_inner_texts()
        for title in titles:
            _open(page, title)
            _make(page)
        for size in SIZES:
            page.set_viewport_size(_viewport(size))
            for title in titles:
                _open(page, title)
                _settle(page)
                target = folder / FOLDER / f"{re.sub('[^a-z]+', '-', title.lower()).strip('-')}-{size}.png"
                _take(page, target)
                made.append(target)
                if size == "wide" and title == titles[0]:
                    _take(page, folder / "screenshot.png")
        browser.close()
    return made


def _viewport(size: str) -> dict[str, int]:
    width, height = SIZES[size]
    return {"width": width, "height": height}


def _open(page: Page, title: str) -> None:
    """Show a tab; of History, the newest clip in it, which on a phone lies over the tabs until it is closed."""
    close = page.locator(".opened .close")
    if close.is_visible():
        close.click()
        close.wait_for(state="hidden")
    page.locator(_TABS).filter(has_text=re.compile(f"^{re.escape(title)}$")).click()
    page.wait_for_timeout(1500)
    card = page.locator("#history .grid-wrap button").first
    if card.is_visible() and not page.locator("#history-video").is_visible():
        card.click()
        page.locator("#history-video video").wait_for()


def _make(page: Page) -> None:
    """Generate what the form says and wait for the clip; nothing where there is no form, or no starter for it."""
    go = page.locator("button.go:visible")
    if not go.count() or not go.first.is_enabled():
        return
    go.first.click()
    page.locator(".card.done:visible, .problems:visible, .card.failed:visible").first.wait_for()


def _settle(page: Page) -> None:
    """Stop every clip in its middle, and let the page come to rest at its top."""
    page.evaluate(
        "() => { for (const video of document.querySelectorAll('video')) "
        "{ video.pause(); if (video.duration) video.currentTime = video.duration / 2; } scrollTo(0, 0); }"
    )
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)


def _take(page: Page, target: Path) -> None:
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        small = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(target, optimize=True)


if __name__ == "__main__":
    for path in take_all(Path(sys.argv[1] if sys.argv[1:] else "docs")):
        print(path)
