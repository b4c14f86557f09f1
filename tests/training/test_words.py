"""The world's words, declared once: what is drawn, what captions and the page say, what the prompt's check misses."""

import dataclasses

import pytest

from engines.prompting.rules import refine
from engines.registry import SPECS
from engines.training import words
from engines.training.world import WorldConfig, caption_of

FREE = WorldConfig(
    subject_shares=(0.5, 0.5, 0, 0), two_subjects=0.3, photo_background=0.2, paraphrase=1.0, references=True
)


def test_no_caption_of_the_world_has_an_unknown_word() -> None:
    for config in (FREE, dataclasses.replace(FREE, vocabulary="small"), dataclasses.replace(FREE, empty_photo=1.0)):
        for seed in range(300):
            assert words.unknown(caption_of(seed, config)) == []


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [
        ("A red dragon moves right, dark blue background", ["dragon"]),
        ("Two green BALLS bounce over a castle, and a castle falls.", ["bounce", "castle"]),
        ("ein roter Stern", ["ein", "roter", "stern"]),
        ("3 stars!", []),
        ("a red star on a purple background", ["purple background"]),
        ("a red star on a blue background over a blue floor", ["blue background", "blue floor"]),
        ("two red stars, dark blue background, a dragon, dark background", ["dragon", "dark background"]),
        ("a ring in red, background sky", []),
        ("", []),
    ],
)
def test_words_that_were_not_taught_are_named_once(prompt: str, strange: list[str]) -> None:
    assert words.unknown(prompt) == strange


def test_the_page_tells_every_word_and_the_prompt_s_check_what_is_missing() -> None:
    told = SPECS["phantom-wan"].model("starter").words
    for group in (words.COLOURS, words.SHAPES, words.MOTIONS, words.BACKGROUNDS, words.FLOORS, words.PATTERNS):
        assert all(word in told for word in group)
    assert words.unknown(told.replace("that", "").replace(" or ", " ")) == []
    assert any("dragon" in reason for reason in refine("A dragon moves right.", words=told).reasons)
    assert refine("A star moves right.", words=told).reasons == ("This prompt is fine as it is.",)
    for engine in ("flashi2v", "pyramid-flow"):
        assert words.SENTENCE in SPECS[engine].model("starter").words
