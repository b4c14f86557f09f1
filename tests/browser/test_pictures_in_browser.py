"""Pictures in a real Chromium: pasted into the first empty place, mended by a brush."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.browser.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """Somebody upright before a plain wall."""
    image = Image.new("RGB", (240, 320), (110, 150, 200))
    pen = ImageDraw.Draw(image)
    pen.ellipse((70, 40, 170, 140), fill=(230, 180, 150))
    pen.rectangle((55, 140, 185, 320), fill=(60, 90, 50))
    image.save(tmp_path / "portrait.png")
    return tmp_path / "portrait.png"


def paste(page, picture: Path) -> None:
    """Ctrl+V with a picture in the clipboard, as the page hears of it."""
    page.evaluate(
        """async (data) => {
          const blob = await (await fetch(`data:image/png;base64,${data}`)).blob();
          const held = new DataTransfer();
          held.items.add(new File([blob], "pasted.png", { type: "image/png" }));
          const event = new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        base64.b64encode(picture.read_bytes()).decode(),
    )


def test_a_pasted_picture_goes_to_the_first_empty_place(page, picture: Path) -> None:
    first, second = (page.locator(f"#phantom-wan-references-{number} img") for number in (1, 2))
    first.wait_for()  # the example's
    paste(page, picture)
    second.wait_for()
    assert page.locator("#phantom-wan-references-3 img").count() == 0

    page.get_by_role("tab", name="Long video").click()
    start = page.locator("#pyramid-flow-start")
    start.get_by_label("Nothing").and_(page.locator(":checked")).wait_for()
    paste(page, picture)
    start.get_by_label("A picture").and_(page.locator(":checked")).wait_for()
    page.locator("#pyramid-flow-first_picture-1 img").wait_for()


def test_text_that_comes_with_its_picture_is_pasted_as_text(page) -> None:
    page.locator("#phantom-wan-references-1 img").wait_for()  # the example's
    taken = page.get_by_label("Prompt", exact=True).evaluate(
        """box => {
          const held = new DataTransfer();
          held.items.add(new File([new Uint8Array(9)], "cells.png", { type: "image/png" }));
          held.setData("text/plain", "a red star");
          const event = new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true });
          return !box.dispatchEvent(event);
        }"""
    )
    assert not taken, "the browser puts the text where the caret is"


def test_a_browser_that_keeps_nothing_shows_the_page(browser, server) -> None:
    context = browser.new_context()
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, {
          configurable: true, get() { throw new DOMException("Access is denied.", "SecurityError"); } });"""
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.get_by_role("button", name="Generate").wait_for(timeout=PATIENCE_MS)
    context.close()
    assert not errors


def test_a_cut_out_is_mended_with_a_brush_and_undone(page, portrait: Path) -> None:
    slot = "#phantom-wan-references-2"
    page.locator(f"{slot} input[type=file]").set_input_files(portrait)
    page.locator(f"{slot}-keep input").uncheck()
    page.locator(f"{slot}-mend").click()
    window = page.locator("dialog.mending")
    canvas = window.locator("canvas")
    canvas.wait_for()
    page.wait_for_function("() => document.querySelector('dialog.mending canvas').width === 240")
    box = canvas.bounding_box()
    window.get_by_label("Is background").check()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.9)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.9, steps=5)
    page.mouse.up()
    strokes = f"() => document.querySelector('{slot}-brush textarea, {slot}-brush input').value"
    page.wait_for_function(f"() => ({strokes})().startsWith('-4 ')")
    page.wait_for_function(  # what is painted away is faint in the picture that comes back
        "() => { const canvas = document.querySelector('dialog.mending canvas');"
        " const pen = canvas.getContext('2d');"
        " const [r, g, b] = pen.getImageData(canvas.width / 2, canvas.height * 0.9, 1, 1).data;"
        " return r > 180 && g > 180 && b > 180; }"
    )
    window.get_by_role("button", name="Undo").click()
    page.wait_for_function(f"() => ({strokes})() === ''")
    # A stroke that changes nothing is not left standing on the picture, and the list of keys closes no window.
    colour = (
        "() => [...document.querySelector('dialog.mending canvas').getContext('2d').getImageData(120, 288, 1, 1).data]"
    )
    page.wait_for_function(f"() => ({colour})()[1] > ({colour})()[2] && ({colour})()[0] < 90")
    before = page.evaluate(colour)
    window.get_by_label("Belongs to the subject").check()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.9)
    page.wait_for_function(f"() => ({strokes})().startsWith('+4 ')")
    page.wait_for_function(f"before => String(({colour})()) === String(before)", arg=before)
    canvas.focus()
    page.keyboard.press("?")
    assert canvas.is_visible()
    window.get_by_role("button", name="Done").click()
    canvas.wait_for(state="detached")
