"""Settings changed on the page: what may be, what is refused, what stands in the file then, and when it counts."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.errors import InvalidRequest, StudioError
from studio import changing
from studio.page.machine import Machine
from studio.page.settings_tab import SettingsTab
from studio.service import Studio
from studio.settings import BadSetting, from_environment
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN

# What a person writes or chooses on the page, and what then stands in the file.
WRITTEN: dict[str, tuple[Any, Any]] = {
    "outputs": ("clips", "clips"),
    "models": ("models", "models"),
    "adapters": ("~/styles", "~/styles"),
    "devices": ("cpu, cpu", ["cpu", "cpu:1"]),
    "split": ("auto", "auto"),
    "memory_gb": ("cuda:0=8, cuda:1=20.5", {"cuda:0": 8, "cuda:1": 20.5}),
    "precision": ("half", "half"),
    "attention": ("torch", "torch"),
    "compile": ("auto", "auto"),
    "refiner": ("qwen-3b", "qwen-3b"),
    "metadata": (False, False),
    "language": ("zh", "zh"),
    "preload": (False, False),
    "offline": (True, True),
}


@pytest.fixture(autouse=True)
def folder(nothing_set: Path) -> Path:
    """The working folder, with one for models."""
    (nothing_set / "models").mkdir()
    return nothing_set


@pytest.fixture
def studio(idle: Studio, folder: Path) -> Studio:
    """A studio that was started with what the working folder says."""
    return replace(idle, settings=from_environment())


def in_file(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "kinora.toml").read_text(encoding="utf-8"))


def test_every_setting_that_the_page_changes_gets_into_the_file_and_a_start_reads_it(
    studio: Studio, folder: Path
) -> None:
    assert {choice.source.setting for choice in changing.choices(studio.settings)} == set(WRITTEN)
    said = changing.change(studio, {name: value for name, (value, _) in WRITTEN.items()})
    assert said[0] == 'Saved in "kinora.toml".'
    assert said[1] == "Memory (GB) and Settings inside clips: from the next clip on."
    assert said[2] == "Language: once the page is loaded again."
    assert "Devices" in said[3] and said[3].endswith("once Kinora is started again.")
    assert in_file(folder) == {name: value for name, (_, value) in WRITTEN.items()}
    now = from_environment()
    assert (now.devices, now.metadata, now.offline, now.refiner) == (("cpu", "cpu:1"), False, True, "qwen-3b")
    assert set(now.origins.values()) == {"kinora.toml", "the working folder"}
    assert now.models == folder / "models" and now.outputs == folder / "clips"


def test_what_counts_at_once_is_told_to_the_executor(studio: Studio) -> None:
    changing.change(studio, {"memory_gb": "6.5", "metadata": False})
    assert studio.executor.limits() == {"": 6.5} and studio.executor._settings.metadata is False
    changing.change(studio, {"memory_gb": "", "metadata": True})
    assert studio.executor.limits() == {} and studio.executor._settings.metadata is True


def test_the_language_holds_at_once(studio: Studio, folder: Path) -> None:
    assert "Language: once the page is loaded again." in changing.change(studio, {"language": "zh"})
    assert studio.language.of("en") == "zh" and in_file(folder) == {"language": "zh"}
    changing.change(studio, {"language": "auto"})
    assert studio.language.of("en") == "en" and in_file(folder) == {}


def test_what_else_stands_in_the_file_stays_and_a_default_goes_out_of_it(studio: Studio, folder: Path) -> None:
    file = folder / "kinora.toml"
    text = '# mine\nport = 7999  # the usual one is taken\nattention = "torch"\n\n[memory_gb]\n"cuda:0" = 8\n'
    file.write_text(text, encoding="utf-8")
    studio = replace(studio, settings=from_environment())
    assert changing.change(studio, {"attention": "torch"}) == ["Nothing was changed."]
    assert file.read_text(encoding="utf-8") == text
    changing.change(studio, {"attention": "auto", "memory_gb": "12", "metadata": False})
    assert in_file(folder) == {"port": 7999, "memory_gb": 12, "metadata": False}
    assert file.read_text(encoding="utf-8").startswith("# mine\nport = 7999  # the usual one is taken\n")


WRONG = {
    "memory_gb": ("lots", "Memory (GB) must be a number of gigabytes above 0"),
    "devices": ("gpu", "Devices must be cpu, mps, cuda"),
    "models": ("nowhere", 'Models: The models folder "nowhere" is not there.'),
    "outputs": ("taken", 'Clips: "taken" is a file, not a folder.'),
    "attention": ("sage", "Attention: "),
    "compile": ("always", "Compile must be off, auto or on"),
    "split": ("best", "Several devices must be none"),
    "refiner": (7, "Refiner must be a text; you gave 7."),
    "preload": ("no", "Load ahead must be on or off; you gave "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_no_studio_could_start_with_is_one_sentence_and_nothing_is_written(
    name: str, studio: Studio, folder: Path
) -> None:
    (folder / "taken").touch()
    value, sentence = WRONG[name]
    with pytest.raises(InvalidRequest) as refused:
        changing.change(studio, {name: value, "metadata": False})
    (problem,) = refused.value.problems
    assert sentence in problem.message and str(folder) not in problem.message
    assert not (folder / "kinora.toml").exists() and studio.executor._settings.metadata is True


def test_a_file_that_cannot_be_used_or_written_is_one_sentence(studio: Studio, folder: Path) -> None:
    file = folder / "kinora.toml"
    file.write_text("port = x", encoding="utf-8")
    with pytest.raises(BadSetting, match="is no TOML"):
        changing.change(studio, {"metadata": False})
    assert file.read_text(encoding="utf-8") == "port = x"
    file.unlink()
    file.symlink_to(folder / "gone" / "kinora.toml")
    with pytest.raises(BadSetting, match=r"cannot be (read|written)"):
        changing.change(studio, {"metadata": False})


def test_what_a_flag_or_a_variable_says_goes_before_the_file_and_is_only_shown(
    studio: Studio, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINORA_METADATA", "0")
    studio = replace(studio, settings=from_environment(attention="torch"))
    fixed = {one.source.setting: one for one in changing.choices(studio.settings) if one.fixed_by}
    assert {name: (one.fixed_by, one.value) for name, one in fixed.items()} == {
        "attention": ("--attention", "torch"), "metadata": ("KINORA_METADATA", False),
    }  # fmt: skip
    assert changing.change(studio, {"attention": "auto", "metadata": True}) == ["Nothing was changed."]
    assert not (folder / "kinora.toml").exists()


@pytest.mark.parametrize("reached", [{"host": "0.0.0.0"}, {"names": ("studio.example",)}, {"root_path": "/kinora"}])
def test_folders_are_changed_and_shown_whole_only_to_who_sits_at_the_machine(
    reached: dict, studio: Studio, folder: Path
) -> None:
    known = {"password": "x"} | reached
    more = (folder / "more", folder / "others")
    told = {"models": folder / "models", "more_models": more} | known
    away = replace(studio, settings=replace(studio.settings, **told))
    assert {"outputs", "models", "adapters"}.isdisjoint(one.source.setting for one in changing.choices(away.settings))
    assert changing.change(away, {"outputs": "elsewhere"}) == ["Nothing was changed."]
    shown = {row.label: row.value for row in drawn(away)._shown()}
    assert (
        shown["Models"] == "models"
        and shown["More models"] == "more, others"
        and str(folder) not in "".join(shown.values())
    )
    assert "x" not in shown["Password"]


def test_strangers_see_and_change_nothing_of_the_owners(studio: Studio, folder: Path) -> None:
    public = replace(studio, settings=replace(studio.settings, public=True))
    assert changing.choices(public.settings) == []
    with pytest.raises(StudioError, match="Strangers share this studio"):
        changing.change(public, {"metadata": False})
    tab = drawn(public)
    assert not tab.fields and not hasattr(tab.machine, "said")
    said = "".join(str(block.value) for block in tab.blocks if isinstance(block, gr.HTML))
    assert "a generator made it" in said and str(folder) not in said and "kinora.toml" not in said


def drawn(studio: Studio) -> SettingsTab:
    with gr.Blocks(analytics_enabled=False) as page, gr.Tabs(), gr.Tab("Settings") as opened:
        tab = SettingsTab(studio, Machine(studio))
        tab.render(opened)
    tab.blocks = list(page.blocks.values())
    return tab


def test_the_tab_saves_and_says_where_each_value_comes_from(studio: Studio, folder: Path) -> None:
    (folder / "kinora.toml").write_text('attention = "torch"\n', encoding="utf-8")
    studio = replace(studio, settings=from_environment(split="auto"))
    tab = drawn(studio)
    held = tab.open()
    assert str(folder / "kinora.toml") in held[tab.shown]
    written = [str(block.value) for block in tab.blocks if hasattr(block, "value")]
    assert not [text for text in written if str(folder) in text], "the page tells folders only when it is asked"
    infos = {name: held[field]["info"] for name, field in tab.fields.items()}
    assert infos["attention"].endswith("From kinora.toml.")
    assert infos["split"].endswith("Set by --split, which goes before the file.")
    assert infos["memory_gb"].endswith("Default.")
    assert not tab.fields["split"].interactive and tab.fields["attention"].interactive
    values = {name: held[field]["value"] for name, field in tab.fields.items()}
    shown = tab.save(*(values | {"attention": "auto", "metadata": False}).values())
    assert "Attention: once Kinora is started again." in shown[tab.said]
    assert shown[tab.fields["attention"]]["info"].endswith("Default, once Kinora is started again.")
    assert in_file(folder) == {"metadata": False}
    refused = tab.save(*(values | {"memory_gb": "<b>"}).values())
    assert "&lt;b&gt;" in refused[tab.said] and [*refused] == [tab.said]
