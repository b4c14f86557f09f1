"""Every wrong value gets one sentence that names the field and says what to change."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from engines.errors import InvalidRequest, Problem
from engines.registry import SPECS, find
from engines.request import MAX_SEED, RANDOM_SEED, seeds
from engines.types import Geometry, Size
from engines.validation import build_request
from engines.wording import either, given, number, printable

SPEC = SPECS["phantom-wan"]


@pytest.fixture
def good(tmp_path: Path) -> dict[str, Any]:
    picture = tmp_path / "fox.png"
    Image.new("RGB", (64, 64), "orange").save(picture)
    return {"prompt": "A fox runs.", "references": ({"path": picture},)}


def problems(values: dict[str, Any]) -> list[Problem]:
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPEC, values)
    return list(caught.value.problems)


def test_good_values_pass(good: dict[str, Any]) -> None:
    request = build_request(SPEC, good)
    assert (request.model, request.width, request.height, request.frames) == ("starter", 96, 64, 33)


def test_texts_are_read_as_the_type_of_their_field(good: dict[str, Any]) -> None:
    request = build_request(SPEC, good | {"steps": " 7 ", "image_guidance": "1e0", "published_pictures": "yes"})
    assert (request.steps, request.image_guidance, request.published_pictures) == (7, 1.0, True)


def test_each_model_brings_its_own_defaults(good: dict[str, Any]) -> None:
    assert build_request(SPEC, good | {"model": "14B"}).fps == 24
    assert build_request(SPEC, good | {"model": "1.3B"}).width == 832


PUBLISHED: dict[str, dict[str, Any]] = {
    "phantom-wan/1.3B": {"image_guidance": 5.0, "text_guidance": 7.5, "shift": 5.0, "steps": 50},
    "flashi2v/1.3B": {"guidance": 5.0, "shift": 7.0, "detail": 0.9, "steps": 50},
    "bindweave/14B": {"guidance": 5.0, "shift": 3.0, "steps": 50},
    "phantom-physics/5B": {"guidance": 5.0, "shift": 0.0, "steps": 50, "solver": "unipc"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_begins_with_its_authors_settings(name: str) -> None:
    engine, model = name.split("/")
    assert SPECS[engine].default_values(model).items() >= PUBLISHED[name].items()


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"model": "2B"}, "model", 'Model must be starter, 1.3B or 14B; you gave "2B".'),
        ({"model": None}, "model", "Model must be starter, 1.3B or 14B; you gave nothing."),
        ({"model": ["starter"]}, "model", "Model must be starter, 1.3B or 14B; you gave a list."),
        ({"stepz": 3}, "stepz", 'There is no setting "stepz": did you mean "steps"?'),
        ({"steps": 0}, "steps", "Steps must be between 1 and 200; you gave 0."),
        ({"steps": "many"}, "steps", 'Steps must be a whole number; you gave "many".'),
        ({"steps": 7.5}, "steps", "Steps must be a whole number; you gave 7.5."),
        ({"steps": True}, "steps", "Steps must be a whole number; you gave true."),
        ({"steps": None}, "steps", "Steps must be a whole number; you gave nothing."),
        ({"steps": ""}, "steps", "Steps must be a whole number; you gave nothing."),
        ({"steps": [1]}, "steps", "Steps must be a whole number; you gave a list."),
        ({"steps": float("nan")}, "steps", "Steps must be a whole number; you gave nan."),
        ({"steps": 10**5000}, "steps", "Steps must be between 1 and 200; you gave about 10^5000."),
        ({"seed": -2}, "seed", "Seed must be between -1 and 4,294,967,295; you gave -2."),
        ({"seed": 2**32}, "seed", "Seed must be between -1 and 4,294,967,295; you gave 4,294,967,296."),
        ({"image_guidance": "inf"}, "image_guidance", 'Picture guidance must be between 0 and 20; you gave "inf".'),
        (
            {"text_guidance": float("nan")},
            "text_guidance",
            "Text guidance must be between 0 and 20; you gave nan.",
        ),
        ({"text_guidance": -0.5}, "text_guidance", "Text guidance must be between 0 and 20; you gave -0.5."),
        ({"text_guidance": False}, "text_guidance", "Text guidance must be a number; you gave false."),
        ({"shift": 0}, "shift", "Timestep shift must be between 0.1 and 20; you gave 0."),
        ({"width": 0}, "width", "Width must be at least 16; you gave 0."),
        (
            {"published_pictures": "maybe"},
            "published_pictures",
            'Prepare pictures as published must be true or false; you gave "maybe".',
        ),
        ({"prompt": ["a"]}, "prompt", "Prompt must be text; you gave a list."),
        ({"prompt": None}, "prompt", "Prompt must be text; you gave nothing."),
        ({"negative_prompt": 5}, "negative_prompt", "Negative prompt must be text; you gave 5."),
        ({"prompt": " \n"}, "prompt", "Write a prompt that says what happens in the clip."),
        ({"prompt": "x" * 20_000}, "prompt", "Prompt is 20,000 characters long: shorten it to at most 2,000."),
        (
            {"prompt": "a\0b"},
            "prompt",
            "Prompt holds control characters or broken text: remove them or type it again.",
        ),
        (
            {"prompt": "a\ud800b"},
            "prompt",
            "Prompt holds control characters or broken text: remove them or type it again.",
        ),
        (
            {"negative_prompt": "\x1b[31m"},
            "negative_prompt",
            "Negative prompt holds control characters or broken text: remove them or type it again.",
        ),
        ({"references": "/a/b.png"}, "references", 'Reference pictures must be a list; you gave "/a/b.png".'),
        ({"references": None}, "references", "Reference pictures must be a list; you gave nothing."),
        (
            {"references": ["b.png"]},
            "references",
            'Reference pictures: number 1 must be an object with a "path".',
        ),
        ({"references": [{}]}, "references", 'Reference pictures: number 1 must be an object with a "path".'),
        (
            {"references": [{"path": "b.png", "role": "cat"}]},
            "references",
            'Reference pictures: number 1 has no setting "role".',
        ),
        (
            {"references": [{"path": 5}]},
            "references",
            'Reference pictures: number 1 has a "path" that cannot be 5.',
        ),
        ({"references": ()}, "references", "Add a reference picture: this engine needs at least one."),
    ],
)
def test_one_sentence_for_each_wrong_value(
    good: dict[str, Any], values: dict[str, Any], field: str, sentence: str
) -> None:
    assert problems(good | values) == [Problem(field, sentence)]


def test_five_references(good: dict[str, Any]) -> None:
    found = problems(good | {"references": good["references"] * 5})
    assert found == [Problem("references", "Use at most 4 reference pictures; you gave 5.")]


def test_a_bad_picture_is_named_without_its_folder(good: dict[str, Any], tmp_path: Path) -> None:
    (problem,) = problems(good | {"references": [{"path": tmp_path / "none.png"}]})
    assert problem == Problem("references", 'There is no picture "none.png": check the file name.')


def test_all_problems_are_told_at_once(good: dict[str, Any]) -> None:
    found = problems(good | {"steps": 0, "seed": "x", "fps": True})
    assert sorted(problem.field for problem in found) == ["fps", "seed", "steps"]
    found = problems(good | {"prompt": "", "references": (), "width": 100, "frames": 32})
    assert sorted(problem.field for problem in found) == ["frames", "prompt", "references", "width"]


def test_line_breaks_tabs_and_every_script_are_text(good: dict[str, Any]) -> None:
    prompt = "A fox\r\n\truns.\fЛиса бежит. 狐狸奔跑。 \u202bثعلب\u202c 🦊\u200d🔥"
    assert build_request(SPEC, good | {"prompt": prompt}).prompt == prompt


@pytest.mark.parametrize("key", [5, "", "self", "x" * 5_000, "a\nb", "__class__"])
def test_odd_settings_are_refused_in_short_sentences(good: dict[str, Any], key: Any) -> None:
    (problem,) = problems(good | {key: 1})
    assert "There is no setting" in problem.message and len(problem.message) < 300 and "\n" not in problem.message


ODD_VALUES = [
    None, True, 0, -1, 10**400, -(10**5000), 1.5, float("nan"), float("inf"), -0.0, "", "a", "1e400", "9" * 6_000, "\0",
    "\ud800", "/etc/passwd", "٣", "1_000", " ", b"\xff", 1j, set(), range(3), len, [], {}, [[]], ({},), [{"path": ""}],
    [{"path": "\0"}], [{"path": "/dev/zero"}], [{"path": "x" * 9_000}], [{"path": None, "keep_background": []}],
]  # fmt: skip


def test_nothing_but_a_short_sentence_ever_comes_out(good: dict[str, Any]) -> None:
    random = Random(0)
    names = [*SPEC.request_type.model_fields, "stepz", "__init__", 3, None]
    for _ in range(3_000):
        values = good | {random.choice(names): random.choice(ODD_VALUES) for _ in range(random.randint(1, 3))}
        try:
            build_request(SPEC, values)
        except InvalidRequest as error:
            for problem in error.problems:
                assert len(problem.message) < 300 and "\n" not in problem.message
                problem.message.encode()


@pytest.mark.parametrize("text", ["96x64", " 96 X 64 ", "96×64", "96*64", "96х64", "９６ｘ６４", "0096x64"])
def test_a_size_is_read_as_meant(text: str) -> None:
    assert Size.parse(text) == (96, 64) and str(Size.parse(text)) == "96x64"


@pytest.mark.parametrize(
    "text", ["large", "", None, "96", "96x", "-96x64", "96x64x2", "9.6x64", "9" * 5_000 + "x64", []]
)
def test_what_is_no_size_is_told_in_one_sentence(text: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^Write the size as width x height, for example 96x64; you gave .*"
    ) as caught:
        Size.parse(text)
    assert len(str(caught.value)) < 200


def test_a_name_that_is_no_engine_gets_the_ones_there_are() -> None:
    assert find("flashi2v") is SPECS["flashi2v"]
    for name in ("phantom", None, ["a"]):
        with pytest.raises(InvalidRequest, match=r"^There is no engine .*: choose phantom-wan, "):
            find(name)


def test_seeds_follow_one_another_and_end_where_seeds_end() -> None:
    assert seeds(7, 3) == [7, 8, 9] and seeds(MAX_SEED, 2) == [MAX_SEED, 0]
    drawn = [seeds(RANDOM_SEED, 8) for _ in range(50)]
    assert (
        all(later == first + 1 for one in drawn for first, later in pairwise(one))
        and len({one[0] for one in drawn}) > 45
    )


def test_what_a_model_wants_is_said_by_its_number_alone() -> None:
    model = SPEC.model("1.3B")
    assert model.about == "The published 1.3B model, best at 832x480. It wants a GPU with 8 GB or more."
    assert SPEC.model("starter").about == SPEC.model("starter").note and "GB" not in model.note


GEOMETRY = Geometry(
    sizes=((96, 64), (64, 64)), multiple=16, max_pixels=96 * 96, frame_stride=4, max_frames=49, min_side=48
)
OUTSIDE = (
    "A clip of {} is outside what this model can make: both sides need at least 48 pixels, "
    "the whole at most 9,216, for example 96x64 or 64x64."
)


@pytest.mark.parametrize(
    ("width", "height", "field", "sentence"),
    [
        (
            100,
            64,
            "width",
            "A clip of 100x64 cannot be made: width and height must be multiples of 16, the nearest is 96x64.",
        ),
        (
            96,
            95,
            "height",
            "A clip of 96x95 cannot be made: width and height must be multiples of 16, the nearest is 96x96.",
        ),
        (
            95,
            97,
            "width",
            "A clip of 95x97 cannot be made: width and height must be multiples of 16, the nearest is 96x96.",
        ),
        (32, 64, "width", OUTSIDE.format("32x64")),
        (64, 32, "height", OUTSIDE.format("64x32")),
        (1280, 720, "width", OUTSIDE.format("1280x720")),
        (101, 103, "width", OUTSIDE.format("101x103")),
        (0, 0, "width", OUTSIDE.format("0x0")),
        (-96, -64, "width", OUTSIDE.format("-96x-64")),
        (10**9, 64, "width", OUTSIDE.format("1,000,000,000x64")),
        pytest.param(10**5000, 64, "width", OUTSIDE.format("about 10^5000x64"), id="endless"),
    ],
)
def test_sizes(width: int, height: int, field: str, sentence: str) -> None:
    assert GEOMETRY.problems(width=width, height=height, frames=1) == [Problem(field, sentence)]


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (32, "A clip of 32 frames cannot be made: choose 29 or 33 (1, 5, 9 and so on up to 49)."),
        (2, "A clip of 2 frames cannot be made: choose 1 or 5 (1, 5, 9 and so on up to 49)."),
        (50, "A clip of 50 frames cannot be made: this model makes 1 to 49."),
        (0, "A clip of 0 frames cannot be made: this model makes 1 to 49."),
        (-3, "A clip of -3 frames cannot be made: this model makes 1 to 49."),
        (10**30, "A clip of about 10^30 frames cannot be made: this model makes 1 to 49."),
    ],
)
def test_lengths(frames: int, sentence: str) -> None:
    assert GEOMETRY.problems(width=96, height=64, frames=frames) == [Problem("frames", sentence)]


@pytest.mark.parametrize("model", SPEC.models, ids=lambda model: model.name)
def test_what_a_model_offers_and_what_sentences_propose_can_be_made(model: Any) -> None:
    geometry, defaults = model.geometry, SPEC.default_values(model.name)
    for width, height in (*geometry.sizes, (defaults["width"], defaults["height"])):
        assert geometry.problems(width=width, height=height, frames=defaults["frames"]) == []
    for width in range(geometry.min_side, 1300, 37):
        for height in range(geometry.min_side, 1300, 41):
            if width * height <= geometry.max_pixels:
                nearest = geometry._nearest_size(width, height)
                assert geometry.problems(width=nearest[0], height=nearest[1], frames=1) == []


def test_wording() -> None:
    assert either(["a"]) == "a" and either(["a", "b", "c"]) == "a, b or c"
    assert [number(value) for value in (12345, 7.5, 3.0, float("inf"), 1e300)] == [
        "12,345",
        "7.5",
        "3",
        "inf",
        "1e+300",
    ]
    assert printable("a\x1b\nb") == "a??b" and len(printable("x" * 10**6)) <= 60
    values = (None, True, "x", 2, {}, "-1000", "2.50")
    assert [given(value) for value in values] == ["nothing", "true", '"x"', "2", "a dict", "-1,000", '"2.50"']


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (None, "Add a picture: it becomes the first frame of the clip."),
        (3, 'First frame must be an object with a "path"; you gave 3.'),
        ({}, 'First frame must be an object with a "path".'),
        ({"path": "a.png", "position": 2}, 'First frame has a "position" that cannot be 2.'),
        ({"path": "a.png", "crop": 1}, 'First frame has no setting "crop".'),
    ],
)
def test_a_field_of_one_picture_is_told_of_like_any_other(picture: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build_request(SPECS["flashi2v"], {"prompt": "A fox runs.", "picture": picture})
    assert [problem.message for problem in caught.value.problems] == [sentence]
