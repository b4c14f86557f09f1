"""What a person is told of a model: whether it runs here, its licence, how to get it; and that the page follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engines.loading.store import Store
from engines.registry import SPECS
from engines.types import UNVERIFIED, EngineSpec, ModelSpec, Weights
from studio import models
from studio.command_line import main
from studio.jobs.worker_process import DeviceState
from studio.page import model_list
from studio.page.form import Form
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN
CPU = DeviceState("cpu", "CPU")
ALL = [(spec, model) for spec in SPECS.values() for model in spec.models]
NAMES = [f"{spec.name}/{model.name}" for spec, model in ALL]


@pytest.fixture
def empty(idle: Studio, tmp_path: Path) -> Studio:
    """A studio whose models folder is empty."""
    return replace(idle, files=Store(models=tmp_path / "models"))


def install(studio: Studio, model: ModelSpec) -> None:
    """Put files of the published names where a download would; nothing here reads them."""
    for weights in model.weights:
        for file in weights.files:
            path = studio.files.models / weights.repo / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


@pytest.mark.parametrize(("spec", "model"), ALL, ids=NAMES)
def test_the_licence_of_every_file_is_told(spec: EngineSpec, model: ModelSpec) -> None:
    line = models.licence(model)
    limited = [weights for weights in model.weights if weights.licence not in ("Apache-2.0", "MIT")]
    assert bool(line) == bool([weights for weights in model.weights if weights.repo])
    if limited:
        begins = ("Not free for every use", "The licence of its files could not be verified")
        assert line.startswith(begins) and all(weights.repo in line for weights in limited)
        assert not models.is_free(model)
    assert "\n" not in line


def test_the_sd3_family_stands_out(empty: Studio) -> None:
    spec = SPECS["pyramid-flow"]
    marked = {model.name for model in spec.models if 'class="licence"' in model_list.about(empty, spec, model.name)}
    assert marked == {model.name for model in spec.models if model.name.startswith("sd3")}
    note = model_list.about(empty, spec, min(marked))
    assert "Stability AI Community License" in note and "huggingface.co/rain1011/pyramid-flow-sd3" in note


def test_several_licences_are_one_line(empty: Studio) -> None:
    weights = [
        Weights(role, ("a",), f"someone/{role}", licence=licence)
        for role, licence in (("a", "Apache-2.0"), ("b", UNVERIFIED), ("c", "openrail"), ("d", "openrail"))
    ]
    line = models.licence(replace(SPECS["phantom-wan"].model("1.3B"), weights=tuple(weights)))
    assert "verified: read it at huggingface.co/someone/b first" in line
    assert "under the openrail. Read at huggingface.co/someone/c and huggingface.co/someone/d" in line


def test_a_limited_licence_is_told_before_a_download(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = next(model.name for model in SPECS["pyramid-flow"].models if model.name.startswith("sd3"))
    assert main(["models", "--download", f"pyramid-flow/{name}", "--models", str(tmp_path)]) != 0
    errors = capsys.readouterr().err
    assert errors.index("Stability AI Community License") < errors.index("cannot be downloaded")


def test_a_missing_model_says_how_to_get_it(empty: Studio) -> None:
    spec = SPECS["phantom-wan"]
    note = model_list.about(empty, spec, "1.3B")
    assert "not installed: " in note and "python -m studio models --download phantom-wan/1.3B" in note
    public = replace(empty, settings=replace(empty.settings, public=True))
    assert "python -m" not in model_list.about(public, spec, "1.3B"), "a visitor cannot install anything"
    assert model_list.about(empty, spec, "<b>") == ""


@pytest.mark.parametrize("devices", [[], [CPU], [CPU, DeviceState("cuda:0", "Tiny", total_bytes=2**31)]])
def test_what_this_machine_lacks_is_told_once_it_is_known(empty: Studio, devices: list[DeviceState]) -> None:
    spec = SPECS["phantom-wan"]
    model = spec.model("14B")
    words = {0: "", 1: "there is none here", 2: "the largest here has 2 GB"}[len(devices)]
    missing = models.availability(spec, model, files=empty.files, devices=devices)
    install(empty, model)
    here = models.availability(spec, model, files=empty.files, devices=devices)
    assert words in missing.reason and bool(here.warning) == bool(devices) and words in here.warning
    assert here.runnable


def test_the_list_follows_the_files(empty: Studio) -> None:
    spec = SPECS["phantom-wan"]
    with gr.Blocks(analytics_enabled=False):
        listed = model_list.render(empty, Form(spec), "starter")
        follower = model_list.Follower(empty, [listed])
    assert any("not installed" in label for label, _ in listed.chosen.choices)
    first = follower.look({}, "1.3B")
    seen = first[follower.seen]
    assert follower.look(seen, "1.3B") == gr.skip(), "nothing new"

    install(empty, spec.model("1.3B"))
    now = follower.look(seen, "1.3B")
    assert ("Phantom-Wan 1.3B", "1.3B") in now[listed.chosen]["choices"]
    assert "not installed" not in now[listed.note]
    assert "value" not in now[listed.chosen], "what is chosen stays chosen"
    assert follower.look(now[follower.seen], "1.3B") == gr.skip()
