"""The functions of page.js, run by node with the data that the page hands them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from engines.registry import SPECS
from engines.types import EngineSpec
from studio import measures
from studio.page import duration
from studio.page.plumbing import script
from tests.studio.server import ROOT

PAGE_JS = ROOT / "studio" / "page" / "page.js"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
CASES = [(spec, model.name) for spec in SPECS.values() for model in spec.models]
NAMES = [f"{spec.name}/{model}" for spec, model in CASES]


def called(*calls: tuple[str, list[Any]]) -> list[Any]:
    """What the functions return, each of (name, arguments)."""
    program = f"""
require({json.dumps(str(PAGE_JS))});
const calls = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(calls.map(([name, given]) => kinora[name](...given))));
"""
    ended = subprocess.run(
        [str(NODE), "-e", program], input=json.dumps(calls), capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def text(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


@needs_node
def test_it_is_javascript() -> None:
    assert subprocess.run([str(NODE), "--check", str(PAGE_JS)], check=False, timeout=60).returncode == 0


@needs_node
@pytest.mark.parametrize(("spec", "model"), CASES, ids=NAMES)
def test_seconds_go_to_the_nearest_length_that_the_model_makes(spec: EngineSpec, model: str) -> None:
    rules, lengths = duration.rules(spec), spec.model(model).geometry.lengths
    asked = [(tenths / 10, fps) for tenths in range(1, 130, 7) for fps in (1, 8, 12, 16, 24, 60)]
    frames = called(*(("framesFromSeconds", [rules, seconds, fps, model, 5]) for seconds, fps in asked))
    for (seconds, fps), got in zip(asked, frames, strict=True):
        assert got in lengths
        assert abs(got - seconds * fps) == min(abs(length - seconds * fps) for length in lengths)
    assert called(*(("framesFromSeconds", [rules, none, 12, model, 5]) for none in (0, None, -3))) == [5, 5, 5]


@needs_node
@pytest.mark.parametrize(("spec", "model"), CASES, ids=NAMES)
def test_every_length_is_told_as_python_tells_it(spec: EngineSpec, model: str) -> None:
    rules, geometry = duration.rules(spec), spec.model(model).geometry
    shown = called(*(("secondsFromFrames", [rules, 0, 12, model, frames, "96x64"]) for frames in geometry.lengths))
    for frames, (seconds, caption) in zip(geometry.lengths, shown, strict=True):
        assert not geometry.problems(width=geometry.sizes[0][0], height=geometry.sizes[0][1], frames=frames)
        assert seconds == float(measures.clip_seconds(frames, 12))
        assert measures.clip_length(frames, 12) in text(caption)
        assert f"at most {measures.clip_seconds(geometry.lengths[-1], 12)} s" in text(caption)
        units = (frames - 1) // geometry.frame_stride + 1
        counted = text(caption).startswith(f"{units} unit{'s' * (units > 1)}, ")
        assert counted == spec.keeps_parts


@needs_node
def test_what_is_typed_stays_while_it_means_the_same_frames() -> None:
    rules = duration.rules(SPECS["phantom-wan"])
    (kept, _), (exact, _) = called(
        ("secondsFromFrames", [rules, 1, 12, "starter", 13]), ("secondsFromFrames", [rules, 2, 12, "starter", 13])
    )
    assert (kept, exact) == (1, 1.08)


@needs_node
def test_a_length_that_cannot_be_is_told_on_leaving_the_field() -> None:
    rules = duration.rules(SPECS["phantom-wan"])
    last = SPECS["phantom-wan"].model("starter").geometry.lengths[-1]
    (long, told), (short, empty), (fine, nothing) = called(
        ("settledSeconds", [rules, 15, 12, "starter", last]),
        ("settledSeconds", [rules, -3, 12, "starter", 13]),
        ("settledSeconds", [rules, 1, 12, "starter", 13]),
    )
    most = measures.clip_seconds(last, 12)
    assert f"15 s is more than this model makes: set to {most} s." in text(told)
    assert "set to 1.08 s" in text(empty) and "set to" not in text(nothing)
    assert (long, short, fine) == (float(most), 1.08, 1.08)


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
def test_text_is_never_markup() -> None:
    rules = duration.rules(SPECS["pyramid-flow"])
    model = SPECS["pyramid-flow"].models[0].name
    ((_, caption),) = called(("secondsFromFrames", [rules, 1, 12, model, 9, "<img src=x onerror=alert(1)>"]))
    assert "<img" not in caption


@needs_node
def test_what_python_calls_is_there() -> None:
    """Every function that some event names, called as gradio calls it: data first, then what the inputs hold."""
    names = set()
    for path in (ROOT / "studio" / "page").glob("*.py"):
        names |= set(re.findall(r'script\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert len(names) >= 5
    program = f"require({json.dumps(str(PAGE_JS))}); console.log(JSON.stringify(Object.keys(kinora)))"
    ended = subprocess.run([str(NODE), "-e", program], capture_output=True, text=True, check=True, timeout=60)
    assert names <= set(json.loads(ended.stdout))
    call = script("constant", {"a": "</script>"})
    program = f"require({json.dumps(str(PAGE_JS))}); console.log(JSON.stringify(({call})(1)))"
    ended = subprocess.run([str(NODE), "-e", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ended.stdout) == {"a": "</script>"}


def test_python_holds_no_javascript() -> None:
    for path in (ROOT / "studio").rglob("*.py"):
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if "=>" in line and "js" in line]
        assert not [line for line in found if not line.lstrip().startswith(('return f"(...values)', '"""'))], path
