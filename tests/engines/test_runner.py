"""One run from request to published clip, with a small real engine and the worker's own context."""

from __future__ import annotations

import io
import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from engines import events
from engines.errors import (
    IncompatibleCheckpoint,
    InvalidRequest,
    MediaError,
    MissingWeights,
    OutOfMemory,
    StudioError,
)
from engines.loading.store import Store
from engines.media import metadata
from engines.media.marking import SOURCE_TYPE
from engines.memory.budget import OWN_BYTES
from engines.runtime import runner
from engines.runtime.runner import run
from engines.runtime.session import Session
from engines.runtime.time_left import Pace, TimeLeft
from engines.types import Frames, LatentStep, Measured
from engines.validation import build_request
from tests.engines.tiny import TINY, write_checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_checkpoint(folder)
    return folder


@pytest.fixture
def session(models) -> Session:
    return Session("cpu", store=Store(models=models))


def start(session: Session, folder: Path, job: str = "clip", **values):
    request = build_request(TINY, {"prompt": "a bear", **values})
    context = session.context("tiny", TINY.model("small"))
    return run(TINY, request, context, output_dir=folder, job_id=job, pace=session.pace)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_says_what_it_does_and_ends_with_a_clip(session, tmp_path):
    said = list(start(session, tmp_path, seed=7))
    assert [event.name for event in said if event.type == "stage"] == [
        "Getting ready",
        "Loading",
        "Denoising",
        "Decoding",
    ]
    steps = [(event.index, event.total) for event in said if event.type == "step"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4), (4, 9), (8, 9), (9, 9)]
    assert any(event.type == "preview" for event in said)
    result = said[-1].result
    assert files(tmp_path) == ["clip.json", "clip.mp4", "clip.png"]
    assert result.video == str(tmp_path / "clip.mp4")
    assert {"Getting ready", "Loading", "Denoising", "Decoding", "Saving", "total"} == set(result.seconds)
    assert result.peak_bytes > 10**7
    assert result.notes == ("tiny",)
    with av.open(result.video) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9 and frames[0].shape == (48, 64, 3)
    assert [events.from_json(events.to_json(event)) for event in said] == said


def test_a_clip_plays_at_the_rate_that_was_asked_for(session, tmp_path):
    result = list(start(session, tmp_path, fps=5))[-1].result
    with av.open(result.video) as container:
        assert container.streams.video[0].average_rate == 5


def test_the_clip_tells_how_it_was_made_and_names_no_folder(session, tmp_path):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"anything")
    result = list(start(session, tmp_path / "out", seed=7, picture=picture))[-1].result
    inside, beside = metadata.read(Path(result.video)), json.loads(Path(result.sidecar).read_text(encoding="utf-8"))
    assert (inside.engine, inside.model, inside.seed, inside.prompt) == ("tiny", "small", 7, "a bear")
    assert inside.noise == "drawn on the CPU in float32"
    assert inside.parameters["steps"] == 4
    assert inside.inputs[0]["file"] == "picture.png" and len(inside.inputs[0]["sha256"]) == 64
    assert len(inside.checkpoints[0]["sha256"]) == 64
    assert "torch" in inside.versions and inside.device == "CPU" and inside.precisions == {"transformer": "float32"}
    assert beside["seconds"]["total"] > 0 and beside["peak_bytes"] > 0
    assert str(tmp_path) not in json.dumps(beside) + inside.model_dump_json()
    assert result.request["picture"] == str(picture)


def test_a_clip_that_is_to_tell_nothing_bears_the_mark_alone_and_the_file_beside_it_tells_all(session, tmp_path):
    request = build_request(TINY, {"prompt": "a secret bear", "seed": 7})
    context = session.context("tiny", TINY.model("small"))
    *_, done = run(TINY, request, context, output_dir=tmp_path, job_id="clip", inside=False)
    for file in (done.result.video, done.result.poster):
        content = Path(file).read_bytes()
        assert b"secret" not in content and b"kinora.video" not in content
        assert SOURCE_TYPE.encode() in content
    assert metadata.read(Path(done.result.video)).prompt == "a secret bear"  # of the sidecar
    assert metadata.parse(Path(done.result.sidecar).read_text()).seed == 7


