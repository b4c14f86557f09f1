"""Presets: kept whole, found again, read like anything from outside; on the page, the command line and in a batch."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.errors import InvalidRequest, StudioError
from engines.inputs import media_fields
from engines.registry import SPECS
from studio import batch, presets
from studio.command_line import main, parser
from studio.commands.asked import values_of
from studio.page import engine_tabs, preset_row
from studio.page.engine_tabs import EngineTab
from studio.page.visitor import visitor
from studio.presets import Presets
from studio.service import Studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.test_doors import run

pytestmark = LOOPS_LEFT_OPEN

PHANTOM = SPECS["phantom-wan"]
NIGHT = {"model": "14B", "steps": 33, "width": 832, "height": 480, "frames": 49, "seed": 7, "negative_prompt": "blur"}


@pytest.fixture
def kept(tmp_path: Path) -> Presets:
    return presets.of(Settings(outputs=tmp_path / "outputs"))


def write(kept: Presets, content: Any) -> None:
    kept.path.parent.mkdir(parents=True, exist_ok=True)
    kept.path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("engine", sorted(SPECS))
def test_every_setting_of_every_engine_comes_back_and_no_file_does(engine: str, kept: Presets) -> None:
    spec = SPECS[engine]
    for model in spec.models:
        values = spec.default_values(model.name) | {"model": model.name, "prompt": "a fox", "seed": 5}
        kept.save(spec, model.name, values)
        found = kept.taken(spec, model.name)
        assert found.sentence == ""
        files = set(media_fields(spec.request_type)) - set(media_fields(spec.request_type, "adapter"))
        assert not files & found.values.keys()
        assert {name: values[name] for name in presets.fields(spec)} == {
            name: tuple(value) if isinstance(value, list) else value for name, value in found.values.items()
        }


def test_a_preset_without_a_prompt_leaves_the_prompt_alone(kept: Presets) -> None:
    for engine, said in (("phantom-wan", {"prompt"}), ("pyramid-flow", {"prompt", "storyboard"})):
        spec = SPECS[engine]
        assert presets.texts(spec) == said
        kept.save(spec, "plain", {"model": spec.models[0].name, "steps": 3})
        assert not said & kept.taken(spec, "plain").values.keys()


def test_names_are_one_whatever_their_case_and_nothing_is_replaced_unasked(kept: Presets) -> None:
    assert kept.save(PHANTOM, "  At   night ", NIGHT) == "At night"
    for other in ("at night", "AT NIGHT"):
        with pytest.raises(InvalidRequest, match='There is a preset "At night" already'):
            kept.save(PHANTOM, other, NIGHT | {"steps": 1})
    assert kept.taken(PHANTOM, "at night").values["steps"] == 33
    kept.save(PHANTOM, "at night", NIGHT | {"steps": 1}, instead="At night")
    assert kept.names("phantom-wan") == ["at night"] and kept.taken(PHANTOM, "At night").values["steps"] == 1
    kept.save(PHANTOM, "Day", NIGHT)
    with pytest.raises(InvalidRequest, match='There is a preset "Day" already'):
        kept.rename(PHANTOM, "at night", "day")
    assert kept.rename(PHANTOM, "at night", "At Night") == "At Night", "its own name in other letters"
    assert kept.names("phantom-wan") == ["At Night", "Day"] and kept.names("bindweave") == []
    kept.delete(PHANTOM, "day")
    kept.delete(PHANTOM, "day")
    assert kept.names("phantom-wan") == ["At Night"]
    with pytest.raises(InvalidRequest, match='did you mean "At Night"'):
        kept.taken(PHANTOM, "At Nigt")


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b", "a\u202eb", "\ud800"])
def test_a_name_that_nobody_could_read_is_refused(kept: Presets, name: str) -> None:
    with pytest.raises(InvalidRequest):
        kept.save(PHANTOM, name, NIGHT)
    assert not kept.path.exists()


@pytest.mark.parametrize("odd", [{"steps": 9_999}, {"steps": "many"}, {"seed": -7}, {"fps": True}, {"prompt": 3}])
def test_a_value_that_no_clip_can_have_is_not_kept(kept: Presets, odd: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        kept.save(PHANTOM, "odd", NIGHT | odd)
    assert not kept.path.exists()


def test_what_another_version_wrote_is_taken_as_far_as_it_goes_and_the_rest_is_named(kept: Presets) -> None:
    held = NIGHT | {"old_knob": 3, "steps": 9_999, "references": [{"path": "/etc/passwd"}], "continues": "x"}
    write(kept, {"version": 1, "presets": {"phantom-wan": {"old": held, "gone": {"model": "99B", "steps": 4}}}})
    found = kept.taken(PHANTOM, "old")
    assert found.values["frames"] == 49 and found.values["seed"] == 7 and found.values["model"] == "14B"
    assert found.values["steps"] == PHANTOM.default_values("14B")["steps"]
    assert "passwd" not in str(found.values) and "references" not in found.values
    for word in ("old_knob", "references", "Steps"):
        assert word in found.sentence
    gone = kept.taken(PHANTOM, "gone")
    assert "Model" in gone.sentence and gone.values["steps"] == 4
    many = {f"knob {number}": number for number in range(5_000)}
    write(kept, {"version": 1, "presets": {"phantom-wan": {"many": many}}})
    assert len(kept.taken(PHANTOM, "many").sentence) < 300


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", '{"presets": 3}', '{"presets": {"phantom-wan": []}}', "[" * 100_000, "\ufeff{",
     '{"presets": {"phantom-wan": {"x": 3}}}', '{"presets": {"phantom-wan": {"": {}}}}', '{"version": "1"}',
     '{"other": 1}', '{"presets": {"phantom-wan": {"' + "x" * 61 + '": {}}}}', " " * 2_000_001],
    ids=range(15),
)  # fmt: skip
def test_a_damaged_file_is_said_and_never_written_over(kept: Presets, content: str) -> None:
    write(kept, content)
    for act in (
        lambda: kept.names("phantom-wan"),
        lambda: kept.taken(PHANTOM, "x"),
        lambda: kept.save(PHANTOM, "x", NIGHT),
        lambda: kept.delete(PHANTOM, "x"),
    ):
        with pytest.raises(StudioError) as told:
            act()
        assert "presets.json" in str(told.value) and str(kept.path.parent) not in str(told.value)
    assert kept.path.read_text(encoding="utf-8") == content


def test_a_newer_file_is_said_and_left(kept: Presets) -> None:
    write(kept, {"version": 2, "presets": "something else"})
    with pytest.raises(StudioError, match="newer version"):
        kept.save(PHANTOM, "x", NIGHT)


def test_the_file_stays_whole_when_the_disk_is_full(kept: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.save(PHANTOM, "one", NIGHT)
    before = kept.path.read_bytes()

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StudioError, match="could not be kept: no space left"):
        kept.save(PHANTOM, "two", NIGHT)
    assert kept.path.read_bytes() == before and [*kept.path.parent.iterdir()] == [kept.path]


def test_there_is_an_end_to_how_much_is_kept(kept: Presets) -> None:
    small = replace(kept, most_bytes=3_000)
    with pytest.raises(StudioError, match="no room"):
        for number in range(30):
            small.save(PHANTOM, f"number {number}", NIGHT)
    assert small.names("phantom-wan")
    write(kept, {"version": 1, "presets": {"phantom-wan": {str(number): {} for number in range(presets.MOST)}}})
    with pytest.raises(StudioError, match="delete one first"):
        kept.save(PHANTOM, "one more", NIGHT)
    kept.save(PHANTOM, "0", NIGHT, instead="0")


def test_strangers_keep_their_own_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Settings(outputs=tmp_path / "outputs", public=True)
    one, other = (presets.of(shared, letter * 32) for letter in "ab")
    one.save(PHANTOM, "mine", NIGHT)
    assert other.names("phantom-wan") == [] and one.path.parent == other.path.parent
    assert presets.of(shared, "../../x").path.parent == one.path.parent
    monkeypatch.setattr(presets, "MOST_VISITORS", 1)
    with pytest.raises(StudioError, match="as many presets as it may"):
        presets.of(shared, "c" * 32).save(PHANTOM, "x", NIGHT)
    one.save(PHANTOM, "more", NIGHT)
    presets.forget_old(shared, before=time.time() - 60)
    assert one.names("phantom-wan") == ["mine", "more"]
    presets.forget_old(shared, before=time.time() + 60)
    assert one.names("phantom-wan") == []


def test_adapters_go_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "style.safetensors").touch()
    kept = Presets(tmp_path / "presets.json", adapters=folder)
    given = {"path": "style.safetensors", "strength": 0.5, "begin": 0.0, "end": 1.0}
    kept.save(PHANTOM, "styled", {"adapters": [given]})
    assert kept.taken(PHANTOM, "styled").values["adapters"] == [given]
    assert kept.for_request(PHANTOM, "styled").values["adapters"][0]["path"] == folder / "style.safetensors"
    kept.save(PHANTOM, "gone", {"adapters": [given | {"path": "../../gone.safetensors"}]})
    with pytest.raises(InvalidRequest, match="folder of adapters"):
        kept.for_request(PHANTOM, "gone")


def test_flags_go_before_a_preset(
    kept: Presets, nothing_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINORA_OUTPUTS", str(kept.path.parent.parent))
    write(kept, {"version": 1, "presets": {"phantom-wan": {"night": NIGHT | {"old_knob": 1}}}})
    words = ["generate", "phantom-wan", "--preset", "Night", "--prompt", "a fox", "--set", "steps=5", "--seed", "9"]
    values = values_of(PHANTOM, parser().parse_args(words))
    assert (values["steps"], values["seed"], values["prompt"]) == ("5", "9", "a fox")
    assert (values["model"], values["frames"], values["negative_prompt"]) == ("14B", 49, "blur")
    assert "Note: Not taken" in capsys.readouterr().err
    assert main(["generate", "phantom-wan", "--preset", "day", "--prompt", "x", "--dry-run"]) == 2
    assert 'has no preset "day" here: there are night.' in capsys.readouterr().err


def test_a_preset_makes_a_clip_and_lines_of_a_batch(kept: Presets, tmp_path: Path, picture: Path) -> None:
    kept.save(PHANTOM, "short", {"model": "starter", "frames": 5, "steps": 3, "seed": 4})
    outputs = {"KINORA_OUTPUTS": str(kept.path.parent.parent)}
    words = ["generate", "phantom-wan", "--preset", "short", "--prompt", "slides", "--ref", str(picture)]
    done = run(*words, "--device", "cpu", "--out", "clip.mp4", "--json", cwd=tmp_path, **outputs)
    assert done.returncode == 0, done.stderr
    asked = json.loads(done.stdout)["request"]
    assert (asked["frames"], asked["steps"], asked["seed"]) == (5, 3, 4)

    line = {"engine": "phantom-wan", "preset": "short", "prompt": "slides", "references": [str(picture)]}
    lines = [line, line | {"frames": 9}, line | {"preset": "shrt"}, line | {"preset": 3}]
    file = tmp_path / "batch.jsonl"
    file.write_text("\n".join(map(json.dumps, lines[:2])), encoding="utf-8")
    one, two = batch.read(file, tmp_path, kept)
    assert (one.request.frames, two.request.frames, two.request.steps) == (5, 9, 3)
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    with pytest.raises(InvalidRequest) as refused:
        batch.read(file, tmp_path, kept)
    first, second = (problem.message for problem in refused.value.problems)
    assert first.startswith("Line 3: ") and 'did you mean "short"' in first and second.startswith("Line 4: ")


@pytest.fixture
def drawn(idle: Studio) -> EngineTab:
    with gr.Blocks(analytics_enabled=False):
        return engine_tabs.render(idle, "Subject references", [idle.specs["phantom-wan"]], browser=gr.BrowserState({}))


class Person:
    """Somebody at the row of a form: presses its buttons as gradio would."""

    def __init__(self, drawn: EngineTab, studio: Studio, browser: Any = None) -> None:
        self.tab, self.browser = drawn.tabs["phantom-wan"], browser
        self.row, self.form = self.tab.controls.presets, self.tab.form
        self.bound = preset_row.Bound(self.row, studio, self.form, gr.BrowserState({}))
        self.held: dict[Any, Any] = {
            one: getattr(one, "value", None) for one in [*self.row.components, *self.form.components]
        }
        self.choices: list[Any] = []
        self.take(self.bound.look(browser, None))

    def take(self, updates: Any) -> None:
        for component, told in (updates if isinstance(updates, dict) else {}).items():
            shown = told if isinstance(told, dict) and "__type__" in told else {"value": told}
            if component is self.row.chosen and "choices" in shown:
                self.choices = shown["choices"]
            if "value" in shown:
                self.held[component] = shown["value"]

    def raw(self) -> list[Any]:
        return [self.held[one] for one in self.form.components]

    def begin(self, question: str) -> None:
        self.take(self.bound.ask(question)(self.held[self.row.chosen]))

    def answer(self, name: str | None = None, *, with_prompt: bool = False) -> str:
        if name is not None:
            self.held[self.row.name] = name
        row = self.row
        chosen, asking, called = (self.held[one] for one in (row.chosen, row.asking, row.name))
        self.take(self.bound.answer(self.browser, asking, chosen, called, with_prompt, *self.raw()))
        return str(self.held[row.said])

    def use(self, name: str) -> str:
        self.held[self.row.chosen] = name
        self.take(self.bound.use(self.browser, name))
        return str(self.held[self.row.said])

    def set(self, **values: Any) -> None:
        self.take(self.form.show(self.form.spec.default_values("starter") | values, names={*values}))

    def values(self) -> dict[str, Any]:
        return self.form.read(self.raw())


def test_a_form_is_kept_replaced_renamed_and_deleted(drawn: EngineTab, idle: Studio) -> None:
    person = Person(drawn, idle)
    assert person.choices == []
    person.set(steps=11, seed=3, prompt="a fox", frames=9)
    person.begin("save")
    assert "is kept" in person.answer("Quick & dirty")
    person.set(steps=2, seed=-1, prompt="a hen", frames=17)
    assert person.use("Quick & dirty") == ""
    assert person.values().items() >= {"steps": 11, "seed": 3, "prompt": "a hen", "frames": 9}.items()

    person.set(steps=12)
    person.begin("save")
    assert "replace it?" in person.answer("quick & DIRTY") and "&amp;" in person.held[person.row.said]
    assert person.held[person.row.yes] == "Replace"
    assert "replace it?" not in person.answer("Another", with_prompt=True), "another name was never asked about"
    assert person.choices == ["Another", "Quick & dirty"]
    person.begin("save")
    person.answer("quick & dirty")
    assert "is kept" in person.answer()
    assert person.choices == ["Another", "quick & dirty"]
    person.set(steps=1, prompt="x")
    person.use("Another")
    assert person.values().items() >= {"steps": 12, "prompt": "a hen"}.items()

    person.begin("rename")
    assert "choose another name" in person.answer("QUICK & DIRTY")
    person.answer("Slow")
    assert person.choices == ["quick & dirty", "Slow"] and person.held[person.row.chosen] == "Slow"
    person.begin("delete")
    assert "Delete the preset" in person.held[person.row.said]
    assert "is deleted" in person.answer()
    assert person.choices == ["quick & dirty"] and Person(drawn, idle).choices == ["quick & dirty"]
    assert presets.of(idle.settings).names("phantom-wan") == ["quick & dirty"], "it stands in the outputs folder"


def test_what_is_wrong_is_said_beside_the_row(drawn: EngineTab, idle: Studio) -> None:
    person = Person(drawn, idle)
    person.begin("save")
    assert "Write a name" in person.answer(" ")
    person.held[person.form.component("width")] = "wide"
    assert 'role="alert"' in person.answer("x")
    person.begin("delete")
    assert person.held[person.row.asking] == "", "nothing is chosen"
    assert "no preset" in person.use("<b>gone</b>") and "<b>" not in str(person.held[person.row.said])
    path = presets.of(idle.settings).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{", encoding="utf-8")
    assert "damaged" in str(Person(drawn, idle).held[person.row.said])


def test_visitors_of_a_shared_studio_see_their_own(idle: Studio) -> None:
    shared = replace(idle, settings=replace(idle.settings, public=True))
    with gr.Blocks(analytics_enabled=False):
        drawn = engine_tabs.render(shared, "Subject", [shared.specs["phantom-wan"]], browser=gr.BrowserState({}))
    one, other = (Person(drawn, shared, visitor(shared, None)) for _ in range(2))
    one.begin("save")
    one.answer("mine")
    assert one.choices == ["mine"] and Person(drawn, shared, one.browser).choices == ["mine"]
    assert Person(drawn, shared, other.browser).choices == []
    assert "no preset" in other.use("mine")
