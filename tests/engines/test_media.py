"""Clips are whole, playable and say what they are: read back with PyAV, frame for frame."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engines.errors import MediaError
from engines.media import metadata
from engines.media.background_writer import BackgroundWriter
from engines.media.output import Output, remove_leftovers
from engines.media.video import (
    VideoWriter,
    box_names,
    playback_bytes,
    preview_bytes,
    read_frame,
    read_frames,
    reduced,
    write_poster,
)
from engines.registry import SPECS
from engines.types import Weights


def clip(frames: int, *, width: int = 96, height: int = 64) -> np.ndarray:
    """Smooth moving colours, and the frame's number as a grey bar on top."""
    rows, columns = np.mgrid[:height, :width]
    pictures = [
        np.stack([(columns + 2 * t) % 256, (rows + t) % 256, np.full_like(rows, 40 + 5 * t % 200)], axis=-1)
        for t in range(frames)
    ]
    pixels = np.stack(pictures).astype(np.uint8)
    pixels[:, :16] = (np.arange(frames) * 7 % 256)[:, None, None, None]
    return pixels


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def write(path: Path, pixels: np.ndarray, *, fps: int = 12, chunk: int = 4, **tags: str) -> Path:
    writer = VideoWriter(path, fps=fps, tags=tags)
    for start in range(0, len(pixels), chunk):
        writer.write(pixels[start : start + chunk])
    writer.close()
    return path


def test_every_frame_is_there_in_order_with_its_colours(tmp_path):
    pixels = clip(33)
    decoded = decode(write(tmp_path / "a.mp4", pixels))
    assert decoded.shape == pixels.shape
    numbers = decoded[:, 4:12, 20:40].mean(axis=(1, 2, 3))
    assert np.abs(numbers - pixels[:, 8, 30, 0]).max() < 3
    assert np.abs(decoded.astype(int) - pixels).mean() < 4


def test_the_file_is_what_browsers_play(tmp_path):
    path = write(
        tmp_path / "a.mp4", clip(9), fps=16, title="A bear", comment='{"a": 1}', description="AI-generated video"
    )
    names = box_names(path)
    assert names.index("moov") < names.index("mdat")
    assert names[-1] == "uuid"
    assert b"trainedAlgorithmicMedia" in path.read_bytes()[-1000:]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 16 and stream.frames == 9
        assert container.metadata["title"] == "A bear"
        assert container.metadata["comment"] == '{"a": 1}'
        assert container.metadata["description"] == "AI-generated video"


def test_frames_come_back_in_their_colours(tmp_path):
    patches = np.array([(200, 30, 40), (30, 160, 60), (40, 60, 190), (128, 128, 128)], np.uint8)
    pixels = np.broadcast_to(patches.repeat(24, 0)[None, None], (5, 64, 96, 3))
    pixels = np.clip(pixels.astype(int) - 4 * np.arange(5)[:, None, None, None], 0, 255).astype(np.uint8)
    path = write(tmp_path / "a.mp4", pixels)
    inside = np.s_[..., 32:, np.r_[4:20, 28:44, 52:68, 76:92], :]
    read = np.stack(list(read_frames(path)))
    assert np.abs(read.astype(int) - pixels)[inside].max() <= 4
    assert np.array_equal(read_frame(path, 3), read[3])
    assert np.array_equal(read_frame(path, -1), read[4])


def test_frames_that_are_not_there_are_told(tmp_path):
    path = write(tmp_path / "a.mp4", clip(3))
    with pytest.raises(MediaError, match="no frame 4"):
        read_frame(path, 3)
    with pytest.raises(MediaError, match=r"gone.mp4 cannot be read"):
        read_frame(tmp_path / "gone.mp4", 0)
    (tmp_path / "text.mp4").write_text("I am no clip.")
    with pytest.raises(MediaError, match=r"text.mp4 cannot be read"):
        read_frame(tmp_path / "text.mp4", -1)


def test_odd_sizes_are_padded_not_refused(tmp_path):
    pixels = clip(3, width=97, height=65)
    decoded = decode(write(tmp_path / "a.mp4", pixels))
    assert decoded.shape == (3, 66, 98, 3)
    assert np.abs(decoded[:, :65, :97].astype(int) - pixels).mean() < 4


def test_the_same_frames_give_the_same_file(tmp_path):
    """Faint noise on grey, longer than the encoder looks ahead: what several encoder threads did not repeat.

    One file in five may differ: on a busy machine with AVX-512, x264 itself gives about one in a hundred other B-frames
    (7 of 600; 0 of 600 with that code off, which has no portable switch). Threads differ far more often.
    """
    pixels = np.random.default_rng(0).integers(120, 136, (60, 120, 208, 3), dtype=np.uint8)
    files = [write(tmp_path / f"{index}.mp4", pixels, chunk=chunk) for index, chunk in enumerate((4, 60, 4, 7, 60))]
    # By their hashes: a difference of whole files takes pytest minutes to show.
    counts = Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert counts.most_common(1)[0][1] >= 4


