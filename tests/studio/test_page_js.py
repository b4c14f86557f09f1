"""The functions of page.js, run by node with the data that the page hands them."""

from __future__ import annotations

import itertools
import math
import re
import subprocess

import pytest

from engines.pyramid_flow import storyboard
from engines.registry import SPECS
from engines.types import EngineSpec
from studio import measures
from studio.page import duration, force_tool, settings_line
from studio.page.plumbing import script
from tests.studio.node import NODE, SCRIPTS, called, evaluated, needs_node
from tests.studio.server import ROOT

CASES = [(spec, model.name) for spec in SPECS.values() for model in spec.models]
NAMES = [f"{spec.name}/{model}" for spec, model in CASES]


def text(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


@needs_node
def test_it_is_javascript() -> None:
    for path in SCRIPTS:
        assert subprocess.run([str(NODE), "--check", str(path)], check=False, timeout=60).returncode == 0


@needs_node
@pytest.mark.parametrize(("spec", "model"), CASES, ids=NAMES)
def test_seconds_go_to_the_nearest_length_that_the_model_makes(spec: EngineSpec, model: str) -> None:
    rules, lengths = duration.rules(spec), spec.model(model).geometry.lengths
    asked = [(tenths / 10, fps) for tenths in range(1, 130, 7) for fps in (1, 8, 12, 16, 24, 60)]
    made = called(*(("framesFromSeconds", [rules, seconds, fps, model, 5]) for seconds, fps in asked))
    for (seconds, fps), (got, _) in zip(asked, made, strict=True):
        assert got in lengths
        assert abs(got - seconds * fps) == min(abs(length - seconds * fps) for length in lengths)
    assert [got for got, _ in called(*(("framesFromSeconds", [rules, none, 12, model, 5]) for none in (None, "")))] == [
        5,
        5,
    ]


@needs_node
@pytest.mark.parametrize(("spec", "model"), CASES, ids=NAMES)
def test_every_length_is_told_as_python_tells_it(spec: EngineSpec, model: str) -> None:
    rules, geometry = duration.rules(spec), spec.model(model).geometry
    shown = called(*(("secondsFromFrames", [rules, None, 12, model, frames]) for frames in geometry.lengths))
    for frames, (seconds, caption) in zip(geometry.lengths, shown, strict=True):
        assert not geometry.problems(width=geometry.sizes[0][0], height=geometry.sizes[0][1], frames=frames)
        assert seconds["value"] == float(measures.clip_seconds(frames, 12))
        assert (seconds["minimum"], seconds["maximum"]) == (
            0.08,
            float(measures.clip_seconds(geometry.lengths[-1], 12)),
        )
        most = measures.clip_seconds(geometry.lengths[-1], 12)
        assert text(caption) == f"{measures.clip_length(frames, 12)}, at most {most} s"


@needs_node
def test_every_length_can_be_reached_by_the_steps_of_the_slider() -> None:
    asked = [
        (duration.rules(spec), fps, model, spec.model(model).geometry.lengths)
        for (spec, model), fps in itertools.product(CASES, (8, 12, 16, 24))
    ]
    sliders = called(
        *(("secondsFromFrames", [rules, None, fps, model, lengths[0]]) for rules, fps, model, lengths in asked)
    )
    stops = [
        (rules, slider["minimum"] + slider["step"] * number, fps, model)
        for (rules, fps, model, lengths), (slider, _) in zip(asked, sliders, strict=True)
        for number in range(len(lengths))
    ]
    made = iter(called(*(("framesFromSeconds", [*stop, 1]) for stop in stops)))
    for *_, lengths in asked:
        assert [next(made)[0] for _ in lengths] == [*lengths]


@needs_node
def test_a_wish_that_cannot_be_is_told() -> None:
    rules = duration.rules(SPECS["phantom-wan"])
    last = SPECS["phantom-wan"].model("starter").geometry.lengths[-1]
    (long, told), (short, least), (fine, nothing) = called(
        ("framesFromSeconds", [rules, 15, 12, "starter", 13]),
        ("framesFromSeconds", [rules, -3, 12, "starter", 13]),
        ("framesFromSeconds", [rules, 1, 12, "starter", 5]),
    )
    most = measures.clip_seconds(last, 12)
    assert f"15 s is more than this model makes: set to {most} s." in text(told)
    assert "-3 s is less than one frame: set to 0.08 s." in text(least) and "set to" not in text(nothing)
    assert (long, short, fine) == (last, 1, 13)


@needs_node
def test_the_line_of_settings_says_what_is_set() -> None:
    words = settings_line.words(SPECS["phantom-wan"])
    plain, odd, two = called(
        ("settingsLine", [words, "starter", "96x64", 33, 12, "Standard", 20, True, None, 1]),
        ("settingsLine", [words, "starter", "80x48", 13, 12, None, 7, False, 0, 3]),
        ("settingsLine", [words, "1.3B", "832x480", 81, 16, "Best", 50, False, 7, 1]),
    )
    assert plain["label"] == "Starter · Wide · 2.75 s · Standard · random seed"
    assert odd["label"] == "Starter · 80 × 48 · 1.08 s · 7 steps · seed 0 · 3 variations"
    assert two["label"] == "Phantom-Wan 1.3B · Wide 832 × 480 · 5.06 s · Best · seed 7"


@needs_node
def test_a_seed_is_typed_or_drawn() -> None:
    most = 2**32 - 1
    drawn, kept, new = called(
        ("seedField", [most, True, 7]), ("seedField", [most, False, 7]), ("seedField", [most, False, None])
    )
    assert (drawn["interactive"], drawn["value"]) == (False, None)
    assert (kept["interactive"], kept["value"]) == (True, 7)
    assert 0 <= new["value"] <= most
    assert called(("undrawnSeed", [True, 0]), ("undrawnSeed", [False, 0]), ("undrawnSeed", [False, 7])) == [None, 0, 7]


@needs_node
def test_a_quality_sets_its_steps() -> None:
    presets = {"a": {"Draft": {"steps": 4}}, "b": {"Draft": {"steps": 8, "later_steps": 4}}}
    one, several = called(("presetSteps", [presets, "a", "Draft"]), ("presetSteps", [presets, "b", "Draft"]))
    assert (one, several) == (4, [8, 4])


@needs_node
def test_small_clips_are_drawn_a_whole_number_of_times_larger() -> None:
    rooms = {(96, 648): 4, (96, 383): 3, (128, 358): 2, (96, 90): 1, (832, 648): 1}
    assert called(*(("enlargement", [4, width, room]) for width, room in rooms)) == [*rooms.values()]


@needs_node
@pytest.mark.parametrize(
    ("text", "scenes"),
    [
        ("", []),
        ("0-2: a\n2-4.5: b", [("a", 2), ("b", 2.5)]),
        ("0-2: \n2-4: b: c", [("", 2), ("b: c", 2)]),
        ("0-2: a\n3-4: b", None),
        ("0-2: a\n1-4: b", None),
        ("a fox", None),
        ("1-2: a", None),
    ],
)
def test_a_text_of_scenes_is_a_table_and_back(text: str, scenes: list[tuple[str, float]] | None) -> None:
    (found,) = called(("scenesOf", [text]))
    assert found == (None if scenes is None else [{"text": said, "seconds": seconds} for said, seconds in scenes])
    if found:
        assert called(("textOf", [found])) == [text]
        assert "" in [scene["text"] for scene in found] or storyboard.written(text) == text


@needs_node
def test_a_clip_is_as_long_as_its_scenes() -> None:
    rules = duration.rules(SPECS["pyramid-flow"])
    model = SPECS["pyramid-flow"].model("starter")
    asked = [("0-2: a\n2-4: b", 12), ("0-0.8: a\n0.8-2: b", 12), ("0-60: a", 12), ("0-1: a\n1-3: b", 24)]
    made = called(*(("framesOfScenes", [rules, text, fps, "starter", 9]) for text, fps in asked))
    assert made[2] == model.geometry.max_frames
    for (text, fps), frames in zip(asked, made, strict=True):
        scenes = storyboard.parse(text)
        assert frames in model.geometry.lengths
        assert frames == made[2] or storyboard.problem(scenes, frames=frames, fps=fps) is None
    assert called(*(("framesOfScenes", [rules, text, 12, "starter", 9]) for text in ("", "a fox"))) == [9, 9]
    assert "at most 8.08 s" in called(("lengthOfScenes", [[{"text": "a", "seconds": 60}], 8.08]))[0]


@needs_node
def test_keys_act_where_no_field_wants_them() -> None:
    body, field = {"tagName": "BODY"}, {"tagName": "TEXTAREA"}
    button, slider = {"tagName": "BUTTON"}, {"tagName": "INPUT", "type": "range"}
    cases = [
        ({"key": "Enter", "ctrlKey": True}, field, "generate"), ({"key": "Enter", "metaKey": True}, body, "generate"),
        ({"key": "Enter"}, field, ""), ({"key": "Escape"}, body, "end"), ({"key": "Escape"}, field, ""),
        ({"key": "?"}, body, "help"), ({"key": "?"}, field, ""),
        ({"key": " "}, body, "play"), ({"key": " "}, field, ""),
        ({"key": " "}, button, ""), ({"key": "ArrowRight"}, body, "on"), ({"key": "ArrowLeft"}, slider, ""),
        ({"key": "ArrowLeft"}, body, "back"), ({"key": "ArrowLeft", "altKey": True}, body, ""),
        ({"key": "x"}, body, ""),
    ]  # fmt: skip
    assert called(*(("actionOf", [event, at]) for event, at, _ in cases)) == [name for _, _, name in cases]


@needs_node
def test_a_dragged_frame_lies_with_its_middle_under_the_pointer() -> None:
    shares = [(0, 0.5), (0.25, 0.5), (0.5, 0.5), (1, 0.5), (0.4, 0.2), (0.3, 1)]
    assert called(*(("positionAt", [*share]) for share in shares)) == [0, 0, 50, 100, 38, 50]


@needs_node
def test_the_way_to_the_result_says_how_it_stands() -> None:
    kinds = [("card running", "42"), ("card running", None), ("card waiting", None), ("card failed", None),
             ("card done", None), ("card cancelled", None), ("card empty", None)]  # fmt: skip
    words = called(*(("resultWords", [*kind]) for kind in kinds))
    assert words == ["42 %", "Making", "Waiting", "Not made", "Clip", "Clip", ""]


@needs_node
def test_text_is_never_markup() -> None:
    rules = duration.rules(SPECS["pyramid-flow"])
    model = SPECS["pyramid-flow"].models[0].name
    ((_, caption),) = called(("framesFromSeconds", [rules, 1, "<img src=x onerror=alert(1)>", model, 9]))
    assert "<img" not in caption


@needs_node
def test_what_python_calls_is_there() -> None:
    """Every function that some event names, called as gradio calls it: data first, then what the inputs hold."""
    names = set()
    for path in (ROOT / "studio" / "page").glob("*.py"):
        names |= set(re.findall(r'script\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert len(names) >= 5
    assert names <= set(evaluated("Object.keys(kinora)"))
    call = script("constant", {"a": "</script>"})
    assert evaluated(f"({call})(1)") == {"a": "</script>"}


def test_python_holds_no_javascript() -> None:
    for path in (ROOT / "studio").rglob("*.py"):
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if "=>" in line and "js" in line]
        assert not [line for line in found if not line.lstrip().startswith(('return f"(...values)', '"""'))], path


# A drawn force


@needs_node
@pytest.mark.parametrize("shape", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    "force", [(0.5, 0.5, 0, 0.0), (0.25, 0.75, 90, 1.0), (0.3, 0.2, 217, 0.4), (1.0, 0.0, 359, 0.9)]
)
def test_an_arrow_is_read_as_it_is_drawn(force: tuple[float, ...], shape: float) -> None:
    """From numbers to both ends of the arrow and back; 90 degrees is up, and the way is a share of the width."""
    given = dict(zip(force_tool.NUMBERS, force, strict=True))
    ((start, end),) = called(("arrowOf", ["point", given, shape]))
    assert start == pytest.approx([force[0], 1 - force[1]])
    way = math.hypot(end[0] - start[0], (end[1] - start[1]) * shape)
    assert way == pytest.approx(1 / 8 + 3 / 8 * force[3]), "as the control of the published data moves"
    assert (end[1] < start[1]) == (0 < force[2] < 180)
    (back,) = called(("forceOf", [start, end, shape]))
    assert back == pytest.approx(given, abs=0.011)


@needs_node
def test_a_click_moves_the_point_alone_and_nothing_leaves_its_range() -> None:
    click, far = called(("forceOf", [[0.2, 0.4], [0.21, 0.4], 1.0]), ("forceOf", [[-0.1, 1.2], [3.0, -4.0], 1.0]))
    assert click == {"force_x": 0.2, "force_y": 0.6}
    assert (far["force_x"], far["force_y"], far["force_strength"]) == (0, 0, 1) and 0 <= far["force_angle"] < 360


@needs_node
def test_the_page_follows_a_clip_when_it_begins_and_when_it_is_done() -> None:
    steps = [("", "running"), ("", "waiting"), ("done", "waiting"), ("waiting", "running"), ("running", "done"),
             ("", "done"), ("running", ""), ("done", "done")]  # fmt: skip
    found = called(*(("followed", [*step]) for step in steps))
    assert found == ["begun", "begun", "begun", "", "done", "", "", ""]
