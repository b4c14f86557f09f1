"""What Pyramid Flow refuses before anything is loaded: sizes, lengths, storyboards, pictures, latents to continue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from engines.errors import InvalidRequest
from engines.pyramid_flow import storyboard
from engines.pyramid_flow.spec import NEGATIVE_PROMPT, PUBLISHED, PYRAMID_FLOW, read_facts
from engines.validation import build_request

GOOD = {"model": "miniflux-384p", "prompt": "A fox runs."}
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no multiple of 64": ({"width": 600}, "width", "multiples of 64, the nearest is 576x384"),
    "another checkpoint's size": ({"width": 1280, "height": 768}, "width", "example 640x384"),
    "a size nobody trained": ({"width": 320, "height": 384}, "width", "trained for: choose 640x384"),
    "portrait": ({"width": 384, "height": 640}, "width", "makes noise at sizes that it was not trained for: choose"),
    "384p on 768p": ({"model": "sd3-768p", "width": 640, "height": 384}, "width", "or the model miniflux-384p or"),
    "between units": ({"frames": 120}, "frames", "choose 113 or 121"),
    "too long": ({"frames": 129}, "frames", "this model makes 1 to 121"),
    "a video from the image model": ({"model": "miniflux-image", "frames": 9}, "frames", "makes 1 to 1"),
    "no prompt": ({"prompt": " "}, "prompt", "Write a prompt"),
    "no storyboard": ({"storyboard": "a fox runs"}, "storyboard", 'as 0-2: what happens; you gave "a fox runs"'),
    "no scene": ({"storyboard": "0-5:"}, "storyboard", "says nothing for 0-5 s"),
    "backwards": ({"storyboard": "3-1: a fox"}, "storyboard", "3-1 s ends before it begins"),
    "late start": ({"storyboard": "1-5: a fox"}, "storyboard", "no prompt for 0-1 s"),
    "gap": ({"storyboard": "0-2: a fox\n2.5-5: a dog"}, "storyboard", "no prompt for 2-2.5 s: close the gap"),
    "overlap": ({"storyboard": "0-3: a fox\n2-5: a dog"}, "storyboard", "two prompts for 2-3 s"),
    "too short": ({"storyboard": "0-2: a fox\n2-4: a dog"}, "storyboard", "no prompt for 4-5.04 s"),
    "beyond the end": ({"storyboard": "0-6: a fox\n6-9: a dog"}, "storyboard", "range 6-9 s is not in it"),
    "no picture": ({"first_picture": {"path": "none.png"}}, "first_picture", 'There is no picture "none.png"'),
    "no latents": ({"continues": "none.latents.safetensors"}, "continues", '"none.latents.safetensors" is no file'),
    "guidance": ({"video_guidance": -1}, "video_guidance", "must be between 0 and 20"),
    "steps": ({"later_steps": 0}, "later_steps", "must be between 1 and 200"),
    "frames kept of nothing": ({"kept_frames": 9}, "kept_frames", 'is said of "Continue": give that too'),
    "a number for a file": ({"continues": 5}, "continues", "must be the name of a file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_one_clear_sentence(case: str) -> None:
    changes, field, sentence = REFUSED[case]
    with pytest.raises(InvalidRequest) as refused:
        build_request(PYRAMID_FLOW, GOOD | changes)
    (problem,) = refused.value.problems
    assert problem.field == field and sentence in problem.message


@pytest.mark.parametrize("model", [model.name for model in PYRAMID_FLOW.models])
def test_every_model_s_defaults_are_a_good_request(model: str) -> None:
    request = build_request(PYRAMID_FLOW, {"model": model, "prompt": "A fox runs."})
    assert (request.width, request.height) == PYRAMID_FLOW.model(model).geometry.sizes[0]


def test_a_clip_starts_from_one_thing(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "fox.png")
    both = {
        "first_picture": {"path": tmp_path / "fox.png"},
        "continues": write_latents(tmp_path / "a.latents.safetensors"),
    }
    with pytest.raises(InvalidRequest) as refused:
        build_request(PYRAMID_FLOW, GOOD | both | {"frames": 25})
    (problem,) = refused.value.problems
    assert (
        problem.field == "first_picture" and "one thing, a picture or a clip to go on from: remove" in problem.message
    )


def test_a_storyboard_says_where_its_scenes_begin() -> None:
    assert storyboard.cuts("0-1.1: a fox\n1.1-2: a dog", 49, 24) == {1: 0, 2: 25}
    assert storyboard.cuts("1-2: a dog\n0-1: a fox", 25, 12) == {1: 0, 2: 9}, "in the order of time"
    assert storyboard.cuts("0-1: a\n1-1.05: too short\n1.05-2: c", 25, 12) == {1: 0, 3: 9}
    assert storyboard.cuts("", 25, 12) == {}
    with pytest.raises(ValueError, match="no prompt for 1-2"):
        storyboard.cuts("0-1: a fox", 49, 24)


def test_a_picture_needs_a_video_to_start(tmp_path: Path) -> None:
    path = tmp_path / "fox.png"
    Image.new("RGB", (64, 64)).save(path)
    picture = {"first_picture": {"path": path}}
    build_request(PYRAMID_FLOW, GOOD | picture)
    for changes, sentence in (({"frames": 1}, "at least 9 frames"), ({"model": "miniflux-image"}, "makes pictures")):
        values = {"model": GOOD["model"], "prompt": "x"} | picture | changes
        with pytest.raises(InvalidRequest, match=sentence):
            build_request(PYRAMID_FLOW, values)


def write_latents(path: Path, *, units: int = 3, **changes: Any) -> Path:
    facts = {"engine": "pyramid-flow", "model": "miniflux-384p", "width": 640, "height": 384, "frames": 17} | changes
    save_file({"latents": np.zeros((1, 16, units, 48, 80), np.float32)}, path, metadata={"kinora": json.dumps(facts)})
    return path


def test_latents_to_continue_must_fit_the_request(tmp_path: Path) -> None:
    path = write_latents(tmp_path / "clip.latents.safetensors")
    assert read_facts(path)["frames"] == 17
    build_request(PYRAMID_FLOW, GOOD | {"continues": path, "frames": 25})
    build_request(PYRAMID_FLOW, GOOD | {"continues": path, "frames": 17, "kept_frames": 9})
    for changes, sentence in (
        ({"frames": 17}, "already holds 17 frames"),
        ({"kept_frames": 25}, "holds 17 frames: keep at most so many"),
        ({"kept_frames": 8}, "8 frames end amid a unit: keep 1 or 9"),
        ({"kept_frames": 17, "frames": 17}, "of which 17 frames are kept is longer"),
        ({"kept_frames": -1}, "Frames kept must be at least 0"),
        ({"model": "sd3-384p"}, "made with the model miniflux-384p"),
        ({"model": "miniflux-768p", "width": 1280, "height": 768}, "made with the model"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            build_request(PYRAMID_FLOW, GOOD | {"continues": path} | changes)


@pytest.mark.parametrize("changes", [{"engine": "other"}, {"frames": "17"}, {"units": 4}, {"height": 768}])
def test_latents_that_lie_about_themselves_are_no_latents(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert read_facts(write_latents(tmp_path / "clip.latents.safetensors", **changes)) is None
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert read_facts(tmp_path / "cut.safetensors") is None


# One way a line: separators, digits and blanks as keyboards, phones, chats and tables give them.
WAYS = (
    """
