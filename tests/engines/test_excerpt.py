"""Frames of a given clip: chosen by their times, at another rate and size, of every codec, and what is refused."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engines.errors import MediaError
from engines.media.excerpt import fitting, read_excerpt

SIZE = (96, 64)


def numbered(number: int) -> np.ndarray:
    """A grey frame that tells its number in eight black and white blocks below, with a white mark at the upper left."""
    frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    frame[:16, :16] = 250
    for bit in range(8):
        frame[-24:, 12 * bit : 12 * bit + 12] = 255 * (number >> bit & 1)
    return frame


def number_of(frame: np.ndarray) -> int:
    return sum(int(frame[-16:-8, 12 * bit + 4 : 12 * bit + 8].mean() > 127) << bit for bit in range(8))


def write(
    path: Path, count: int = 30, *, fps: int = 24, codec: str = "libx264", times: list[int] | None = None, **stream: Any
) -> Path:
    """A clip of `count` numbered frames; `times` are in ticks of 1/fps."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=fps)
        track.width, track.height = SIZE
        track.pix_fmt = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        track.time_base = track.codec_context.time_base = Fraction(1, fps)
        if codec == "libx264":
            track.options = {"crf": "4"}
        for name, value in stream.items():
            setattr(track, name, value)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, fps)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def read(path: Path, **changes: Any) -> tuple[list[int], str]:
    """Numbers of the chosen frames, and what is said of them."""
    told: dict[str, Any] = {"most": 45, "fewest": 5, "stride": 4, "fps": 24, "fit": lambda image: image}
    found = read_excerpt(path, **(told | changes))
    assert found.frames.dtype == np.uint8 and found.frames.shape[1:] == (64, 96, 3)
    return [number_of(frame) for frame in found.frames], found.told


# Which frames


def test_the_last_frames_are_taken_and_always_4n_plus_1(tmp_path: Path) -> None:
    """P14: what does not fit is trimmed, and said."""
    clip = write(tmp_path / "a.mp4", 30)
    assert read(clip) == (list(range(1, 30)), 'The clip goes on from frames 2 to 30 of 30 of "a.mp4".')
    assert read(clip, most=9)[0] == list(range(21, 30))
    assert read(clip, most=9, moment=0.0)[0] == list(range(9))
    assert read(clip, most=9, moment=0.5)[0] == list(range(10, 19))
    assert read(clip, most=11)[0] == list(range(21, 30))
    assert read(write(tmp_path / "b.mp4", 29)) == (list(range(29)), 'The clip goes on from all 29 frames of "b.mp4".')


@pytest.mark.parametrize(
    ("there", "wanted", "kept"), [(30, 45, 29), (45, 45, 45), (100, 45, 45), (4, 45, 1), (8, 7, 5)]
)
def test_what_fits(there: int, wanted: int, kept: int) -> None:
    assert fitting(there, wanted, stride=4) == kept


@pytest.mark.parametrize(
    ("rate", "numbers", "said"),
    [
        (48, [0, 2, 4, 6, 8], "taken at 24 a second from 48."),
        (12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8], "taken at 24 a second from 12, some of them twice."),
        (25, [0, 1, 2, 3, 4, 5, 6, 7, 8], "taken at 24 a second from 25."),
    ],
)
def test_another_rate_keeps_its_pace(tmp_path: Path, rate: int, numbers: list[int], said: str) -> None:
    found, told = read(write(tmp_path / "a.mp4", 10, fps=rate), moment=0.0)
    assert found == numbers
    assert told.endswith(said)


def test_nearly_the_same_rate_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", 13, fps=1000, times=[round(index * 1001 / 24) for index in range(13)])
    assert read(path) == (list(range(13)), 'The clip goes on from all 13 frames of "a.mkv".')


