"""The page can be read and used by everybody: contrast in both themes, keys, room for a finger."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PATIENCE_MS

pytestmark = pytest.mark.browser

# WCAG AA: 4.5 to 1, 3 to 1 for large letters. What lies over a picture or is switched off is not measured.
FAINT = """() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((one, index) => one * a + below[index] * (1 - a));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const colour = numbers(getComputedStyle(element).backgroundColor);
    return (colour[3] ?? 1) === 1 ? colour.slice(0, 3) : over(colour, ground(element.parentElement));
  };
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const found = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const field = element.matches("input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea");
    const apart = element.disabled || element.closest("[disabled], .spoken, .history, .strip");
    if (!(words || field) || !shown(element) || apart) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const empty = field && element.placeholder && !element.value;
    const styles = empty ? [style, getComputedStyle(element, "::placeholder")] : [style];
    for (const { color, opacity } of styles) {
      const pair = [light(over(numbers(color), below)), light(below)].sort((a, b) => b - a);
      const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      const said = (element.textContent || element.placeholder).trim().slice(0, 40);
      if (ratio < (large ? 3 : 4.5)) found.add(`${ratio.toFixed(1)} ${element.tagName} .${element.className} ${said}`);
    }
  }
  return [...found];
}"""

SMALL = """() => [...document.querySelectorAll("button, a, input[type=checkbox], input[type=radio]")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.disabled)
  .map((element) => {
    const area = element.matches("input") ? element.closest("label") ?? element : element;
    const { width, height } = area.getBoundingClientRect();
    const name = element.id || element.ariaLabel || element.textContent.trim() || element.className;
    return [Math.round(width), Math.round(height), name];
  })
  .filter(([width, height]) => width > 0 && (height < 40 || width < 24))
  .map((one) => one.join(" "))"""

# What only a layout that went wrong shows: buttons as high as a neighbour, a box of borders alone, fields that touch.
MISSHAPEN = """() => {
  const box = (element) => element.getBoundingClientRect();
  const shown = (selector) => [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility());
  const name = (element) => element.id || element.textContent.trim().slice(0, 40) || element.outerHTML.slice(0, 120);
  const flat = ({ width, height }, border) => width > 100 && height > 0 && height < 8 && border > 0;
  const beside = (one, other) => Math.abs(one.top - other.top) < 4 && other.left >= one.right - 1;
  const found = shown("button.lg, button.md, button.sm").filter((one) => box(one).height > 80);
  const border = (one) => parseFloat(getComputedStyle(one).borderTopWidth);
  found.push(...shown(".form, .block").filter((one) => flat(box(one), border(one))));
  for (const row of shown(".pair > .form")) {
    const fields = [...row.children];
    found.push(...fields.filter((one) => fields.some((other) => other !== one && beside(box(one), box(other))
      && box(other).left - box(one).right < 8)));
  }
  return found.map(name);
}"""


# What gradio would show of itself: its settings, its recorder, its advertisement. The way to the API is ours.
GRADIOS = """() => [...document.querySelectorAll("footer *, .gradio-container > *")]
  .filter((element) => element.checkVisibility() && !element.children.length)
  .map((element) => element.textContent.trim())
  .filter((text) => /gradio|settings|screen studio|progressive|runs/i.test(text))"""


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_every_tab_is_read_and_touched_in_both_themes(browser, server, width: int) -> None:
    phone = width == 390
    context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=phone, is_mobile=phone)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    page.get_by_role("button", name="Generate").wait_for()
    page.add_style_tag(content="* { transition: none !important; }")  # colours are measured, not their change
    page.locator("#phantom-wan-settings > button").click()
    page.get_by_role("button", name="Advanced settings").click()
    wrong: dict[str, object] = {}
    tabs = page.locator("#tabs > .tab-wrapper [role=tab]").all()
    for tab in tabs:
        tab.click()
        page.wait_for_timeout(1000)
        title = tab.inner_text()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            wrong[f"{title}, {scheme}: faint"] = page.evaluate(FAINT)
        wrong[f"{title}: too small for a finger"] = page.evaluate(SMALL) if phone else []
        wrong[f"{title}: wider than the page"] = page.evaluate(f"document.documentElement.scrollWidth > {width}")
        wrong[f"{title}: misshapen"] = page.evaluate(MISSHAPEN)
        wrong[f"{title}: gradio's own"] = page.evaluate(GRADIOS)
    wrong["errors"] = errors
    context.close()
    assert len(tabs) == 7
    assert [f"{what}: {found}" for what, found in wrong.items() if found] == []


def test_keys_are_told_and_work(page) -> None:
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").get_by_text("One frame back or on").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="detached")
    page.get_by_label("Prompt", exact=True).fill("")
    page.keyboard.press("Control+Enter")
    page.locator("#phantom-wan-problems .problems").get_by_text("Write a prompt").wait_for()


def test_the_frame_of_the_clip_is_dragged_on_its_picture(page, picture) -> None:
    page.get_by_role("tab", name="Image to video").click()
    page.locator("#flashi2v-settings > button").click()
    page.locator("#flashi2v-width input").fill("64x96")
    page.locator("#flashi2v-width input").press("Enter")
    image = page.locator("#flashi2v-picture .crop-view figure[data-wide] img")
    image.wait_for()
    box = image.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "() => document.querySelector('#flashi2v-picture-position input[type=number]').value == '100'"
    )
