"""The page in Chinese in a real browser: chosen in the Settings tab, every word of every tab, gradio's own included."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import PATIENCE_MS, Studio
from tests.studio.test_language import left

pytestmark = pytest.mark.browser

# What is seen of a page: its texts, and what its fields say of themselves; but not what people wrote: a clip in History
# is told by its prompt. That it is a thumbnail gradio says in English in every language.
SEEN = """() => {
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const said = new Set();
  for (const element of document.querySelectorAll("body *")) {
    if (!shown(element) || element.closest("[translate=no], .thumbnail-item, code, style, script, textarea")) continue;
    for (const node of element.childNodes) if (node.nodeType === 3) said.add(node.textContent.trim());
    for (const name of ["placeholder", "title", "aria-label", "alt"]) said.add(element.getAttribute(name) ?? "");
    if (element.matches("input[role=listbox]")) said.add(element.value);
  }
  return [...said];
}"""
# What is written as it is in every language: keys and values of settings, sources of values, a mark of gradio's own.
AS_IT_IS = re.compile(r"\bAPI\b|true|false|--\w+|KINORA_\w+|\w+_\w+|kinora\.toml|https?:\S+|/\S+")


def english(page) -> list[str]:
    """What of the page that is seen is English."""
    found = (AS_IT_IS.sub("", text) for text in page.evaluate(SEEN))
    return [text for text in found if left(text)]


def test_chinese_is_chosen_in_the_settings_and_spoken_on_every_tab(page, server: Studio) -> None:
    page.get_by_role("tab", name="Settings", exact=True).click()
    page.locator("#settings-language input").click()
    page.get_by_role("option", name="中文").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("tab", name="设置", exact=True).wait_for(timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert [tab.inner_text() for tab in page.locator("#tabs > .tab-wrapper [role=tab]").all()] == [
        "主体参考", "图生视频", "长视频", "物理", "历史记录", "模型", "设置",
    ]  # fmt: skip
    try:
        rest = {}
        for tab in page.locator("#tabs > .tab-wrapper [role=tab]").all():
            tab.click()
            page.wait_for_timeout(1500)
            rest[tab.inner_text()] = english(page)
        assert not any(rest.values()), rest
        page.get_by_role("tab", name="主体参考").click()
        page.locator("#phantom-wan-prompt textarea").fill("")
        page.get_by_role("button", name="生成", exact=True).click()
        page.get_by_text("请写一个说明视频内容的提示词。").wait_for()
    finally:
        page.get_by_role("tab", name="设置").click()
        page.locator("#settings-language input").click()
        page.get_by_role("option", name="跟随浏览器").click()
        page.get_by_role("button", name="保存").click()
        page.get_by_role("tab", name="Settings", exact=True).wait_for(timeout=PATIENCE_MS)