0-2: a fox|0 - 2 s: a fox|0s-2s:a fox|0 to 2: a fox| 0.0 – 2.0 :  a fox |0to2: a fox|00-02: a fox|0S-2S: a fox
0-2：a fox|０－２：a fox|0〜2：a fox|0～2、a fox|0~2: a fox|0ー2：a fox|0到2秒：a fox|【0-2】a fox|0-2﹕a fox|0-2∶a fox
• 0-2: a fox|- 0-2: a fox|* [0-2] a fox|「0-2」a fox|0-2︰a fox|0⁓2: a fox|0⇒2: a fox
٠-٢: a fox|۰–۲؛ a fox|०-२: a fox|0٫0-2٫0: a fox|0,0-2,0: a fox|0-2، a fox|0-2 sek: a fox|0 bis 2: a fox
0—2: a fox|0−2: a fox|0‑2: a fox|0 -- 2: a fox|0->2: a fox|0→2: a fox|0..2: a fox|0…2: a fox|0-2 — a fox
0:00-0:02: a fox|[0-2] a fox|(0-2 s): a fox|0-2, a fox|0-2; a fox|0-2. a fox|0-2s. a fox|0-2 seconds: a fox|0-2 = a fox
""".strip()
    .replace("\n", "|")
    .split("|")
)
INVISIBLE = ["0\xa0–\xa02\u202fs\xa0:\xa0a fox", "0-2\ta fox", "0\t-\t2:\ta fox", "\ufeff0-2: a fox\u200b",
             "\u200f0-2\u200f:\u200fa fox", "0\xad-2: a fox", "0\u2060-2: a fox"]  # fmt: skip


@pytest.mark.parametrize("line", WAYS + INVISIBLE)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_ways_to_write_a_range(line: str, end: str) -> None:
    assert storyboard.parse(f"{end}{line}{end}{end}2-3: a dog") == [
        storyboard.Scene(0, 2, "a fox"), storyboard.Scene(2, 3, "a dog"),
    ]  # fmt: skip


def test_a_prompt_stays_as_it_was_written() -> None:
    (scene,) = storyboard.parse("1:30～2:00：５つの星 – 「赤」: 3-4")
    assert scene == storyboard.Scene(90, 120, "５つの星 – 「赤」: 3-4")
    assert storyboard.parse("0-2:50 stars") == [storyboard.Scene(0, 2, "50 stars")]


@pytest.mark.parametrize("line", ["0-2.5 a fox", "0-2,5 stars", "0-2 a fox", "0-2-4: a fox", "2: a fox"])
def test_what_could_mean_two_things_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="Write each line"):
        storyboard.parse(line)


def test_a_storyboard_of_invisible_letters_is_empty() -> None:
    assert storyboard.parse("\ufeff\u200b\n\xa0") == []
    with pytest.raises(InvalidRequest, match="holds no scene"):
        build_request(PYRAMID_FLOW, GOOD | {"storyboard": "\u200b"})


@pytest.mark.parametrize(
    "text",
    [
        "0" + " " * 19_000,
        "0-1" + " s" * 9_000,
        "1." * 9_000,
        "0 to " * 4_000,
        "0-1" + "\xa0 " * 9_000,
        "0" + "-" * 19_000,
    ],
)
def test_a_long_line_that_is_no_range_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="Write each line"):
        storyboard.parse(text + "x")


def test_a_scene_has_the_units_whose_middle_it_covers() -> None:
    scenes = storyboard.parse("1-2: b\n0-1: a")  # in any order
    assert storyboard.problem(scenes, frames=49, fps=24) is None
    prompts = storyboard.unit_prompts(scenes, units=7, fps=24)
    assert prompts == ["a", "a", "a", "a", "b", "b", "b"]  # unit 4 shows frames 25 to 32, from 1.04 s on


def test_a_storyboard_is_told_in_seconds_that_are_shown() -> None:
    assert storyboard.reading(" \n", 49, 24) == ""
    assert storyboard.reading("0-2: a", 49, 24) == "1 scene: 0-2.04 s."
    assert storyboard.reading("1.1-2: b\n0-1.1: a", 49, 24) == "2 scenes: 0-1.04 s, 1.04-2.04 s."
    brief = storyboard.reading("0-1: a\n1-1.1: b\n1.1-2: d", 49, 24)
    assert brief == "3 scenes: 0-1.04 s, not the one of 1-1.1 s, it is too short, 1.04-2.04 s."
    with pytest.raises(ValueError, match=r"no prompt for 1-2\.04 s"):
        storyboard.reading("0-1: a", 49, 24)


def test_any_storyboard_becomes_its_plainest_lines() -> None:
    assert storyboard.written("1.5 to 3 s: b\n• 0–1.5s: a fox ") == "0-1.5: a fox\n1.5-3: b"
    assert storyboard.written("  \n") == ""
    with pytest.raises(ValueError, match="Write each line"):
        storyboard.written("a fox")


def test_guidance_defaults_follow_what_was_published_for_each_model() -> None:
    defaults = {model.name: PYRAMID_FLOW.default_values(model.name) for model in PUBLISHED}
    published = {"miniflux-384p": 7, "miniflux-768p": 7, "miniflux-image": 9, "sd3-384p": 7, "sd3-768p": 9}
    assert {name: values["guidance"] for name, values in defaults.items()} == published
    assert {values["video_guidance"] for values in defaults.values()} == {5}
    assert {values["negative_prompt"] for values in defaults.values()} == {NEGATIVE_PROMPT}
    assert PYRAMID_FLOW.default_values("starter")["negative_prompt"] == ""
