"""Image to video through the studio with a tiny real model: worker process, History, quality, settings put back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from engines.flashi2v.network import FlashI2VTransformer3DModel
from engines.media.video import read_frame
from engines.registry import SPECS
from studio.jobs.local import LocalExecutor
from studio.page import clip_quality, markup, send
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.engines import tiny_wan
from tests.studio.conftest import wait_for

SPEC = SPECS["flashi2v"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio whose FlashI2V starter is a tiny network of the real class."""
    folder = tmp_path_factory.mktemp("tiny")
    files = tiny_wan.write_model(folder)
    network = tiny_wan.seeded(lambda: FlashI2VTransformer3DModel(**tiny_wan.TRANSFORMER))
    tiny_wan.write(files["transformer"][0], network, tiny_wan.TRANSFORMER, text_len=tiny_wan.TEXT_LEN)
    overrides = tuple(f"flashi2v/starter/{role}={paths[0]}" for role, paths in files.items())
    settings = Settings(outputs=folder / "outputs", devices=("cpu",), overrides=overrides)
    studio = open_studio(settings, LocalExecutor)
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


def test_a_picture_of_another_shape_becomes_a_clip_that_is_measured_and_sent_on(studio: Studio, tmp_path: Path) -> None:
    clear = Image.new("RGBA", (90, 200), (0, 0, 0, 0))
    clear.paste((200, 0, 0, 255), (20, 30, 70, 90))
    clear.save(tmp_path / "tall.png")
    reference = {"path": str(tmp_path / "tall.png"), "position": 0.2}
    values = {"prompt": "a red star falls", "picture": reference, "steps": 2, "frames": 5, "seed": 7}
    (job,) = studio.submit("flashi2v", values)
    done = wait_for(studio, job, "done", "failed", timeout_s=240)
    assert done.failure is None
    video = Path(done.result.video)
    assert read_frame(video, -1).shape == (64, 96, 3)
    assert done.request["picture"]["position"] == 0.2
    assert done.request["picture"]["path"].startswith(str(studio.settings.outputs)), "kept for as long as the clip"

    html = markup.table(clip_quality.Figures().measure(SPEC, done))
    assert re.findall(r'scope="row">([\w ]+)', html) == ["First frame", "Motion", "Flicker", "Colour"]
    assert send.finished_job(studio, {}, done.id) == studio.store.get(done.id)

    picture = Path(done.request["picture"]["path"])
    studio.delete(done.id)
    assert not picture.exists() and not video.exists()

    # What the networks took is given back when it is asked for.
    until_idle(studio)
    (before,) = studio.executor.devices()
    assert before.held_bytes > 0
    assert studio.free() == {before.name: before.held_bytes}
    assert studio.executor.devices()[0].held_bytes == 0
    assert studio.free() == {before.name: 0}


def until_idle(studio: Studio) -> None:
    """The worker tells what it keeps just after its job is done."""
    end = time.monotonic() + 30
    while not studio.executor.devices()[0].held_bytes:
        assert time.monotonic() < end
        time.sleep(0.02)