def test_frames_written_in_the_background_are_the_same_clip(tmp_path):
    pixels = clip(40)
    writer = BackgroundWriter(VideoWriter(tmp_path / "a.mp4", fps=12, tags={}))
    for start in range(0, 40, 3):
        writer.write(pixels[start : start + 3])
    assert writer.frame_count == 40
    writer.close()
    here, there = (decode(path).astype(int) for path in (tmp_path / "a.mp4", write(tmp_path / "b.mp4", pixels)))
    assert here.shape == there.shape and np.abs(here - there).mean() < 0.5, "but for x264's own doubts: see above"


def test_encoding_goes_on_beside_and_only_two_chunks_wait(tmp_path):
    entered, go_on = threading.Event(), threading.Event()

    class Slow(VideoWriter):
        def write(self, pixels: np.ndarray) -> None:
            entered.set()
            assert go_on.wait(20)
            super().write(pixels)

    writer = BackgroundWriter(Slow(tmp_path / "a.mp4", fps=12, tags={}))
    pixels = clip(2)
    for _ in range(3):  # one in work, two that wait; none of them encoded yet
        writer.write(pixels)
        assert entered.wait(20)
    blocked = threading.Thread(target=writer.write, args=(pixels,))
    blocked.start()
    blocked.join(0.1)
    assert blocked.is_alive(), "the fourth waits for room"
    go_on.set()
    blocked.join(20)
    writer.close()
    assert len(decode(tmp_path / "a.mp4")) == 8


@pytest.mark.parametrize("after", ["write", "close"])
def test_what_goes_wrong_in_the_background_is_raised(tmp_path, after):
    writer = BackgroundWriter(VideoWriter(tmp_path / "a.mp4", fps=12, tags={}))
    writer.write(np.zeros((2, 16, 16, 3)))  # not uint8
    with pytest.raises(ValueError):
        while after == "write":
            writer.write(clip(1))
        writer.close()
    writer.abort()


def test_aborting_forgets_what_waits(tmp_path):
    writer = BackgroundWriter(VideoWriter(tmp_path / "a.mp4", fps=12, tags={}))
    for _ in range(3):
        writer.write(clip(2))
    writer.abort()
    writer.abort()
    (tmp_path / "a.mp4").unlink(missing_ok=True)
    assert "encoder" not in [thread.name for thread in threading.enumerate()]


def test_one_frame_is_a_clip(tmp_path):
    assert decode(write(tmp_path / "a.mp4", clip(1))).shape[0] == 1


def test_a_clip_without_frames_is_an_error(tmp_path):
    with pytest.raises(MediaError):
        VideoWriter(tmp_path / "a.mp4", fps=8, tags={}).close()


def test_the_preview_is_a_small_moving_picture():
    data = preview_bytes(clip(81, width=12, height=8))
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.n_frames, image.size) == ("WEBP", 16, (256, 171))
    assert len(data) < 150_000
    assert Image.open(io.BytesIO(preview_bytes(clip(1)))).format == "WEBP"


@pytest.mark.parametrize(("size", "shown"), [((96, 64), (96, 64)), ((512, 256), (256, 128))])
def test_what_is_finished_plays_at_its_own_size_or_smaller(size, shown):
    data = playback_bytes(reduced(clip(9, width=size[0], height=size[1])), fps=12)
    image = Image.open(io.BytesIO(data))
    assert (image.size, image.n_frames) == (shown, 9)


def test_the_poster_carries_its_settings(tmp_path):
    write_poster(tmp_path / "a.png", clip(1)[0], parameters='{"seed": 7, "prompt": "ÿ ☃"}')
    image = Image.open(tmp_path / "a.png")
    assert image.text["parameters"] == '{"seed": 7, "prompt": "ÿ ☃"}'
    assert "trainedAlgorithmicMedia" in image.text["XML:com.adobe.xmp"]


def _metadata() -> metadata.Metadata:
    return metadata.Metadata(engine="tiny", model="small", parameters={"steps": 4}, prompt="a ☃", seed=7)


def test_metadata_is_read_from_the_clip_and_else_from_the_sidecar(tmp_path):
    made = _metadata()
    path = write(tmp_path / "a.mp4", clip(2), comment=made.model_dump_json())
    assert metadata.read(path) == made
    bare = write(tmp_path / "b.mp4", clip(2), comment="recorded on holiday")
    assert metadata.read(bare) is None
    (tmp_path / "b.json").write_text(made.model_dump_json(), encoding="utf-8")
    assert metadata.read(bare) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"schema_name": "other", "engine": "x", "model": "y", "parameters": {}, "seed": 1}',
        '{"schema_name": "kinora.video", "engine": ["x"], "model": "y", "parameters": {}, "seed": 1}',
        '{"schema_name": "kinora.video", "engine": "x", "model": "y", "parameters": {}, "seed": "'
        + "1" * 1_000_001
        + '"}',
    ],
)
def test_metadata_of_strangers_is_not_trusted(text):
    assert metadata.parse(text) is None


