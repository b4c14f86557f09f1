"""The rule-based prompt refiner only adds, says why, and invents nothing about people."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from engines.prompting.rules import main_colours, refine
from engines.registry import SPECS
from engines.request import MAX_PROMPT_CHARACTERS
from engines.training import words

PLAIN = " The camera stays still. Soft, even light. Smooth motion, sharp detail."


def picture(folder: Path, colour: str, *, stripe: str | None = None) -> Path:
    image = Image.new("RGB", (160, 120), (236, 236, 240))
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 20, 120, 100), fill=colour)
    if stripe:
        draw.rectangle((60, 40, 100, 80), fill=stripe)
    path = folder / f"{colour.strip('#')}{stripe or ''}.png"
    image.save(path)
    return path


def test_adds_camera_light_and_detail_where_they_are_missing() -> None:
    refined = refine("a fox  runs over\nthe grass")
    assert refined.text == "A fox runs over the grass." + PLAIN
    assert len(refined.reasons) == 4


@pytest.mark.parametrize(
    "prompt",
    [
        "Close-up of a fox at night, slow motion.",
        "A red star moves right, dark blue background. The camera pans left. Sharp detail.",
    ],
)
def test_leaves_a_full_prompt_alone(prompt: str) -> None:
    assert refine(prompt) == refine(prompt)
    assert refine(prompt).text == prompt
    assert refine(prompt).reasons == ()


def test_every_word_stays_in_its_place(tmp_path: Path) -> None:
    prompt = 'a woman says "Hello, WORLD" and waves to two dogs at the gate'
    text = refine(prompt, pictures=[picture(tmp_path, "red"), picture(tmp_path, "blue")]).text
    assert text.lower().startswith(prompt.lower())
    assert '"Hello, WORLD"' in text


def test_refining_twice_changes_nothing_more(tmp_path: Path) -> None:
    pictures = [picture(tmp_path, "red"), picture(tmp_path, "blue"), picture(tmp_path, "purple")]
    once = refine("a toy spins and a dog jumps", pictures=pictures)
    twice = refine(once.text, pictures=pictures)
    assert twice.text == once.text
    assert twice.reasons == ()


def test_names_the_picture_that_is_left_out(tmp_path: Path) -> None:
    pictures = [picture(tmp_path, "red"), picture(tmp_path, "blue", stripe="yellow")]
    refined = refine("A red ball bounces on the floor.", pictures=pictures)
    assert "What picture 2 shows, mainly blue and yellow, is also in view." in refined.text
    assert "Picture 2 does not seem to be mentioned." in refined.reasons
    assert "picture 1" not in refined.text


@pytest.mark.parametrize(
    "prompt",
    [
        "The ball of picture 1 hits the cube of picture 2.",
        "The subjects of pictures 1 and 2 dance.",
        "The first picture's ball chases what the second picture shows.",
        "Both reference pictures dance.",
        "The red ball chases the blue one.",
    ],
)
def test_pictures_are_mentioned_in_many_ways(prompt: str, tmp_path: Path) -> None:
    text = refine(prompt, pictures=[picture(tmp_path, "red"), picture(tmp_path, "blue")]).text
    assert text == prompt + PLAIN


def test_subjects_are_counted_but_places_are_not(tmp_path: Path) -> None:
    pictures = [picture(tmp_path, "red"), picture(tmp_path, "blue")]
    assert "also in view" not in refine("A fox chases a hare.", pictures=pictures).text
    assert "also in view" not in refine("Two foxes play.", pictures=pictures).text
    assert "What picture 2 shows" in refine("A fox runs through the snow under a tree.", pictures=pictures).text


def test_colours_of_the_picture_are_offered_where_the_prompt_names_none(tmp_path: Path) -> None:
    refined = refine("A toy spins slowly in a room.", pictures=[picture(tmp_path, "red", stripe="blue")])
    assert "The main colours of picture 1: red and blue." in refined.text


@pytest.mark.parametrize("tone", ["#ffdbac", "#e0ac69", "#c68642", "#8d5524", "#5c3836", "#2d221e"])
def test_skin_tones_are_never_named(tone: str, tmp_path: Path) -> None:
    path = picture(tmp_path, tone)
    assert main_colours(path) == ()
    assert refine("A woman waves.", pictures=[path]).text == "A woman waves." + PLAIN


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("#de2626", "red"),
        ("#30b242", "green"),
        ("#2e58e2", "blue"),
        ("#f6d630", "yellow"),
        ("#923abe", "purple"),
        ("#f68a1c", "orange"),
        ("#36d6de", "cyan"),
        ("#fc80b6", "pink"),
        ("#0a0a0c", "black"),
        ("#808082", "grey"),
    ],
)
def test_main_colours(colour: str, name: str, tmp_path: Path) -> None:
    assert main_colours(picture(tmp_path, colour)) == (name,)


def test_an_unreadable_picture_says_nothing(tmp_path: Path) -> None:
    assert main_colours(tmp_path / "none.png") == ()
    assert refine("A fox runs.", pictures=[tmp_path / "none.png"]).text == "A fox runs." + PLAIN


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_stays_empty(prompt: str) -> None:
    refined = refine(prompt)
    assert refined.text == ""
    assert "Write first" in refined.reasons[0]


@pytest.mark.parametrize("prompt", ["狐狸在雪地里奔跑。", "Лиса бежит по снегу.", "Der Fuchs und das Reh laufen."])
def test_other_languages_are_not_mixed_with_english(prompt: str) -> None:
    refined = refine(prompt)
    assert refined.text == prompt
    assert "Only English" in refined.reasons[0]


def test_advice_that_only_the_writer_can_follow() -> None:
    assert any('Say who "He" is' in reason for reason in refine("He runs along the beach.").reasons)
    assert any("short" in reason for reason in refine("Fox.").reasons)


def test_the_limit_is_kept() -> None:
    refined = refine("x" * (MAX_PROMPT_CHARACTERS - 10))
    assert len(refined.text) <= MAX_PROMPT_CHARACTERS
    assert "as long as it may be" in refined.reasons[-1]


def test_a_model_of_few_words_is_given_no_others() -> None:
    starter = SPECS["phantom-wan"].model("starter")
    refined = refine("a red star spins", words=starter.words)
    assert refined.text == "a red star spins"
    assert starter.words in refined.reasons[0]


def test_the_starter_names_every_word_of_its_world() -> None:
    named = SPECS["phantom-wan"].model("starter").words
    groups = (words.COLOURS, words.SHAPES, words.MOTIONS, words.BACKGROUNDS, words.FLOORS, words.PATTERNS)
    missing = [word for group in groups for word in group if word not in named]
    assert not missing
