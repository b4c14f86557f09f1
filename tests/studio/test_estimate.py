"""What a clip will take is said before it is made: on the page, to programs, on the command line; and is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.events import Clip
from engines.registry import SPECS
from studio import estimating
from studio.command_line import main
from studio.jobs.store import Job
from studio.jobs.worker_process import DeviceState
from studio.page import controls, estimate
from studio.page.api import Calls
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.test_machine import Devices

pytestmark = [*LOOPS_LEFT_OPEN, pytest.mark.usefixtures("roomy")]

GIB = 2**30
SMALL = DeviceState("cuda:0", "Small", int(7.3 * GIB), 8 * GIB, half="bfloat16")
TINY = DeviceState("cuda:0", "Tiny", 2 * GIB, 2 * GIB, half="bfloat16")
LARGE = DeviceState("cuda:0", "Large", 79 * GIB, 80 * GIB, half="bfloat16")


def on(studio: Studio, *states: DeviceState) -> Studio:
    return replace(studio, executor=Devices(*states), specs=SPECS)


def told(studio: Studio, engine: str = "flashi2v", **values: Any) -> estimating.Outlook:
    spec = SPECS[engine]
    request = estimating.request_of(spec, {"model": "1.3B", **values})
    assert request is not None
    found = studio.outlook(spec, request)
    assert found is not None
    return found


def test_green_amber_and_red_are_said_in_words(idle: Studio) -> None:
    green, amber, red = (told(on(idle, state)) for state in (LARGE, SMALL, TINY))
    assert [one.colour for one in (green, amber, red)] == ["green", "amber", "red"]
    assert green.sentence.startswith("Takes 17.") and "on the Large" in green.sentence
    assert "of RAM" in green.sentence and "time not known yet" in green.sentence and "To fit" not in green.sentence
    assert "the text encoder takes turns block by block" in amber.sentence and "in 4 strips" in amber.sentence
    assert red.sentence.startswith("Does not fit on the Tiny: for the ") and "may be used" in red.sentence
    assert green.disk_bytes > 17 * 10**9 and "17.6 GB of disk" in green.sentence, "what must be downloaded first"
    built_in = told(on(idle, LARGE), "phantom-wan", model="starter")
    assert 0 < built_in.disk_bytes < 10**6 and "disk" not in built_in.sentence


def test_the_smaller_clip_that_is_offered_fits(idle: Studio) -> None:
    studio = on(idle, replace(SMALL, title="Five", free_bytes=int(5.2 * GIB), total_bytes=int(5.4 * GIB)))
    found = told(studio, "phantom-wan", model="14B", width=1280, height=720, frames=121)
    assert found.colour == "red"
    assert found.smaller == {"width": 832, "height": 480, "frames": 73} and found.offer
    assert told(studio, "phantom-wan", model="14B", **found.smaller).colour != "red"
    medium = on(idle, replace(LARGE, title="Medium", free_bytes=19 * GIB, total_bytes=20 * GIB))
    large = told(medium, "phantom-wan", width=1280, height=720)
    assert (large.colour, large.offer) == ("amber", "832x480")
    assert told(medium, "phantom-wan", **large.smaller).colour == "green"


def test_a_stated_number_is_what_counts(idle: Studio) -> None:
    studio = on(idle, LARGE)
    studio.executor.allow({"cuda:0": 7.4})
    found = told(studio)
    assert found.estimate.allowed_bytes == 7_400_000_000 and found.colour == "amber"
    assert found.device_bytes <= 7_400_000_000


def test_what_was_measured_corrects_what_is_reckoned(idle: Studio) -> None:
    studio = on(idle, LARGE)
    before = told(studio)
    request = estimating.request_of(SPECS["flashi2v"], {"model": "1.3B"})
    assert request is not None
    (job,) = studio.store.add([Job(engine="flashi2v", request=request.model_dump(mode="json"))])
    studio.store.move(job.id, "running")
    measured = int(1.2 * before.device_bytes)
    names = {"video": "a.mp4", "sidecar": "a.json", "poster": "a.png"}
    clip = Clip(**names, request=dict(job.request), seconds={}, peak_bytes=measured, device=LARGE.title)
    studio.store.move(job.id, "done", result=clip)
    after = told(studio)
    assert after.device_bytes == pytest.approx(measured, rel=0.01) and after.factor == pytest.approx(1.2, rel=0.01)
    public = replace(studio, settings=replace(studio.settings, public=True))
    assert told(public).factor == 1.0, "strangers' clips say nothing"


@pytest.fixture
def drawn(idle: Studio) -> Iterator[tuple[Studio, controls.Controls]]:
    studio = on(idle, replace(LARGE, title="Medium", free_bytes=19 * GIB, total_bytes=20 * GIB))
    with gr.Blocks(analytics_enabled=False):
        column = controls.render(studio, SPECS["phantom-wan"])
    yield studio, column


def test_what_another_device_measured_corrects_nothing(idle: Studio) -> None:
    before = told(on(idle, LARGE))
    asked = estimating.request_of(SPECS["flashi2v"], {"model": "1.3B"}).model_dump(mode="json")
    for number, device in enumerate(("CPU", "", "Small")):
        (job,) = idle.store.add([Job(engine="flashi2v", request=asked)])
        idle.store.move(job.id, "running")
        made = Clip(
            video=f"{number}.mp4", sidecar="", poster="", request=asked, seconds={}, peak_bytes=60 * GIB, device=device
        )
        idle.store.move(job.id, "done", result=made)
    assert told(on(idle, LARGE)) == before


def test_memory_that_was_allowed_since_decides_how_many_share_a_clip(idle: Studio) -> None:
    two = [replace(LARGE, name=f"cuda:{index}") for index in range(2)]
    studio = on(replace(idle, settings=replace(idle.settings, split="auto")), *two)
    assert "each of" not in told(studio, "phantom-wan", model="14B").device
    studio.executor.allow({"": 24.0})
    since = told(studio, "phantom-wan", model="14B")
    assert "each of 1 more" in since.device
    after = replace(studio, settings=replace(studio.settings, memory_gb={"": 24.0}))
    assert told(after, "phantom-wan", model="14B") == since, "as after a restart"


def test_the_line_on_the_page_and_its_button(drawn: tuple[Studio, controls.Controls]) -> None:
    studio, column = drawn
    part = estimate.deciding(column.form)
    with gr.Blocks(analytics_enabled=False):
        shown = estimate.render("other")
    held = column.form.spec.default_values("1.3B") | {"width": 1280, "height": 720}
    raw = [value.get("value") if isinstance(value, dict) else value
           for control in part.controls for value in control.show(held, part.spec.model("1.3B"))]  # fmt: skip
    said = estimate.look(studio, part, shown, *raw)
    assert "amber" in said[shown.line] and "the autoencoder works in" in said[shown.line]
    assert said[shown.smaller]["value"] == "Use 832x480" and said[shown.smaller]["visible"]
    changes = estimate.shrink(part, said[shown.changes], *raw)
    assert changes[column.form.component("width")]["value"] == "832x480"
    typing = [*raw]
    typing[[*part.components].index(column.form.component("width"))] = "12"
    assert estimate.look(studio, part, shown, *typing)[shown.line] == ""


def test_programs_are_told_too(idle: Studio) -> None:
    answer = Calls(on(idle, SMALL)).estimate("flashi2v", {"model": "1.3B"})
    assert answer["verdict"] == "slower" and answer["device_bytes"] <= answer["allowed_bytes"]
    assert answer["plans"][0]["networks"] == [{"role": "text_encoder", "mode": "turns", "form": "bfloat16", "how": ""}]
    assert json.loads(json.dumps(answer)) == answer
    for settings in ({"model": "1.3B", "width": 17}, {"model": "none"}, {"frames": "many"}):
        with pytest.raises(gr.Error, match="No clip of this model"):
            Calls(on(idle, SMALL)).estimate("flashi2v", settings)


def test_the_command_line_says_it_and_makes_nothing(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = "torch" in sys.modules
    words = ["generate", "flashi2v", "--model", "1.3B", "--prompt", "it moves", "--ref", str(picture), "--dry-run"]
    code = main([*words, "--memory-gb", "16", "--device", "cpu"])
    said = capsys.readouterr().out
    assert code == 0 and said.startswith("Takes ") and "on the CPU" in said
    assert main([*words, "--memory-gb", "1.5", "--device", "cpu", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "refused" and answer["allowed_bytes"] == 1_500_000_000
    assert {path.name for path in tmp_path.iterdir()} <= {picture.name}
    assert ("torch" in sys.modules) == before
    assert main(words[:-1]) == 2 and "--dry-run" in capsys.readouterr().err