@pytest.mark.parametrize("inside", [True, False])
def test_a_clip_says_that_it_was_generated_with_its_settings_or_without(inside):
    told = metadata.Metadata(engine="phantom-wan", model="starter", parameters={}, prompt="a star", seed=3)
    assert metadata.tags(told, inside=inside)["description"] == "AI-generated video"
    assert "description" not in metadata.tags(told, inside=inside, marked=False)


def test_a_checkpoint_of_the_hubs_cache_is_told_with_its_revision(tmp_path):
    file = tmp_path / "models--a--b" / "snapshots" / "0a1b2c" / "transformer" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    model = replace(SPECS["phantom-wan"].model("1.3B"), weights=(Weights("transformer", (file.name,), "a/b"),))
    request = SPECS["phantom-wan"].request_type(model="1.3B", prompt="a star", seed=3)
    told = metadata.describe(
        "phantom-wan", request, model=model, files={"transformer": (file,)}, device="CPU", precisions={}
    )
    (entry,) = told.checkpoints
    assert (entry["repo"], entry["revision"], entry["bytes"]) == ("a/b", "0a1b2c", 1)


def test_a_file_that_was_replaced_by_one_of_its_size_is_hashed_anew(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"a" * 9)
    first = metadata.sha256(path)
    path.write_bytes(b"b" * 9)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert metadata.sha256(path) == hashlib.sha256(b"b" * 9).hexdigest() != first


def test_a_text_file_named_mp4_has_no_metadata(tmp_path):
    (tmp_path / "a.mp4").write_text("hello", encoding="utf-8")
    assert metadata.read(tmp_path / "a.mp4") is None
    assert metadata.read(tmp_path / "missing.mp4") is None


def test_parts_are_published_together_or_not_at_all(tmp_path):
    with Output(tmp_path, "clip") as output:
        write(output.part(".mp4"), clip(2))
        output.write_text(".json", "{}")
        assert not output.final(".mp4").exists()
        output.publish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.json", "clip.mp4"]
    with pytest.raises(ZeroDivisionError), Output(tmp_path, "other") as output:
        output.write_text(".json", "{}")
        raise ZeroDivisionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.json", "clip.mp4"]


def test_the_clip_gets_its_name_when_everything_else_has_its(tmp_path, monkeypatch):
    named, real = [], Path.replace

    def noted(path, target):
        named.append(target.name)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    with Output(tmp_path, "clip") as out:
        for suffix in (".mp4", ".png", ".json"):
            out.write_text(suffix, "x")
        out.publish()
    assert set(named[:-1]) == {"clip.png", "clip.json"} and named[-1] == "clip.mp4"


def test_a_target_that_cannot_be_replaced_leaves_no_part_behind(tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(MediaError), Output(tmp_path, "clip") as output:
        output.part(".mp4").write_bytes(b"x")
        output.write_text(".json", "{}")
        output.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("stem", ["../x", "a/b", ".hidden", "", "x" * 300])
def test_names_that_are_no_file_names_are_refused(tmp_path, stem):
    with pytest.raises(MediaError):
        Output(tmp_path / "out", stem)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_a_file_is_refused_without_its_path(tmp_path):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(MediaError) as refused:
        Output(tmp_path / "out", "clip")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MediaError, match="cannot be written"):
        Output(tmp_path, "clip")
    tmp_path.chmod(0o700)


def test_a_read_only_file_system_is_refused():
    with pytest.raises(MediaError):
        Output(Path("/proc/self"), "clip")


def test_parts_of_dead_processes_are_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(timeout=60)
    kept = [tmp_path / "clip.mp4", tmp_path / f".b.{os.getpid()}.part.mp4"]
    for path in (*kept, tmp_path / f".a.b.{dead.pid}.part.mp4"):
        path.write_bytes(b"x")
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_full_disk_is_one_sentence_at_any_size(tmp_path):
    """A file size limit gives the same failed writes as a full disk, at every place where a write can fail."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), dtype=np.uint8)
    whole = write(tmp_path / "whole.mp4", noise).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [0, 20, 48, 4096, whole // 2, whole - 2000, whole - 600, whole - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(MediaError) as refused, Output(tmp_path, "clip") as output:
                write(output.part(".mp4"), noise)
                output.publish()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "disk" in str(refused.value), limit
        assert [path.name for path in tmp_path.iterdir()] == ["whole.mp4"], limit


def test_memory_does_not_grow_with_the_length_of_the_clip(tmp_path):
    program = """
import resource, sys
import numpy as np
from pathlib import Path
from engines.media.video import VideoWriter
writer = VideoWriter(Path(sys.argv[1]), fps=16, tags={})
frames = np.zeros((4, 240, 416, 3), np.uint8)
peaks = []
for index in range(150):
    frames[:] = index
    writer.write(frames)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
writer.close()
print(peaks[-1] - peaks[49])
"""
    grown = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.mp4")], capture_output=True, text=True, check=True
    )
    assert int(grown.stdout) < 20_000  # KiB; the 400 frames between are 120 MB