def test_a_changing_rate_keeps_its_pace_and_is_said(tmp_path: Path) -> None:
    """Six frames at 24 a second, then six at 6."""
    path = write(tmp_path / "a.mkv", 12, times=[0, 1, 2, 3, 4, 5, 9, 13, 17, 21, 25, 29])
    found, told = read(path, moment=0.0)
    assert found == [0, 1, 2, 3, 4, *[5] * 4, *[6] * 4, *[7] * 4, *[8] * 4, *[9] * 4, *[10] * 4]
    assert "whose frame rate changes: they are taken at 24 a second" in told


def test_frames_are_made_to_fit_one_by_one(tmp_path: Path) -> None:
    clip = write(tmp_path / "a.mp4", 60)
    asked: list[tuple[int, int]] = []

    def small(image: Image.Image) -> Image.Image:
        asked.append(image.size)
        return image.resize((32, 16))

    found = read_excerpt(clip, most=9, fewest=5, stride=4, fps=24, fit=small)
    assert found.frames.shape == (9, 16, 32, 3)
    assert asked == [SIZE] * 9  # the other 51 are not even converted


# What clips come as


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("libx264", "a.mp4"), ("libx265", "a.mp4"), ("libvpx-vp9", "a.webm"), ("libsvtav1", "a.mkv"),
        ("prores_ks", "a.mov"), ("mpeg4", "a.avi"), ("mjpeg", "a.avi"), ("ffv1", "a.mkv"), ("libx264", "a.ts"),
    ],
)  # fmt: skip
def test_every_codec_gives_its_frames_in_order(tmp_path: Path, codec: str, name: str) -> None:
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    found, _ = read(write(tmp_path / name, 13, codec=codec))
    assert found == list(range(13))


def test_frames_out_of_order_in_the_file_come_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 21, options={"crf": "4", "bf": "3", "b-adapt": "0"})
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stamps != sorted(stamps)
    assert read(path)[0] == list(range(21))
    assert read(path, most=5)[0] == [16, 17, 18, 19, 20]


def test_a_clip_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    """A phone's clip held upright: stored on its side, with a matrix that turns it clockwise."""
    path = write(tmp_path / "a.mp4", 5)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, SIZE[1] * one, 0, 1 << 30)
    path.write_bytes(data)
    found = read_excerpt(path, most=5, fewest=5, stride=4, fps=24, fit=lambda image: image).frames
    assert found.shape == (5, SIZE[0], SIZE[1], 3)
    assert found[0, 4, -4].min() > 200 and found[0, 4, 4].max() < 100  # the mark is at the upper right now


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", 5, sample_aspect_ratio=Fraction(4, 3))
    found = read_excerpt(path, most=5, fewest=5, stride=4, fps=24, fit=lambda image: image).frames
    assert found.shape == (5, 64, 128, 3)


# What is refused


@pytest.mark.parametrize("count", [1, 4])
def test_a_clip_too_short_is_refused(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "a.mp4", count)
    with pytest.raises(MediaError, match=f"only {count} frame.*: at least 5 are needed; or give one of them as a pict"):
        read(path)


def test_a_clip_that_breaks_off_is_refused_or_read_as_far_as_asked(tmp_path: Path) -> None:
    """Its index promises frames that are not there."""
    path = write(tmp_path / "a.mkv", 60, codec="mjpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, _ = read(path)
    assert 5 <= len(found) < 45 and found == list(range(found[0], found[0] + len(found)))
    garbled = write(tmp_path / "b.mp4", 30)
    data = bytearray(garbled.read_bytes())
    start = data.index(b"mdat") + 300
    data[start : start + 4000] = bytes(4000)
    garbled.write_bytes(data[: start + 4000])
    with pytest.raises(MediaError, match="damaged"):
        read(garbled)


def test_sound_alone_pictures_and_paths_are_told_apart(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        track = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    with pytest.raises(MediaError, match="sound but no picture"):
        read(tmp_path / "sound.mp4")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    with pytest.raises(MediaError, match="is a PNG picture, not a video"):
        read(tmp_path / "picture.png")
    with pytest.raises(MediaError, match="There is no video"):
        read(tmp_path / "gone.mp4")
