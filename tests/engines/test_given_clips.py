"""Every kind of video that people have, given as a clip to go on from: used, trimmed or refused with one sentence."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from engines.errors import MediaError, StudioError
from engines.media import excerpt
from engines.media.excerpt import read_excerpt
from engines.phantom_physics.engine import beginning
from engines.registry import SPECS, implementation
from engines.validation import build_request
from tests.engines.test_contract import Bench
from tests.engines.test_excerpt import number_of, write
from tests.engines.tiny_models import TINY

SPEC = SPECS["phantom-physics"]
LEFT, RIGHT = (200, 40, 40), (40, 40, 200)  # colours of a frame's halves
GREY = {"gray", "gray10le", "gray16le"}


def film(path: Path, size: tuple[int, int] = (96, 64), count: int = 13, **how: Any) -> Path:
    """A clip of red and blue halves. `how`: codec, pix_fmt, times in 1/24 s, anything else of the stream."""
    width, height = size
    codec, pix_fmt, times = how.pop("codec", "libx264"), how.pop("pix_fmt", "yuv420p"), how.pop("times", range(count))
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = LEFT, RIGHT
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=24)
        track.width, track.height, track.pix_fmt = width, height, pix_fmt
        track.time_base = track.codec_context.time_base = Fraction(1, 24)
        for name, value in how.items():
            setattr(track, name, value)
        for time in times:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 24)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def recording(path: Path, *, pictures: int = 0) -> Path:
    """Sound with a cover, and behind them a film of so many frames."""
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 64, "yuvj420p", Disposition.attached_pic
        heard = container.add_stream("aac", rate=8000, layout="mono")
        seen = container.add_stream("libx264", rate=24) if pictures else None
        if seen:
            seen.width, seen.height, seen.pix_fmt = 96, 64, "yuv420p"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        blank = [av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24") for _ in range(pictures)]
        still = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for track, frames in ((cover, [still]), (heard, [sound]), (seen, blank)):
            for frame in [*frames, None] if track else []:
                container.mux(track.encode(frame))
    return path


def looping(path: Path) -> Path:
    frames = [Image.new("RGB", (64, 48), (20 * index, 0, 0)) for index in range(9)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    return path


def turned(path: Path) -> Path:
    """Stored on its side, with a matrix that turns it clockwise."""
    data = bytearray(film(path).read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def joined(path: Path) -> Path:
    """A stream whose picture stands up midway."""
    parts = [film(path.with_name(f"{size[0]}.ts"), size, 9) for size in ((96, 64), (64, 96))]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def part_of(path: Path, share: float) -> Path:
    data = film(path, count=45).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def garbled(path: Path) -> Path:
    """Whole as its index tells, and as it begins; the last of its pictures are zeros."""
    data = bytearray(film(path, codec="mjpeg", pix_fmt="yuvj420p").read_bytes())
    begin, end = data.index(b"mdat"), data.index(b"moov") - 4
    data[begin + 2 * (end - begin) // 3 : end] = bytes(end - begin - 2 * (end - begin) // 3)
    path.write_bytes(data)
    return path


def renamed_codec(path: Path) -> Path:
    data = bytearray(film(path).read_bytes())
    place = data.index(b"avc1", data.index(b"stsd"))
    data[place : place + 4] = b"zzz1"
    path.write_bytes(data)
    return path


Make = Callable[[Path], Path]

# What is used: name of the file, how it is made, what is said, how many frames are used, their shape.
USED: dict[str, tuple[str, Make, str, int, tuple[int, int]]] = {
    "longer than it uses": ("a.mp4", lambda p: film(p, count=60), "frames 16 to 60 of 60", 45, (64, 96)),
    "not 4n+1 frames": ("a.mp4", lambda p: film(p, count=12), "frames 4 to 12 of 12", 9, (64, 96)),
    "odd sides": ("a.mkv", lambda p: film(p, (641, 359), 5, codec="ffv1", pix_fmt="yuv444p"), "all 5", 5, (64, 96)),
    "odd and small": ("a.webm", lambda p: film(p, (63, 65), codec="libvpx-vp9"), "all 13", 13, (96, 64)),
    "a changing rate": (
        "a.mkv", lambda p: film(p, times=[0, 1, 2, 3, 9, 10, 11, 20, 21, 22, 23, 30, 31]), "frame rate changes", 29,
        (64, 96),
    ),
    "held upright": ("a.mp4", turned, "all 13", 13, (96, 64)),
    "HEVC": ("a.mp4", lambda p: film(p, codec="libx265"), "all 13", 13, (64, 96)),
    "HEVC of 10 bits": ("a.mp4", lambda p: film(p, codec="libx265", pix_fmt="yuv420p10le"), "all 13", 13, (64, 96)),
    "VP9": ("a.webm", lambda p: film(p, codec="libvpx-vp9"), "all 13", 13, (64, 96)),
    "VP9 with alpha": ("a.webm", lambda p: film(p, codec="libvpx-vp9", pix_fmt="yuva420p"), "all 13", 13, (64, 96)),
    "AV1": ("a.mp4", lambda p: film(p, codec="libsvtav1"), "all 13", 13, (64, 96)),
    "AV1 of 10 bits": ("a.mkv", lambda p: film(p, codec="libsvtav1", pix_fmt="yuv420p10le"), "all 13", 13, (64, 96)),
    "ProRes": ("a.mov", lambda p: film(p, codec="prores_ks", pix_fmt="yuv422p10le"), "all 13", 13, (64, 96)),
    "ProRes with alpha": ("a.mov", lambda p: film(p, codec="prores_ks", pix_fmt="yuva444p10le"), "all", 13, (64, 96)),
    "grey": ("a.mp4", lambda p: film(p, pix_fmt="gray"), "all 13", 13, (64, 96)),
    "grey of 10 bits": ("a.mp4", lambda p: film(p, pix_fmt="gray10le"), "all 13", 13, (64, 96)),
    "grey of 16 bits": ("a.mkv", lambda p: film(p, codec="ffv1", pix_fmt="gray16le"), "all 13", 13, (64, 96)),
    "RGB of 16 bits": ("a.mov", lambda p: film(p, codec="png", pix_fmt="rgb48be"), "all 13", 13, (64, 96)),
    "RGB with alpha": ("a.mov", lambda p: film(p, codec="qtrle", pix_fmt="argb"), "all 13", 13, (64, 96)),
    "a cover before the film": ("a.mp4", lambda p: recording(p, pictures=13), "all 13", 13, (64, 96)),
}  # fmt: skip

# What is refused: name of the file, how it is made, what is said.
REFUSED: dict[str, tuple[str, Make, str]] = {
    "too short": ("a.mp4", lambda p: film(p, count=4), "only 4 frames: at least 5 are needed"),
    "all at one moment": ("a.mkv", lambda p: film(p, codec="ffv1", times=[0] * 13), "only 1 frame:"),
    "one pixel wide": ("a.mov", lambda p: film(p, (1, 64), codec="qtrle", pix_fmt="rgb24"), "1x64 pixels: sides of 16"),
    "one pixel high": ("a.mkv", lambda p: film(p, (64, 1), codec="ffv1", pix_fmt="yuv444p"), "64x1 pixels: sides of"),
    "a thread": ("a.mkv", lambda p: film(p, (16, 640), codec="ffv1"), "one side may be 20 times the other"),
    "a thread as it is shown": (
        "a.mp4", lambda p: film(p, sample_aspect_ratio=Fraction(50, 1)), "4,800x64 pixels: one side may be 20",
    ),
    "over 8K": ("a.mov", lambda p: film(p, (8200, 4320), 1, codec="qtrle", pix_fmt="rgb24"), "8,200x4,320 pixels"),
    "of years": ("a.mkv", lambda p: film(p, codec="ffv1", times=[*range(12), 24 * 10**8]), "lasts for days"),
    "sound and a cover": ("a.mp4", recording, "has sound but no picture"),
    "another size midway": ("a.ts", joined, "changes its size midway"),
    "no such codec": ("a.mp4", renamed_codec, "coded in a way that is not read here"),
    "cut off": ("a.mp4", lambda p: part_of(p, 0.6), "is damaged"),
    "cut off, in pieces": ("a.mkv", lambda p: part_of(p, 0.05), "is damaged"),
    "garbled midway": ("a.mp4", garbled, "is damaged: not all of its frames can be read"),
    "GIF": ("a.gif", looping, "is a GIF picture, not a video"),
    "animated WebP": ("a.webp", looping, "is a WebP picture, not a video"),
    "animated PNG": ("a.png", looping, "is a PNG picture, not a video"),
}  # fmt: skip


def given(path: Path, **changes: Any) -> tuple[np.ndarray, list[str]]:
    """The frames that a clip begins with, and what is said of them: both doors, nothing is loaded."""
    values = {"model": "5B", "prompt": "x", "width": 96, "height": 64, "clip": {"path": path}}
    return beginning(build_request(SPEC, values | changes))


@pytest.mark.parametrize("kind", USED)
def test_what_can_be_used_is_used(kind: str, tmp_path: Path) -> None:
    name, make, said, count, shape = USED[kind]
    frames, told = given(make(tmp_path / name))
    assert frames.dtype == np.uint8 and frames.shape == (count, *shape, 3)
    assert said in told[0] and told[0].count(".") == 2 and str(tmp_path) not in told[0]  # of the name, and the end
    if "cover" in kind:
        return
    along = frames.swapaxes(1, 2) if kind == "held upright" else frames
    edges = (along[:, 2:-2, 2:4], along[:, 2:-2, -4:-2])
    for edge, colour in zip(edges, (LEFT, RIGHT), strict=True):
        wanted = np.full(3, np.dot(colour, (0.299, 0.587, 0.114))) if "grey" in kind else np.array(colour)
        assert np.abs(edge.reshape(-1, 3).mean(0) - wanted).max() < 12, kind


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    name, make, said = REFUSED[kind]
    path = make(tmp_path / name)
    with pytest.raises(StudioError) as refused:
        given(path)
    told = str(refused.value)
    assert said in told and told.startswith(f'"{name}" ') and told.endswith(".")
    assert "\n" not in told and str(tmp_path) not in told and told.count(f'"{name}"') == 1


def test_what_is_found_late_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(TINY["phantom-physics"], tmp_path)
    request = bench.request(clip={"path": garbled(tmp_path / "a.mp4")}, picture=None)
    context = bench.session.context(bench.spec.name, bench.spec.model("tiny"))
    monkeypatch.setattr(type(context), "use", lambda *_, **__: pytest.fail("a network was loaded"))
    with pytest.raises(MediaError, match="is damaged"):
        list(implementation(bench.spec).generate(request, context))


def test_8k_is_read_frame_by_frame_and_smaller(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mov", (7680, 4320), 5, codec="qtrle", pix_fmt="rgb24")
    assert clip.stat().st_size < 8_000_000
    alive: list[weakref.ref[Image.Image]] = []

    def fit(image: Image.Image) -> Image.Image:
        assert image.size == (3840, 2160) and sum(one() is not None for one in alive) <= 1
        alive.append(weakref.ref(image))
        return image.resize((96, 64), Image.Resampling.NEAREST)

    found = read_excerpt(clip, most=5, fewest=5, stride=4, fps=24, fit=fit)
    assert found.frames.shape == (5, 64, 96, 3) and len(alive) == 5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_the_end_of_a_long_clip_is_sought(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before is decoded only in containers without an index; the frames are the same."""
    clip = write(tmp_path / name, 250, options={"crf": "4", "g": "24", "bf": "2"})
    seen: list[int] = []
    number = excerpt._number
    monkeypatch.setattr(excerpt, "_number", lambda *a, **k: seen.append(found := number(*a, **k)) or found)
    found = read_excerpt(clip, most=9, fewest=5, stride=4, fps=24, fit=lambda image: image)
    assert [number_of(frame) for frame in found.frames] == list(range(241, 250))
    assert (len(seen) <= 24 + 9) == (name != "a.ts") and seen == sorted(seen)
