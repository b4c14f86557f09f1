"""The Fast quality: offered where a step-distillation adapter fits the model, and one pass a step with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from safetensors.torch import load_file

from engines.adapters.fast import distillations, fast_values
from engines.loading.store import ASSETS
from engines.registry import SPECS
from engines.sampling import guidance
from studio.jobs.local import LocalExecutor
from studio.page import controls, quality
from studio.page.form import Form
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.engines.tiny_adapters import write
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN
SPEC = SPECS["phantom-wan"]
TRANSFORMER = ASSETS / "starter" / "wan_t2v.safetensors"


@pytest.fixture(scope="module")
def width() -> int:
    return int(load_file(TRANSFORMER)["blocks.0.attn1.to_q.weight"].shape[0])


@pytest.fixture
def folder(tmp_path: Path, width: int) -> Path:
    made = tmp_path / "loras"
    made.mkdir()
    for name, wide in (("wan_lightx2v_4steps", width), ("wan_turbo_8-step_14B", 5120), ("oil_painting", width)):
        layer = "diffusion_model.blocks.0.self_attn.q"
        factors = {f"{layer}.lora_down.weight": torch.ones(2, wide), f"{layer}.lora_up.weight": torch.ones(wide, 2)}
        write(made / f"{name}.safetensors", factors)
    (made / "dmd_notes.safetensors").write_text("no adapter")
    return made


def test_distillations_are_told_by_name_and_content(folder: Path, width: int) -> None:
    assert distillations(folder) == [
        ("wan_lightx2v_4steps.safetensors", 4, width),
        ("wan_turbo_8-step_14B.safetensors", 8, 5120),
    ]
    assert distillations(None) == []


def test_one_that_fits_sets_few_steps_and_one_pass(folder: Path) -> None:
    found = fast_values(SPEC, TRANSFORMER, folder)
    assert found == {
        "adapters": [{"path": "wan_lightx2v_4steps.safetensors"}],
        "steps": 4, "image_guidance": 1.0, "text_guidance": 1.0,
    }  # fmt: skip
    assert guidance.needed(guidance.subject(found["image_guidance"], found["text_guidance"])) == ["pos_it"]
    (folder / "wan_lightx2v_4steps.safetensors").unlink()
    assert fast_values(SPEC, TRANSFORMER, folder) is None, "one of another width is left"
    assert fast_values(SPEC, None, folder) is None


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_what_an_engine_declares_leaves_one_pass(spec: Any) -> None:
    for name, value in spec.one_pass.items():
        assert name in spec.request_type.model_fields and value == 1.0
    if "guidance" in spec.one_pass:
        assert guidance.needed(guidance.classifier_free(1.0)) == guidance.needed(guidance.text_weights(1.0)) == ["cond"]


@pytest.fixture
def studio(tmp_path: Path, folder: Path) -> Iterator[Studio]:
    made = open_studio(
        Settings(outputs=tmp_path / "out", devices=("cpu",), preload=False, adapters=folder), LocalExecutor
    )
    yield made
    made.store.close()


def drawn(studio: Studio) -> tuple[Form, Any]:
    with gr.Blocks():
        found = controls.render(studio, SPEC)
    return found.form, lambda model: studio.fast(SPEC, model)


def raw(form: Form, values: dict[str, Any]) -> list[Any]:
    """What the components hold for values."""
    updates = form.show(SPEC.default_values("starter") | values)
    held = [updates.get(component) for component in form.components]
    return [one.get("value") if isinstance(one, dict) else one for one in held]


def test_the_choice_puts_the_adapter_on_and_another_takes_it_off(studio: Studio) -> None:
    form, fast = drawn(studio)
    before = {"steps": 20, "image_guidance": 4.0, "text_guidance": 3.0}
    updates = quality._switch(form, fast, quality.FAST, *raw(form, before))
    table = form.control("adapters").components[1]
    assert [row[0] for row in updates[table]["value"]] == ["wan_lightx2v_4steps.safetensors"]
    assert updates[form.component("steps")]["value"] == 4
    assert updates[form.component("text_guidance")]["value"] == 1.0
    quick = {
        "adapters": [{"path": "wan_lightx2v_4steps.safetensors"}],
        "steps": 4,
        "image_guidance": 1.0,
        "text_guidance": 1.0,
    }
    updates = quality._switch(form, fast, "Standard", *raw(form, quick))
    assert updates[table]["value"] == [] and updates[form.component("text_guidance")]["value"] == 3.0


def test_the_choices_follow_the_form(studio: Studio) -> None:
    form, fast = drawn(studio)
    values = SPEC.default_values("starter")
    quick = values | fast("starter")
    assert quality._choices(SPEC, "starter", values, fast) == {
        "choices": ["Fast", "Draft", "Standard", "Best"], "value": "Standard",
    }  # fmt: skip
    assert quality._choices(SPEC, "starter", quick, fast)["value"] == "Fast"
    assert quality._choices(SPEC, "starter", quick | {"steps": 9}, fast)["value"] is None
    assert "Fast" not in quality._choices(SPEC, "starter", values, lambda model: None)["choices"]
    told = Form(SPEC, [one for one in form.controls if not quality._DECIDE.isdisjoint(one.names)])
    shown = quality._now(told, fast, *raw(told, dict(fast("starter"))))
    assert shown["value"] == "Fast"
    without = replace(studio, settings=replace(studio.settings, adapters=None))
    assert without.fast(SPEC, "starter") is None
