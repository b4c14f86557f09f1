"""The page in Chinese: nothing that it says lacks its entry, no entry is of nothing, and people's words stay theirs."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.errors import InvalidRequest, MediaError, Problem
from engines.request import control
from studio.catalogue import FOLDER, Catalogue, bare, catalogue, entries
from studio.jobs.local import LocalExecutor
from studio.language import CHINESE, ENGLISH, Language
from studio.page import markup, spoken, ui
from studio.page.front_page import FrontPage
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio import sentences
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.node import evaluated, needs_node
from tests.studio.test_front_page import answers

pytestmark = LOOPS_LEFT_OPEN

LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.po"))
# Names that are the same in every language, and values that are written as they are.
NAMES = frozenset(
    " ".join(
        [
            "kinora phantom wan physics bindweave flashi pyramid flow miniflux image starter comfyui next json",
            "toml srt iptc xmp gif webp avif esrgan pth safetensors lora fps cpu gpu cuda mps rules endpoint qwen",
            "unipc dpm auto torch math flash sage xformers int float half guidance sequence weights none apache",
            "english jepa python studio calibrate models download data outputs adapters with png jpeg wav flac",
            "ogg url refiner model key ctrl enter mcp transformer bytedance research vae text encoder tokenizer",
            "esc",
        ]
    ).split()
)


@pytest.fixture(scope="module")
def chinese() -> Catalogue:
    found = catalogue("zh_CN")
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    yield
    spoken.asked(ENGLISH)


def left(text: str) -> str:
    """What of a translated text is still English."""
    return " ".join(word for word in re.findall(r"[A-Za-z]{3,}", text) if word.lower() not in NAMES)


def page_of(settings: Settings) -> tuple[Studio, Any]:
    studio = open_studio(settings, LocalExecutor)
    return studio, ui.build(studio)


def words_of(config: Any) -> Iterator[str]:
    """Everything that a described page says to people."""
    for component in config["components"]:
        props = component.get("props", {})
        yield from (props[name] for name in ("label", "info", "placeholder") if isinstance(props.get(name), str))
        yield from (choice[0] for choice in props.get("choices") or [] if isinstance(choice, list | tuple))
        value = props.get("value")
        if component["type"] in ("button", "markdown") and isinstance(value, str):
            yield value
        if component["type"] == "html" and isinstance(value, str) and not value.startswith("{"):
            yield from re.findall(r">([^<>]+)<", re.sub(r"<(\w+)[^>]*translate=\"no\".*?</\1>", "", value))


@pytest.mark.parametrize("public", [False, True])
def test_all_that_the_page_is_drawn_with_is_chinese(tmp_path: Path, public: bool) -> None:
    studio, page = page_of(Settings(outputs=tmp_path / "outputs", devices=("cpu",), preload=False, public=public))
    try:
        spoken.asked(CHINESE)
        said = {text: left(text) for text in words_of(page.config)}
    finally:
        studio.store.close()
    assert len(said) > 200
    # Examples are prompts, and prompts are English.
    prompts = {example for spec in studio.specs.values() for example in _placeholders(spec)}
    assert not {text: rest for text, rest in said.items() if rest and text not in prompts}


def _placeholders(spec: Any) -> Iterator[str]:
    yield from (str(control(info).get("placeholder")) for info in spec.request_type.model_fields.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_of_the_sources_has_its_entry(language: str) -> None:
    known = {bare(entry.msgid) for entry in entries(FOLDER / f"{language}.po")}
    missing = {
        text: path.name
        for path in sentences.spoken_modules()
        for text in sentences.texts(path)
        if sentences.is_sentence(text) and bare(text) not in known
    }
    missing |= {text: "JavaScript" for text in sentences.said_by_scripts() if bare(text) not in known}
    assert not missing


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_entry_is_of_the_sources_and_keeps_their_values(language: str) -> None:
    found = {bare(text): small for path in sentences.modules() for text, small in sentences.texts(path).items()}
    found |= {bare(text): frozenset() for text in sentences.strings_of_scripts() | sentences.titles_of_examples()}
    for entry in entries(FOLDER / f"{language}.po"):
        assert bare(entry.msgid) in found, f"no text of the sources any more: {entry.msgid}"
        asked = {name for _, name, _, _ in string.Formatter().parse(_plain(entry.msgid)) if name}
        given = {name.partition(":")[0] for _, name, _, _ in string.Formatter().parse(_plain(entry.msgstr)) if name}
        assert given <= asked and asked - given <= found[bare(entry.msgid)] | SAID_OTHERWISE.get(entry.msgid, set()), (
            entry.msgid
        )


# Values that the language says with other words: a verb in the singular or plural.
SAID_OTHERWISE = {
    "{0} of {1}{2} ({3}) {4} not on this machine, so {5} cannot run.": {"4"},
    "{0} scene{1}: {2}.": {"1"},
    "at most {0} reference picture{1}": {"1"},
}


def _plain(text: str) -> str:
    """The text with only its fields in braces."""
    return re.sub(r"\{(?!\w+(:[dnrw])?\})|(?<!\w)\}", "", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_templates_of_few_words_take_numbers_alone(language: str) -> None:
    """Else they would be found in what people write: "{0} of {1}" in "a dog of war"."""
    for entry in entries(FOLDER / f"{language}.po"):
        fields = re.findall(r"\{(\w+)(:[dnrw])?\}", entry.msgstr)
        words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\{\w+\}", "", entry.msgid))
        if fields and sum(map(len, words)) < 4:
            assert all(kind in (":d", ":n", ":w") for _, kind in fields) or entry.msgid in SHORT, entry.msgid


# Beginnings and ends of sentences that stand together.
SHORT = {"{0} It {1}.", "It {0}{1}."}


def test_finished_texts_are_known_by_their_entries(chinese: Catalogue) -> None:
    problem = "A clip of 5,000 frames cannot be made: this model makes 1 to 81."
    assert chinese.said(problem) == "无法生成 5,000 帧的视频：该模型支持 1 至 81 帧。"
    assert chinese.said("33 frames @ 12 fps = 2.75 s") == "33 帧 @ 12 fps = 2.75 秒"
    assert chinese.said("3 clips · 2.75 s · seed 7") == "3 个视频 · 2.75 秒 · 种子 7"
    # Values are texts themselves, or lists of names; what is no entry stays.
    assert chinese.said('Steps must be a whole number; you gave "x".') == '采样步数必须为整数；您输入的是 "x"。'
    assert chinese.said("There is no engine x: choose a, b or c.") == "没有引擎 x：请选择 a、b 或 c。"
    assert chinese.said("Frame rate (fps)") == "帧率（fps）"
    assert chinese.said("Phantom-Wan 1.3B — not installed, 17.6 GB") == "Phantom-Wan 1.3B — 未安装，17.6 GB"
    assert chinese.said("a dog of war") == "a dog of war"


def test_sentences_behind_each_other_are_known_one_by_one(chinese: Catalogue) -> None:
    error = MediaError("The clip could not be written completely.", hint="Check the free space of the disk.")
    assert chinese.said(str(error)) == "视频未能完整写入。请检查磁盘的剩余空间。"
    problems = [Problem("prompt", "Write a prompt that says what happens in the clip."), Problem("", "Unheard of.")]
    both = InvalidRequest(problems)
    assert chinese.said(str(both)) == "请写一个说明视频内容的提示词。Unheard of."
    assert chinese.said("x" * 100_000) == "x" * 100_000


@pytest.mark.parametrize(
    ("setting", "accepted", "language"),
    [
        ("auto", "zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("auto", "fr, zh-TW;q=0.5, en;q=0.7", "en"), ("auto", "", "en"),
        ("auto", "de", "en"), ("auto", "zh;q=0", "en"), ("auto", "zh;q=x,en", "en"), ("en", "zh", "en"),
        ("zh", "en", "zh"),
    ],
)  # fmt: skip
def test_the_language_is_the_browsers_unless_it_is_set(setting: str, accepted: str, language: str) -> None:
    assert Language(setting).of(accepted) == language


def test_what_people_wrote_stays_theirs(chinese: Catalogue) -> None:
    told = markup.table([markup.Row("Prompt", "Cancel", own=True), markup.Row("Solver", "none")])
    assert spoken.html(chinese, told).count("提示词") == 1 and ">Cancel<" in spoken.html(chinese, told)
    made = spoken.html(chinese, markup.made_of("Delete & <b>Undo</b>", [b"x"], made_by="Starter"))
    assert "Delete &amp; &lt;b&gt;Undo&lt;/b&gt;" in made and "入门模型" in made
    shown = spoken.changes(chinese, "textbox", {"label": "Prompt", "value": "Cancel", "placeholder": "nobody's"})
    assert shown == {"label": "提示词", "value": "Cancel", "placeholder": "nobody's"}
    card = {"image": "x", "caption": "3 clips · Cancel · 2.75 s"}
    assert spoken.changes(chinese, "gallery", {"value": [card]})["value"][0]["caption"] == "3 个视频 · Cancel · 2.75 秒"
    row = {
        "title": "Cancel",
        "about": "Long video · seed 7",
        "state": "failed",
        "actions": [{"name": "up", "label": "Top", "title": "Move up"}],
    }
    said = json.loads(spoken.data(chinese, json.dumps({"summary": "2 clips, paused", "rows": [row]})))
    assert said["rows"][0] | {"actions": 0} == row | {"about": "长视频 · 种子 7", "actions": 0}
    assert said["summary"] == "2 个视频，已暂停" and said["rows"][0]["actions"][0] == {
        "name": "up",
        "label": "置顶",
        "title": "上移",
    }


def test_choices_keep_their_values(chinese: Catalogue) -> None:
    choices = spoken.changes(chinese, "radio", {"choices": [("Draft", "Draft")], "value": "Draft"})
    assert choices == {"choices": [["草稿", "Draft"]], "value": "Draft"}


def test_each_language_has_a_front_page_of_its_own() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = f'<html lang="en"><head></head>{spoken.current()}'.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    page, zh, en = FrontPage(app, Settings()), {"accept-language": "zh-CN"}, {"accept-language": "de, en;q=0.2"}
    bodies = [body.decode() for _, body in answers(page, *({"headers": {**one}} for one in (zh, en, zh)), headers=3)]
    assert 'lang="zh-CN"' in bodies[0] and bodies[0].endswith("zh") and bodies[0] == bodies[2]
    assert 'lang="en"' in bodies[1] and bodies[1].endswith("en") and '"language": "en"' in bodies[1]


@needs_node
def test_scripts_say_it_in_the_language_of_the_page(chinese: Catalogue) -> None:
    words = json.dumps({"kinora": {"words": chinese.browser}}, ensure_ascii=False)
    said = evaluated(
        f"(globalThis.gradio_config = {words}, [kinora.lengthOfScenes([{{seconds: 2}}], 9),"
        " kinora.position({fps: 12, frames: 33}, 4),"
        " kinora.resultWords('card running', ''), kinora.pageTitle({percent: 7, waiting: 2}),"
        " kinora.sayName('Wide 832 × 480'), kinora.sayName('Starter')])"
    )
    evaluated("delete globalThis.gradio_config")
    assert said == [
        "共 2 秒",
        "第 5 帧，共 33 帧 · 0.42 秒",
        "生成中",
        "(7 % · 2 个等待中) Kinora",
        "横屏 832 × 480",
        "入门模型",
    ]
