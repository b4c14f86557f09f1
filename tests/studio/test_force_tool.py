"""A drawn force at every door: seen where a checkpoint takes one, refused in one sentence where it does not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from safetensors.torch import load_file, save_file

from engines.errors import InvalidRequest
from engines.loading.integrity import FACTS_KEY
from engines.loading.store import Store
from engines.phantom_physics.description import FACT, SETTINGS, forces
from engines.registry import SPECS
from engines.validation import build_request, usable_files
from studio.jobs.store import Job
from studio.page import force_tool, panel, tab
from studio.service import Studio
from tests.engines.tiny_models import TINY
from tests.studio.conftest import LOOPS_LEFT_OPEN

NAME = "phantom-physics"
SPEC = TINY[NAME].spec
pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ...]]:
    return TINY[NAME].write(tmp_path_factory.mktemp("tiny"))


def store(files: dict[str, tuple[Path, ...]], physics: Path | None = None) -> Store:
    chosen = {role: paths[0] for role, paths in files.items()} | ({"physics": physics} if physics else {})
    return Store(overrides={(NAME, "tiny", role): path for role, path in chosen.items()})


def told(physics: Path, folder: Path, **description: Any) -> Path:
    """A copy of a checkpoint whose description says something else."""
    folder.mkdir()
    shutil.copy(physics, folder / physics.name)
    content = json.loads((physics.parent / SETTINGS).read_text(encoding="utf-8")) | description
    (folder / SETTINGS).write_text(json.dumps(content), encoding="utf-8")
    return folder / physics.name


@pytest.mark.parametrize(
    ("description", "taken"),
    [
        ({"force": {"kinds": ["point", "wind"]}}, ("point", "wind")),
        ({"force": {"kinds": ["wind"]}}, ("wind",)),
        ({"force": None}, ()),
        ({"force": {"kinds": "point"}}, ()),
        ({"force": {"kinds": [1, "point"]}}, ("point",)),
        ({"force": ["point"]}, ()),
    ],
)
def test_a_checkpoint_says_which_forces_it_takes(
    files: dict[str, tuple[Path, ...]], description: dict[str, Any], taken: tuple[str, ...], tmp_path: Path
) -> None:
    physics = told(files["physics"][0], tmp_path / "told", **description)
    assert forces([physics]) == forces([physics, physics.with_name(SETTINGS)]) == taken
    # The same in the metadata of one file that holds everything.
    one = tmp_path / "one.safetensors"
    content = json.loads(physics.with_name(SETTINGS).read_text(encoding="utf-8"))
    save_file(load_file(physics), one, metadata={FACTS_KEY: json.dumps({FACT: content})})
    assert forces([one]) == taken


def test_files_that_say_nothing_take_none(tmp_path: Path) -> None:
    (tmp_path / "physics.safetensors").write_bytes(b"nonsense")
    assert forces([tmp_path / "physics.safetensors"]) == forces([tmp_path / "gone"]) == forces([]) == ()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"picture": None}, 'Force is said of "First picture": give that too, or leave it out.'),
        ({"physics_scale": 0}, "raise Physics, or set Force to none"),
        ({"force": "push"}, "Force must be 'none', 'point' or 'wind'; you gave"),
        ({"force_x": 1.5}, "Force: across must be between 0 and 1; you gave 1.5"),
        ({"force_angle": -1}, "Force: angle must be between 0 and 360; you gave -1"),
        ({"model": "5B"}, "has no physics branch to feel a force"),
    ],
)
def test_a_force_that_cannot_be_is_refused_in_one_sentence(
    picture: Path, values: dict[str, Any], sentence: str
) -> None:
    asked = {"model": "tiny", "prompt": "x", "force": "point", "picture": {"path": picture}} | values
    with pytest.raises(InvalidRequest) as refused:
        build_request(SPEC, asked)
    (problem,) = refused.value.problems
    assert sentence in problem.message


def test_a_checkpoint_without_it_refuses_a_force_before_anything_is_loaded(
    files: dict[str, tuple[Path, ...]], picture: Path, tmp_path: Path
) -> None:
    request = build_request(SPEC, {"model": "tiny", "force": "wind", "picture": {"path": picture}})
    usable_files(SPEC, request, store(files))
    points = told(files["physics"][0], tmp_path / "points", force={"kinds": ["point"]})
    with pytest.raises(InvalidRequest, match="not trained with a force of the kind wind: set Force to none"):
        usable_files(SPEC, request, store(files, points))
    usable_files(SPEC, request.model_copy(update={"force": "none"}), store(files, points))


def test_the_tool_is_seen_where_the_model_takes_a_force(idle: Studio, files: dict[str, tuple[Path, ...]]) -> None:
    idle = replace(idle, files=store(files), specs={**idle.specs, NAME: SPEC})
    with gr.Blocks(analytics_enabled=False):
        form = tab.render(idle, SPEC, browser=gr.BrowserState({})).form
    tool = form.control("force").tool
    assert tool.area.visible and [value for _, value in tool.kind.choices] == ["none", "point", "wind"]
    area, kind = force_tool.offered(idle, SPEC, "5B", "point")
    assert area["visible"] is False and kind["value"] == "none", "what cannot be seen is not asked for"
    area, kind = force_tool.offered(idle, SPEC, "tiny", "wind")
    assert area["visible"] is True and kind["value"] == "wind"
    assert force_tool.offered(idle, SPEC, ["nonsense"], None)[0]["visible"] is False
    assert form.read([one.value for one in form.components], names={"force"}) == {
        name: SPECS[NAME].request_type.model_fields[name].get_default() for name in ("force", *force_tool.NUMBERS)
    }


def test_settings_with_a_force_come_back_into_the_form(idle: Studio) -> None:
    with gr.Blocks(analytics_enabled=False):
        form = tab.render(idle, SPECS[NAME], browser=gr.BrowserState({})).form
    values = SPECS[NAME].default_values("5B-physics") | {"force": "point", "force_x": 0.2, "force_angle": 90.0}
    shown = form.show(values, names={"force"})
    tool = form.control("force").tool
    assert shown[tool.kind]["value"] == "point" and shown[tool.numbers["force_angle"]]["value"] == 90.0


def test_numbers_are_told_of_a_force_alone() -> None:
    spec = SPECS[NAME]
    for kind, seen in (("none", False), ("wind", True)):
        job = Job(engine=NAME, request=spec.default_values("starter") | {"force": kind, "prompt": "a ball"})
        labels = {row.label for row in panel.facts(spec, job)}
        titles = {spec.request_type.model_fields[name].title for name in force_tool.NUMBERS}
        assert (titles <= labels, bool(titles & labels)) == (seen, seen)