def test_the_drawn_seed_is_told_and_makes_the_same_clip_again(session, tmp_path):
    first = list(start(session, tmp_path, "a"))[-1].result
    seed = first.request["seed"]
    assert seed >= 0
    second = list(start(session, tmp_path, "b", seed=seed))[-1].result
    pictures = []
    for result in (first, second):
        with av.open(result.video) as container:
            pictures.append([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("until", range(1, 12))
def test_cancelling_anywhere_leaves_nothing_and_keeps_the_network_warm(session, tmp_path, until):
    running = start(session, tmp_path)
    for _ in range(until):
        assert next(running).type != "done"
    running.close()
    assert files(tmp_path) == []
    assert until < 4 or session.cache.state() == [("tiny/transformer", "device", 48)]
    assert session.cache.device_bytes <= 48


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [("memory", OutOfMemory, "9 frames of 64x48"), ("error", StudioError, "inside the engine")],
)
def test_a_failure_is_a_sentence_without_paths_and_leaves_nothing(session, tmp_path, fault, kind, says):
    with pytest.raises(kind) as failed:
        list(start(session, tmp_path, fault=fault))
    assert says in str(failed.value)
    assert failed.value.hint
    assert "tiny" not in str(failed.value) and "Traceback" not in str(failed.value)
    assert failed.value.__cause__ is not None, "it goes to the log of the process"
    assert files(tmp_path) == []
    assert list(start(session, tmp_path))[-1].type == "done"


def test_a_full_disk_leaves_nothing(session, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    running = start(session, tmp_path)
    assert next(running).type == "stage"
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(MediaError, match="disk is full"):
            list(running)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_loaded(session, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MediaError):
        next(start(session, tmp_path / "file"))
    assert session.cache.state() == []


def test_missing_and_damaged_weights_are_found_before_anything_is_loaded(tmp_path):
    session = Session("cpu", store=Store(models=tmp_path / "models"))
    with pytest.raises(MissingWeights, match=r"tiny\.safetensors of kinora-tests/tiny"):
        next(start(session, tmp_path / "out"))
    path = write_checkpoint(tmp_path / "models")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(IncompatibleCheckpoint, match="cut short"):
        next(start(session, tmp_path / "out"))
    assert files(tmp_path / "out") == []


def test_a_second_run_reads_and_encodes_nothing_again(session, tmp_path):
    list(start(session, tmp_path, "a"))
    network, held = session.cache._entries["tiny/transformer"].module, session.remembered.held_bytes
    list(start(session, tmp_path, "b"))
    assert session.cache._entries["tiny/transformer"].module is network
    assert session.remembered.held_bytes == held > 0


def test_a_budget_too_small_is_refused_with_a_hint(models, tmp_path):
    session = Session("cpu", store=Store(models=models), memory_bytes=OWN_BYTES["cpu"] + 500)
    with pytest.raises(OutOfMemory, match="does not fit") as refused:
        list(start(session, tmp_path))
    assert "42 %" in refused.value.hint
    assert files(tmp_path) == []


def test_the_time_left_counts_the_decode_once_it_was_seen():
    now = [0.0]
    pace = Pace()

    def job() -> list[float]:
        progress = TimeLeft(pace, key="k", pixels=100, frames=8, clock=lambda: now[0])
        left = []
        for index in range(1, 4):
            now[0] += 5.0 if index == 1 else 2.0
            left.append(progress.step(index, 3))
        progress.stage()
        for written in (4, 8):
            now[0] += 3.0
            left.append(progress.frames(written))
        return left

    assert job() == [10.0, 2.0, 0.0, 3.0, 0.0]
    assert job() == [16.0, 8.0, 6.0, 3.0, 0.0]


def test_values_are_checked_before_a_run():
    with pytest.raises(InvalidRequest):
        build_request(TINY, {"prompt": "a", "steps": 0})


def keeping(after: int):
    """True from the `after`-th question on."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= after


def test_a_run_that_stops_early_keeps_what_there_is(session, tmp_path):
    request = build_request(TINY, {"prompt": "a bear", "seed": 7})
    context = session.context("tiny", TINY.model("small"))
    stopped = []
    said = run(TINY, request, context, output_dir=tmp_path, job_id="part", keep=lambda: bool(stopped))
    events_seen = []
    for event in said:
        events_seen.append(event)
        if event.type == "step" and event.index == 4 and event.total == 9:
            stopped.append(True)
    result = events_seen[-1].result
    assert result.notes[-1] == "Stopped after 4 of 9 frames."
    assert files(tmp_path) == ["part.json", "part.mp4", "part.png"]
    with av.open(result.video) as container:
        assert len(list(container.decode(video=0))) == 4
    assert metadata.read(Path(result.video)).parameters["frames"] == 9  # as it was asked for


def test_a_run_that_stops_before_its_first_frame_is_cancelled(session, tmp_path):
    request = build_request(TINY, {"prompt": "a bear"})
    context = session.context("tiny", TINY.model("small"))
    said = list(run(TINY, request, context, output_dir=tmp_path, job_id="none", keep=keeping(2)))
    assert said[-1].type == "cancelled" and files(tmp_path) == []


class Streaming:
    """Decodes between steps and keeps a file beside the clip, as an engine for long videos does."""

    def generate(self, request, context):
        yield events.Stage(name="Making")
        for index in range(3):
            yield LatentStep(index + 1, 3)
            frames = np.full((3, 16, 16, 3), 80 * index, np.uint8) + np.uint8([0, 20, 40])[:, None, None, None]
            yield Frames(frames, beside={".latents.bin": lambda index=index: bytes([index])})
        yield Measured("surprise", 0.25)


class Queueing:
    """Steps of 0.3 s on a device that is one of them behind: who wants to see one waits until it is done."""

    def __init__(self) -> None:
        self.done = self.seen = 0.0  # when the device has done what is queued; until when the host has waited

    def monotonic(self) -> float:
        return max(self.seen, self.done - 0.3)

    def generate(self, request, context):
        yield events.Stage(name="Denoising")
        for index in range(40):
            self.done += 0.3
            yield LatentStep(index + 1, 40, preview=self.preview)
        yield Frames(np.zeros((9, 16, 16, 3), np.uint8))

    def preview(self) -> np.ndarray:
        self.seen = self.done
        return np.zeros((1, 16, 16, 3), np.uint8)


def test_previews_are_as_frequent_where_they_wait_for_the_device(session, tmp_path, monkeypatch):
    engine = Queueing()
    monkeypatch.setattr(runner, "time", engine)
    request = build_request(TINY, {"prompt": "a bear"})
    context = session.context("tiny", TINY.model("small"))
    said = list(run(TINY, request, context, output_dir=tmp_path, job_id="clip", engine=engine))
    assert sum(event.type == "preview" for event in said) >= 14


def test_files_beside_the_clip_are_those_of_its_last_frames(session, tmp_path):
    request = build_request(TINY, {"prompt": "a bear"})
    context = session.context("tiny", TINY.model("small"))
    in_parts = replace(TINY, keeps_parts=True)
    said = list(run(in_parts, request, context, output_dir=tmp_path, job_id="clip", engine=Streaming()))
    assert files(tmp_path) == ["clip.json", "clip.latents.bin", "clip.mp4", "clip.png"]
    assert said[-1].result.beside == (str(tmp_path / "clip.latents.bin"),)
    assert said[-1].result.figures == {"surprise": 0.25}
    assert json.loads((tmp_path / "clip.json").read_text(encoding="utf-8"))["figures"] == {"surprise": 0.25}
    assert (tmp_path / "clip.latents.bin").read_bytes() == b"\x02"
    # Steps go on counting while finished frames are shown.
    assert [(event.index, event.total) for event in said if event.type == "step"] == [(1, 3), (2, 3), (3, 3)]
    lengths = []
    for event in said:
        if event.type == "playback":
            with Image.open(io.BytesIO(event.image)) as playback:
                shown = [frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(playback)]
                lengths.append(sum(shown) / 1000 * request.fps)
    assert lengths == pytest.approx([3, 6, 9], rel=0.02), "all that is finished, as long as it lasts"

    part = list(run(TINY, request, context, output_dir=tmp_path, job_id="part", engine=Streaming(), keep=keeping(3)))[
        -1
    ].result
    assert part.notes[0] == "Stopped after 3 of 9 frames."
    assert part.notes[1].startswith("Every frame is one plain colour: a file of the model may be damaged")
    assert (tmp_path / "part.latents.bin").read_bytes() == b"\x00"
