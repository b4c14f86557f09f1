"""The rule-based prompt refiner only adds, says why, and invents nothing about people."""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from engines.prompting import small_world
from engines.prompting.rules import WORDS_IT_KNOWS, main_colours, refine, remark
from engines.registry import SPECS
from engines.request import MAX_PROMPT_CHARACTERS
from engines.training import scene_words
from engines.training import words as world
from engines.types import EngineSpec
from studio import examples

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


STARTER = SPECS["phantom-wan"].model("starter")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("A crimson ball goes to the right on the lawn", "A red circle moves right on a green floor"),
        ("a scarlet sphere is bouncing in the night", "a red circle bounces on a black background"),
        ("an azure box rotates over the ocean.", "a blue square spins on a dark blue background."),
        ("a golden ball jumps on the snow, the camera moves to the left",
         "a yellow circle bounces on a white floor, the camera pans left"),
        ("a dark blue disc rolls from left to right", "a blue circle moves right"),
        ("a spotted donut gets bigger in a forest", "a dotted ring grows on a dark green background"),
        ("an emerald triangle, ultramarine star", "a green triangle, blue star"),
        ("two balls", "two circles"),
        ("a red star moves right on a blue background", "a red star moves right on a dark blue background"),
        ("a pink ring falls, light blue background", "a pink ring falls, sky background"),
        ("a blue box spins on a beige background", "a blue square spins on a sand background"),
        ("a green star grows on a dark gray background", "a green star grows on a grey background"),
        ("a white star grows on a dark background", "a white star grows on a black background"),
        ("a navy blue ring falls, lime background", "a blue ring falls, dark green background"),
        ("a red star falls on a pale gold background", "a red star falls on a sand background"),
        ("a pink ring grows on an azure background", "a pink ring grows on a sky background"),
    ],
)  # fmt: skip
def test_a_model_of_few_words_is_spoken_to_in_them(prompt: str, said: str) -> None:
    refined = refine(prompt, words=STARTER.words)
    assert refined.text == said
    assert world.unknown(said) == []
    again = refine(said, words=STARTER.words)
    assert again.text == said
    assert bool(remark(prompt, STARTER.words)) == bool(world.unknown(prompt)) and remark(said, STARTER.words) == ""


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("A rubber ball drops onto a wooden floor and bounces lower each time", "bounce"),
        ("a tennis ball is thrown, flies in an arc and falls on the lawn", "projectile"),
        ("a brass ball on a string goes to and fro", "pendulum"),
        ("a white billiard ball rolls into a red one that lies still", "collision"),
        ("a marble rolls down a tilted board", "incline"),
        ("something falls down", "free fall"),
    ],
)
def test_a_model_of_six_scenes_is_told_which_one_is_meant(prompt: str, said: str) -> None:
    refined = refine(f"{prompt}, azure", words=scene_words.SENTENCE)
    assert refined.text == scene_words.CAPTIONS[said].format(colour="red" if "red" in prompt else "blue")
    assert "says yours in them" in remark(prompt, scene_words.SENTENCE)


def test_what_is_none_of_the_six_scenes_is_said() -> None:
    for sentence in scene_words.SENTENCES:
        refined = refine(sentence.rstrip("."), words=scene_words.SENTENCE)
        assert refined.reasons == ("This prompt is fine as it is.",)
        assert scene_words.unknown(scene_words.SENTENCE.replace("that", "").replace(" or ", " ")) == []
    refined = refine("a dog sneezes", words=scene_words.SENTENCE)
    assert (
        refined.text == "a dog sneezes" and "It was not taught dog, sneezes: say it in other words." in refined.reasons
    )
    assert f"{WORDS_IT_KNOWS} {scene_words.SENTENCE}." in refined.reasons
    assert "dog" in remark("a dog sneezes", scene_words.SENTENCE)


@pytest.mark.parametrize("prompt", ["一个红色的球落到地上", "красный шар падает", "كرة حمراء", "🦊狐狸", "à côté"])
@pytest.mark.parametrize("words", [scene_words.SENTENCE, world.SENTENCE])
def test_a_prompt_in_any_script_is_remarked_on_while_it_is_written(prompt: str, words: str) -> None:
    assert remark(prompt, words)


@pytest.mark.parametrize("spec", [spec for spec in SPECS.values() if "starter" in spec.models[0].name])
def test_every_shipped_example_is_fine_as_it_is(spec: EngineSpec) -> None:
    for example in examples.of(spec):
        if prompt := example.values(spec.models[0])["prompt"]:
            refined = refine(prompt, words=spec.models[0].words)
            assert refined.text == prompt and refined.reasons == ("This prompt is fine as it is.",)
            assert remark(prompt, spec.models[0].words) == ""


def test_every_sentence_of_the_world_stays_in_its_words() -> None:
    """Whatever training wrote is understood: it is left, or said in words that mean the same."""
    for (colour, shape), motion in zip(product(world.COLOURS, world.SHAPES), cycle(world.MOTIONS), strict=False):
        for scene in [f", {name} background" for name in world.BACKGROUNDS]:
            prompt = f"a {colour} {shape} {motion}{scene}".replace("a orange", "an orange")
            assert small_world.translated(prompt) == (prompt, [])
    for motion, phrases in world.MOTION_SYNONYMS.items():
        for phrase in phrases:
            assert small_world.translated(f"a red star {phrase}")[0] == f"a red star {motion}"
    for shape, nouns in world.SHAPE_SYNONYMS.items():
        for noun in nouns:
            assert small_world.translated(f"the {noun}")[0] == f"the {shape}"


@pytest.mark.parametrize(
    ("prompt", "named"), [("a dog", "dog"), ("a fox and a red star", "fox"), ("a ball on the lawn sneezes", "sneezes")]
)
def test_only_the_words_that_it_was_not_taught_are_named(prompt: str, named: str) -> None:
    refined = refine(prompt, words=STARTER.words)
    assert f"It was not taught {named}: say it in other words." in refined.reasons
    assert STARTER.words in refined.reasons[-1]
    assert named in remark(prompt, STARTER.words) and remark(prompt, "") == ""


@pytest.mark.parametrize("prompt", ["狐狸在雪地里奔跑。", "Лиса бежит по снегу.", "🦊🦊"])
def test_other_languages_are_told_apart(prompt: str) -> None:
    refined = refine(prompt, words=STARTER.words)
    assert refined.text == prompt
    assert "🦊" in prompt or (
        "It reads English only." in refined.reasons and "English" in remark(prompt, STARTER.words)
    )


def test_the_starter_names_every_word_of_its_world() -> None:
    named = SPECS["phantom-wan"].model("starter").words
    groups = (world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS, world.FLOORS, world.PATTERNS)
    missing = [word for group in groups for word in group if word not in named]
    assert not missing
