"""Adapters at the studio's doors: names in its folder become files, and nothing else of the machine does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.errors import InvalidRequest
from engines.inputs import media_fields, with_parts
from engines.registry import SPECS
from engines.validation import build_request
from studio import adapters, command_line
from studio.commands import asked
from studio.page import adapter_list, controls
from studio.page.form import Form
from studio.service import Studio
from studio.settings import Settings
from tests.engines import tiny_wan
from tests.engines.tiny_adapters import plain
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN
SPEC = SPECS["phantom-wan"]
DECLARED = media_fields(SPEC.request_type)["adapters"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loras" / "wan").mkdir(parents=True)
    plain(tmp_path / "loras" / "wan" / "style.safetensors", tiny_wan.transformer())
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    return tmp_path / "loras"


def test_the_folder_is_named_or_lies_among_the_models(tmp_path: Path) -> None:
    assert Settings(outputs=tmp_path).adapter_folder is None
    models = Settings(outputs=tmp_path, models=tmp_path / "models")
    assert models.adapter_folder == tmp_path / "models" / "adapters"
    named = Settings(outputs=tmp_path, models=tmp_path / "models", adapters=tmp_path / "loras")
    assert named.adapter_folder == tmp_path / "loras"


def test_names_become_files_of_the_folder(folder: Path) -> None:
    path = folder / "wan" / "style.safetensors"
    for given in ("wan/style.safetensors", {"path": "wan/style.safetensors"}, [{"path": str(path)}], [{"path": path}]):
        (entry,) = adapters.resolved(folder, SPEC, {"adapters": given})["adapters"]
        assert entry == {"path": path}
    (entry,) = adapters.resolved(folder, SPEC, {"adapters": [{"path": "wan/style.safetensors", "end": 0.5}]})[
        "adapters"
    ]
    assert entry == {"path": path, "end": 0.5}
    assert adapters.resolved(folder, SPEC, {"prompt": "x"}) == {"prompt": "x"}
    assert adapters.resolved(None, SPEC, {"adapters": ()}) == {"adapters": []}


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "wan/../../secret.safetensors", "none.safetensors", "{tmp}/secret.safetensors"]
)
def test_nothing_else_of_the_machine_is_reached(folder: Path, name: str) -> None:
    given = name.format(tmp=folder.parent)
    with pytest.raises(InvalidRequest) as refused:
        adapters.resolved(folder, SPEC, {"adapters": [{"path": given}]})
    (problem,) = refused.value.problems
    assert problem.field == "adapters" and "in the folder of adapters" in problem.message
    assert str(folder.parent) not in problem.message


def test_without_a_folder_it_is_said_how_to_have_one(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="start it with --adapters"):
        adapters.resolved(None, SPEC, {"adapters": "style.safetensors"})


def test_values_pass_through_the_page_unchanged(folder: Path) -> None:
    given = [
        {"path": folder / "wan" / "style.safetensors", "strength": 0.75, "begin": 0.25, "end": 1.0},
        {"path": folder / "wan" / "style.safetensors", "strength": -1.0, "begin": 0.0, "end": 0.25},
    ]
    with gr.Blocks():
        drawn = adapter_list.render("x", DECLARED, label="A", help_="b", adapters=given, folder=folder)
    files, table = drawn.show(given)
    assert files["value"] == ["wan/style.safetensors"] and table["visible"]
    names = [one | {"path": "wan/style.safetensors"} for one in given]
    assert drawn.read([files["value"], table["value"]]) == tuple(names)
    assert adapters.resolved(folder, SPEC, {"adapters": names})["adapters"] == given


@pytest.mark.parametrize("table", [None, 7, "x", [], [[]], [[None]], [["", 1, 0, 100]], {"data": 1}, [[3, 1, 0, 100]]])
def test_a_table_of_nonsense_is_no_adapter(table: Any) -> None:
    with gr.Blocks():
        drawn = adapter_list.render("x", DECLARED, label="A", help_="b", adapters=(), folder=None)
    assert drawn.read([["a"], table]) == ()


def test_cells_that_are_no_numbers_are_the_part_s_default() -> None:
    with gr.Blocks():
        drawn = adapter_list.render("x", DECLARED, label="A", help_="b", adapters=(), folder=None)
    table = [["a", "0.5", "nan", 150], ["b", None, 50, "60"]]
    assert list(drawn.read([[], table])) == [
        {"path": "a", "strength": 0.5, "begin": 0.0, "end": 1.0},
        {"path": "b", "strength": 1.0, "begin": 0.5, "end": 0.6},
    ]


def test_list_and_table_follow_each_other() -> None:
    with gr.Blocks():
        drawn = adapter_list.render("x", DECLARED, label="A", help_="b", adapters=(), folder=None)
    rows = [["a", 0.5, 0, 50], ["a", 1, 50, 100]]
    shown = drawn._follow_list(["a", "b"], rows)
    assert shown["value"] == [*rows, ["b", 1.0, 0, 100]] and shown["visible"]
    assert drawn._follow_list([], rows)["visible"] is False
    assert drawn._follow_table([["b", 1, 0, 100], ["b", 1, 0, 100]])["value"] == ["b"]


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_every_engine_s_tab_has_them_folded_away(idle: Studio, spec: Any) -> None:
    with gr.Blocks():
        form: Form = controls.render(idle, spec).form
    (control,) = [one for one in form.controls if "adapters" in one.names]
    assert [type(component).__name__ for component in control.components] == ["Dropdown", "Dataframe"]
    assert control.read([[], []]) == {"adapters": ()}


def test_the_command_line_takes_files_names_strengths_and_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINORA_ADAPTERS", str(folder))
    path = folder / "wan" / "style.safetensors"
    options = command_line.parser().parse_args(
        ["generate", "phantom-wan", "--out", "x.mp4", "--adapter", str(path), "-0.5", "0.2-0.8", "--set",
         f"adapters={path}", "--adapter", "wan/style.safetensors", "--set", "adapters.1.strength=0.3"]
    )  # fmt: skip
    values = SPEC.default_values("starter") | asked.values_of(SPEC, options) | {"references": []}
    values |= {"prompt": "a red star", "references": [{"path": Path("assets/examples/none.png")}]}
    with pytest.raises(InvalidRequest, match=r"none\.png"):  # the picture is all that is wrong
        build_request(SPEC, values)
    assert values["adapters"] == [
        {"path": str(path)},
        {"path": str(path), "strength": "-0.5", "begin": "0.2", "end": "0.8"},
        {"path": str(path)},
    ]
    held = SPEC.request_type.model_validate(with_parts(SPEC.request_type, values) | {"model": "starter"}).adapters
    assert [(one.strength, one.begin, one.end) for one in held] == [(0.3, 0, 1), (-0.5, 0.2, 0.8), (1, 0, 1)]
