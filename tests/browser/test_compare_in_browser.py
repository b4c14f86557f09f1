"""Clips in step, in a real Chromium: every frame says its own number, so what is shown can be read from its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from engines.events import Clip
from engines.media.video import VideoWriter
from engines.registry import SPECS
from studio.jobs.store import Job
from studio.page import compare, ui

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

SHOWN = """element => element.videos.map(video => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    return Math.round(context.getImageData(10, 10, 1, 1).data[0] / 6);
})"""
STILL = "element => element.videos.every(video => video.paused && !video.seeking && video.readyState >= 2)"


def clip(folder: Path, name: str, *, frames: int, fps: int, first: int = 0, **request: object) -> Job:
    """A finished job whose frame n is a plain grey of 6 (first + n)."""
    video = folder / f"{name}.mp4"
    writer = VideoWriter(video, fps=fps, tags={})
    for index in range(frames):
        writer.write(np.full((1, 64, 96, 3), 6 * (first + index), dtype=np.uint8))
    writer.close()
    values = {"prompt": "a {{value}} ${value} <b>", "model": "starter", "width": 96, "height": 64, "frames": frames}
    values |= {"fps": fps, "seed": 7, "references": []} | request
    result = Clip(video=str(video), sidecar="", poster="", request=values, seconds={"total": 2}, peak_bytes=0)
    return Job(engine="phantom-wan", request=values, id=name, state="done", result=result)


@pytest.fixture(scope="module")
def compared(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """The element with three clips: 24 frames at 12 a second, as many that differ, and 12 frames at 6."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "served"))
        jobs = [
            clip(folder, "a", frames=24, fps=12),
            clip(folder, "b", frames=24, fps=12, first=5, seed=8),
            clip(folder, "c", frames=9, fps=6, seed=9),
        ]
        with gr.Blocks() as page:
            gr.HTML(compare.show(SPECS, jobs, ["plain"]))
        style = "\n".join((ui.HERE / name).read_text() for name in ui.STYLES)
        head = "".join(f"<script>{(ui.HERE / name).read_text()}</script>" for name in ui.SCRIPTS)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, css=style, head=head, _frontend=False)
        context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
        tab = context.new_page()
        tab.set_default_timeout(60_000)
        tab.goto(url)
        element = tab.locator("kinora-compare")
        element.locator(".position").wait_for()
        yield element
        context.close()
        page.close()


def frames(element) -> list[int]:
    """The number that each clip shows, once all stand still."""
    element.page.wait_for_function(STILL, arg=element.element_handle())
    element.page.wait_for_timeout(100)  # a seek is over a moment before the picture is there
    return element.evaluate(SHOWN)


def test_all_clips_stand_at_the_same_moment_wherever_they_are_brought(compared) -> None:
    assert frames(compared) == [0, 5, 0]
    compared.get_by_label("Frame", exact=True).fill("11")
    assert frames(compared) == [11, 16, 5]  # the third has half as many a second
    compared.get_by_label("One frame on").click()
    assert frames(compared) == [12, 17, 6]
    assert compared.locator(".position").inner_text() == "frame 13 of 24 · 1.08 s"
    compared.get_by_label("One frame back").click()
    compared.get_by_label("One frame back").click()
    assert frames(compared) == [10, 15, 5]
    compared.get_by_label("Frame", exact=True).fill("23")
    assert frames(compared) == [23, 28, 8]  # and is over, at its last frame
    compared.get_by_label("One frame on").click()
    assert frames(compared) == [23, 28, 8]


def test_they_play_and_stop_together(compared) -> None:
    compared.get_by_label("Frame", exact=True).fill("0")
    compared.get_by_label("Play all").click()
    compared.page.wait_for_function("element => element.frame > 4", arg=compared.element_handle())
    compared.get_by_label("Pause all").click()
    first, second, third = frames(compared)
    assert second == first + 5 and third == min(8, first // 2)
    compared.locator(".screens").click()  # anywhere in it, the keyboard works
    compared.get_by_label("Play all").focus()
    compared.page.keyboard.press("ArrowRight")
    assert frames(compared)[0] == min(23, first + 1)


def test_what_is_not_seen_does_not_play_and_what_plays_is_not_spoken(compared) -> None:
    compared.get_by_label("Play all").click()
    compared.page.wait_for_function("element => element.playing", arg=compared.element_handle())
    compared.evaluate("element => { element.parentElement.style.display = 'none'; }")
    compared.page.wait_for_function(
        "element => !element.playing && element.videos.every(video => video.paused)", arg=compared.element_handle()
    )
    compared.evaluate("element => { element.parentElement.style.display = ''; }")
    assert compared.locator("output, [role=status]").count() == 0


def test_where_they_differ_is_bright_and_the_rest_is_black(compared) -> None:
    compared.get_by_label("Frame", exact=True).fill("6")
    frames(compared)
    switch = compared.get_by_role("button", name="Show where each clip differs from A")
    switch.click()
    assert switch.get_attribute("aria-pressed") == "true"
    levels = compared.evaluate(
        "element => element.canvases.map(one => one.hidden ? null :"
        " one.getContext('2d').getImageData(10, 10, 1, 1).data[0])"
    )
    assert levels[0] is None
    assert abs(levels[1] - 4 * 30) <= 12 and abs(levels[2] - 4 * 18) <= 12
    switch.click()
    assert compared.locator("canvas").evaluate_all("all => all.every(one => one.hidden)")


def test_only_the_settings_that_differ_are_told(compared) -> None:
    rows = compared.locator("tbody tr")
    told = {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()}
    assert told["Seed"] == ["7", "8", "9"]
    assert set(told) == {"Seed", "Size"}
    labels = compared.locator("figcaption").all_inner_texts()
    assert labels == ["A plain", "B seed 8", "C seed 9"]
