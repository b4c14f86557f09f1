"""Frames of a clip sent to the tabs, and its quality figures, on a clip that a worker process has made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from engines.inputs import media_fields
from engines.media.quality import Quality
from engines.media.video import read_frame
from engines.registry import SPECS
from studio.jobs.store import Job
from studio.page import clip_quality, first_frame, panel, send
from studio.page.form import Form
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for
from tests.studio.test_fields import rendered

pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawing") / "disc.png"
    image = Image.new("RGB", (60, 48), "white")
    image.paste("red", (15, 9, 45, 39))
    image.save(path)
    return path


@pytest.fixture(scope="module")
def made(studio: Studio, drawing: Path) -> Job:
    """A finished clip of nine frames that slides two pixels a frame."""
    (job,) = studio.submit("phantom-wan", values(drawing))
    return wait_for(studio, job, "done")


@pytest.fixture(scope="module")
def forms(studio: Studio) -> dict[str, Form]:
    return {name: rendered(studio, SPECS[name]) for name in ("phantom-wan", "flashi2v")}


def sending(studio: Studio, form: Form, *, clip: str) -> Callable[..., Any]:
    """(frame, what the form's pictures hold) -> what the page holds after the frame of a clip was sent there."""
    deliver = send.deliver(studio, form.spec.name, [form])
    return lambda frame, *raw: deliver({}, clip, frame, form.spec.name, *raw)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("frame", [1, 4, 9])
def test_any_frame_becomes_the_picture_of_image_to_video(
    studio: Studio, made: Job, forms: dict[str, Form], frame: int
) -> None:
    declared = media_fields(SPECS["flashi2v"].request_type)["picture"]
    tabs, path, position = sending(studio, forms["flashi2v"], clip=made.id)(frame, None, 80)
    assert tabs["selected"] == "flashi2v"
    assert position == 50
    assert np.array_equal(pixels(path), read_frame(Path(made.result.video), frame - 1))
    assert first_frame.read([{"path": path}, position], declared), "the page takes it as it takes an upload"


def test_the_newest_clip_can_be_gone_on_from(
    studio: Studio, made: Job, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = send.newest_clip(studio, {})
    assert Path(path).read_bytes() == Path(made.result.video).read_bytes() and Path(path) != Path(made.result.video)
    form = rendered(studio, SPECS["phantom-physics"])
    control = next(control for control in form.controls if "clip" in control.names)
    assert control.newest is not None
    assert control.read([{"path": path}, 50, 25]) == {"clip": {"path": path, "moment": 0.5, "frames": 25}}
    monkeypatch.setattr(studio.store, "finished", lambda **_: [])
    assert send.newest_clip(studio, {}) == gr.skip() and warned == ["There is no clip yet: make one first."]


def test_a_frame_goes_to_the_first_empty_slot(studio: Studio, made: Job, forms: dict[str, Form]) -> None:
    deliver = sending(studio, forms["phantom-wan"], clip=made.id)
    empty = [None, True, ""]
    (_, path, *_rest) = deliver(9, *empty * 4)
    full = [{"path": path}, True, ""]
    placed = deliver(9, *full, *empty, *full, *empty)[1:]
    assert [index for index, value in enumerate(placed) if isinstance(value, str) and value] == [3]


def test_full_slots_keep_their_pictures(studio: Studio, made: Job, forms: dict[str, Form], warned: list[str]) -> None:
    deliver = sending(studio, forms["phantom-wan"], clip=made.id)
    (_, path, *_rest) = deliver(9, *[None, True, ""] * 4)
    kept = deliver(9, *[{"path": path}, True, ""] * 4)
    assert kept == [gr.skip()] * 13
    assert warned == ["Every slot holds a picture: clear one first."]


def test_what_is_not_there_is_told(studio: Studio, made: Job, forms: dict[str, Form], warned: list[str]) -> None:
    assert sending(studio, forms["flashi2v"], clip="nobody's")(1, None, 50) == [gr.skip()] * 3
    assert sending(studio, forms["flashi2v"], clip=made.id)(500, None, 50) == [gr.skip()] * 3
    assert len(warned) == 1 and "has no frame 500" in warned[0] and "/" not in warned[0]


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))
    return told


def test_quality_is_measured_on_request_and_remembered(studio: Studio, made: Job) -> None:
    figures = clip_quality.Figures()
    assert figures.known(made) == []
    rows = figures.measure(SPECS["phantom-wan"], made)
    assert [row.label for row in rows] == ["Motion", "Flicker", "Colour"]
    assert figures.known(made) == rows
    assert clip_quality.Figures().known(made) == [], "another studio has figures of its own"
    figures.forget(made.id)
    assert figures.known(made) == []


def test_figures_of_a_few_hundred_clips_are_kept_at_most(made: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_quality, "_MOST_KNOWN", 2)
    figures, clips = clip_quality.Figures(), [replace(made, id=name) for name in ("a", "b", "c")]
    for clip in clips:
        figures.measure(None, clip)
    assert [bool(figures.known(clip)) for clip in clips] == [False, True, True]


def test_quality_tells_how_close_the_first_frame_is_to_its_picture(made: Job, drawing: Path) -> None:
    """The stand-in's clip begins with its picture fitted into the frame, so a crop to the frame resembles it less."""
    clip = {"width": made.request["width"], "height": made.request["height"], "fps": made.request["fps"]}
    frame = Image.fromarray(read_frame(Path(made.result.video), 0))
    frame.save(drawing.with_name("same.png"))
    rows = {}
    for name in ("same.png", "disc.png"):
        reference = {"path": str(drawing.with_name(name)), "position": 0.5}
        job = Job(engine="flashi2v", request=clip | {"picture": reference}, result=made.result, id=name)
        rows[name] = [row.value for row in clip_quality.Figures().measure(SPECS["flashi2v"], job)]
    assert "keeps your picture" in rows["same.png"]
    assert "keeps your picture" not in rows["disc.png"]


def test_figures_become_plain_words() -> None:
    good = {"first_frame_psnr": 33.0, "first_frame_ssim": 0.96, "motion": 5.0, "moves": True, "flicker": 0.8}
    bad = {"first_frame_psnr": 12.0, "first_frame_ssim": 0.2, "motion": 0.1, "moves": False, "flicker": 9.0}
    told = [
        [row.value for row in clip_quality.rows(Quality(**figures, drift=drift, chunk_seconds=0.5))]
        for figures, drift in ((good, (0.5, 2.0)), (bad, (0.5, 22.0)))
    ]
    assert told == [
        ["keeps your picture", "moves clearly", "steady", "colours stay"],
        ["is not your picture any more", "stands still", "flickers", "colours drift visibly"],
    ]


def test_facts_do_not_tell_where_pictures_are_kept(made: Job) -> None:
    request = SPECS["flashi2v"].default_values("starter") | {"picture": {"path": "/secret/a.png", "position": 0.5}}
    assert "secret" not in str(panel.facts(SPECS["flashi2v"], Job(engine="flashi2v", request=request)))
