"""Each edit on real files: which frames come out, with which sound, what they say of themselves; what is refused."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from engines.editing import captions, flow, runner, spec, upscaling
from engines.editing.source import SOUND_RATE, open_source
from engines.errors import IncompatibleCheckpoint, InvalidRequest, MediaError, StudioError
from engines.events import Step
from engines.loading.store import Store
from engines.media import metadata
from engines.media.marking import XMP, gif_mark, is_marked
from engines.media.video import VideoWriter, read_frames
from engines.runtime.session import Session
from tests.engines.edited_clips import FPS, FRAMES, TOLD, edited, near, pixels, write_clips
from tests.studio.kept_clips import moving, write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.mark.parametrize(
    ("name", "values", "order"),
    [
        ("trim", {"start": 0.5, "end": 1.0}, [*range(6, 12)]),
        ("trim", {"start": 1.0}, [*range(12, 17)]),
        ("trim", {"end": 99}, [*range(17)]),
        ("trim", {"start": 0.5, "end": 0.51}, [6]),
        ("reverse", {}, [*range(16, -1, -1)]),
        ("loop", {"times": 3}, [*range(17)] * 3),
        ("loop", {"times": 2, "way": "there and back"},
         [*range(17), *range(15, -1, -1), *range(1, 17), *range(15, -1, -1)]),
    ],
)  # fmt: skip
def test_the_right_frames_come_out_in_the_right_order(
    folder: Path, tmp_path: Path, name: str, values: dict, order: list[int]
) -> None:
    made = edited(folder, tmp_path, name, **values)
    before, after = pixels(folder / "clip.mp4"), pixels(made.video)
    assert near(after, before[order])
    assert (made.frames, made.request["fps"], made.request["width"]) == (len(order), FPS, 96)
    assert all(Path(path).is_file() for path in (made.video, made.sidecar, made.poster))


def test_a_join_fades_from_one_clip_to_the_other(folder: Path, tmp_path: Path) -> None:
    made = edited(folder, tmp_path, "join", then={"path": str(folder / "other.mp4")}, fade=0.5)
    before, after = pixels(folder / "clip.mp4"), pixels(made.video)
    assert made.frames == len(after) == 17 + 24 - 6, "2 s of 10 a second are 24 frames of 12"
    assert near(after[:11], before[:11])
    assert "fitted to 96 × 64" in made.notes[0]
    green = (after[..., 1].astype(int) - after[..., 0]).clip(0).mean(axis=(1, 2))
    assert green[:11].max() < 1 and (np.diff(green[11:17]) > 0).all() and green[20] > 5
    cut = edited(folder, tmp_path, "join", then={"path": str(folder / "clip.mp4")}, fade=0)
    assert near(pixels(cut.video), np.concatenate([before, before]))


def test_a_clip_of_another_rate_keeps_its_pace_behind_the_first(folder: Path, tmp_path: Path) -> None:
    made = edited(folder, tmp_path, "join", then={"path": str(folder / "other.mp4")}, fade=0)
    second = pixels(made.video)[FRAMES:].astype(int)
    green = second[..., 1] - second[..., 0] > 60
    places = [np.nonzero(frame)[1].mean() for frame in green]
    assert len(second) == 24 and places[-1] - places[-4] > 4, "it still moves at its end"


def textured(frames: int, step: int) -> np.ndarray:
    """A patch of soft noise that goes to the right over another, `step` pixels a frame, uint8 [T,H,W,3]."""
    noise = np.random.default_rng(0).normal(size=(2, 96, 160, 3)).astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(one, (0, 0), 3) for one in noise])
    ground, patch = ((soft / np.abs(soft).max() * 0.5 + 0.5) * 255).astype(np.uint8)
    made = np.repeat(ground[None], frames, axis=0)
    for index in range(frames):
        made[index, 24:72, 20 + index * step : 68 + index * step] = patch[24:72, :48]
    return made


def test_frames_between_frames_follow_the_motion(tmp_path: Path) -> None:
    whole = textured(9, 4)
    write_clip(tmp_path / "five.mp4", whole[::2])
    made = edited(tmp_path, tmp_path, "smooth", clip="five.mp4", factor=2)
    assert made.frames == len(pixels(made.video)) == 9 and made.request["fps"] == 24
    after = np.stack([*flow.with_frames_between(iter(whole[::2]), 2)])
    blend = (whole[0:-2:2].astype(int) + whole[2::2]) / 2
    error = np.abs(after[1::2].astype(int) - whole[1::2]).mean()
    assert error < 0.4 * np.abs(blend - whole[1::2]).mean(), "far nearer to the true frame than a mere blend"
    slow = edited(tmp_path, tmp_path, "smooth", clip="five.mp4", factor=4, slow=True)
    assert (slow.frames, slow.request["fps"]) == (17, 12)


def test_frames_that_no_flow_explains_are_blended_not_torn() -> None:
    first, second = moving(2, 160, 96)
    (middle,) = flow.between(first, second, 2)
    truth = moving(3, 160, 96)[1]
    blend = (first.astype(int) + second) / 2
    assert np.abs(middle.astype(int) - truth).mean() <= 1.1 * np.abs(blend - truth).mean()


def test_a_cut_between_scenes_is_not_drawn_over() -> None:
    dark, bright = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 220, np.uint8)
    first, second, third = flow.between(dark, bright, 4)
    assert (first == dark).all() and (second == bright).all() and (third == bright).all()


def test_captions_stand_where_and_when_they_should(folder: Path, tmp_path: Path) -> None:
    before = pixels(folder / "clip.mp4")
    for place, rows in (("bottom", slice(44, 64)), ("top", slice(0, 20))):
        made = edited(folder, tmp_path, "captions", text="0-0.5: Hello\n0.5-1: Wörld", place=place, size=16)
        changed = np.abs(pixels(made.video).astype(int) - before).max(axis=3) > 60
        assert changed[0, rows].any() and changed[8, rows].any() and not changed[13].any()
        assert not changed[:, 22:42].any()
        assert (changed[1] != changed[8]).any(), "the words change"
    long = edited(folder, tmp_path, "captions", text="x" * 300 + " " + "words " * 80, size=30)
    assert long.frames == FRAMES, "what does not fit is cut, not refused"


def test_captions_in_the_middle_stand_there_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    made = edited(folder, tmp_path, "captions", text="Hello", place="middle", size=16)
    changed = np.abs(pixels(made.video).astype(int) - pixels(folder / "clip.mp4")).max(axis=3) > 60
    assert changed[:, 22:42].any() and not changed[:, :16].any() and not changed[:, 48:].any()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One line", [(0, float("inf"), "One line")]),
        ("0-2: A star.\n\n1:02.5 - 1:04 s: It falls", [(0, 2, "A star."), (62.5, 64, "It falls")]),
        ("1\n00:00:01,500 --> 00:00:02,000\n<i>Hi</i>\nyou\n\n2\n00:01:00,0 --> 00:01:01,0\nBye",
         [(1.5, 2, "Hi\nyou"), (60, 61, "Bye")]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nHi", [(1, 2, "Hi")]),
    ],
)  # fmt: skip
def test_captions_are_read_in_the_forms_people_have(text: str, found: list) -> None:
    assert captions.parse(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [("  ", "Write a caption"), ("0-2: a\nb", "Write each caption as"), ("0-2:  ", "without words"),
     ("2-1: a", "ends before it begins"), ("1 --> x\nHi", "no time"), ("1 --> 2\n\n", "no words")],
)  # fmt: skip
def test_captions_that_cannot_be_meant_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        captions.parse(text)


@pytest.mark.parametrize("form", ["gif", "webp", "avif"])
def test_an_exported_picture_moves_as_the_clip_does_and_says_what_it_is(
    folder: Path, tmp_path: Path, form: str
) -> None:
    made = edited(folder, tmp_path, "export", format=form, side=48, rate=6)
    with Image.open(made.video) as picture:
        assert picture.format.lower() == form and picture.size == (48, 32)
        assert made.frames == 8 and 7 <= picture.n_frames <= 8
        length = 0
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            length += picture.info.get("duration", 0)
        assert abs(length - 8 / 6 * 1000) < 120 or form == "avif"
        if form == "gif":
            assert metadata.parse(picture.info["comment"].decode()).prompt == "a star"
            assert gif_mark(Path(made.video)) == XMP.encode() and picture.info["loop"] == 0
        else:
            assert XMP.encode() in picture.info["xmp"]
    assert metadata.read(Path(made.video)).engine == "edit/export"


def test_an_export_of_low_quality_takes_less_of_the_disk(folder: Path, tmp_path: Path) -> None:
    low, high = (
        Path(edited(folder, tmp_path, "export", format="webp", quality=quality).video).stat().st_size
        for quality in (5, 95)
    )
    assert low < 0.7 * high


def test_an_edit_says_what_it_was_made_from_and_keeps_the_mark(folder: Path, tmp_path: Path) -> None:
    made = edited(folder, tmp_path, "trim", end=1)
    told = metadata.read(Path(made.video))
    assert (told.engine, told.prompt, told.seed) == ("edit/trim", "a star", 3)
    assert told.parameters["end"] == 1 and told.parameters["clip"]["path"] == "clip.mp4"
    assert told.made_from[0]["engine"] == "phantom-wan" and len(told.inputs[0]["sha256"]) == 64
    assert is_marked(Path(made.video)) and made.request["prompt"] == "a star" and made.request["seed"] == 3
    again = edited(tmp_path, tmp_path / "again", "reverse", clip=Path(made.video).name)
    assert metadata.read(Path(again.video)).made_from[0]["made_from"][0]["engine"] == "phantom-wan"
    assert str(tmp_path) not in Path(made.sidecar).read_text()


@pytest.mark.parametrize(("name", "values"), [("trim", {"end": 1}), ("sound", {}), ("export", {"format": "gif"})])
def test_an_edit_that_is_to_tell_nothing_tells_it_beside_alone(
    folder: Path, tmp_path: Path, name: str, values: dict
) -> None:
    given = {"sound": {"path": str(folder / "tone.wav")}} if name == "sound" else values
    made = edited(folder, tmp_path, name, inside=False, **given)
    for file in (made.video, made.poster):
        assert not any(word in Path(file).read_bytes() for word in (b"a star", b"kinora.video")), file
    assert metadata.parse(Path(made.sidecar).read_text()).prompt == "a star"


def test_an_edit_of_what_no_generator_made_bears_no_mark(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "camera.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(5, 64, 48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    made = edited(tmp_path, tmp_path / "out", "reverse", clip="camera.mp4")
    assert not is_marked(Path(made.video)) and "seed" not in made.request
    assert "algorithmic" not in Path(made.poster).read_bytes().decode("latin-1").lower()


def unmarked(path: Path, pictures: np.ndarray, **tags: str) -> Path:
    """A clip that bears no mark, with these tags."""
    writer = VideoWriter(path, fps=FPS, tags=tags, marked=False)
    writer.write(pictures)
    writer.close()
    assert not is_marked(path)
    return path


def test_one_generated_clip_of_two_marks_what_is_made_of_both(folder: Path, tmp_path: Path) -> None:
    unmarked(tmp_path / "camera.mp4", moving(9, 96, 64))
    made = edited(tmp_path, tmp_path / "out", "join", clip="camera.mp4", then={"path": str(folder / "clip.mp4")})
    assert is_marked(Path(made.video))


def test_a_clip_that_says_how_it_was_generated_needs_no_mark_to_give_one(tmp_path: Path) -> None:
    unmarked(tmp_path / "a.mp4", moving(5, 96, 64), comment=TOLD.model_dump_json())
    assert is_marked(Path(edited(tmp_path, tmp_path / "out", "reverse", clip="a.mp4").video))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("trim", {"start": 2, "end": 1}, "before it begins"),
        ("trim", {"start": -1}, "between 0 and 600"),
        ("loop", {"times": 21}, "between 1 and 20"),
        ("loop", {"way": "sideways"}, "'again' or 'there and back'"),
        ("join", {}, "Choose the clip that follows"),
        ("sound", {"sound": {"path": "gone.wav"}}, "There is no file"),
        ("captions", {"text": ""}, "Write a caption"),
        ("export", {"format": "bmp"}, "'gif', 'webp' or 'avif'"),
        ("trim", {"begin": 1}, "There is no setting"),
        ("reverse", {"clip": None}, "Choose the clip to edit"),
        ("reverse", {"clip": {"path": __file__}}, "is not a video"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_read(folder: Path, name: str, values: dict, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        spec.build(spec.find(name), {"clip": {"path": str(folder / "clip.mp4")}} | values)


def test_there_is_no_such_edit() -> None:
    for name in ("sing", "", None, "edit/"):
        with pytest.raises(InvalidRequest, match="There is no edit"):
            spec.find(name)
    assert spec.find("edit/trim") is spec.find("trim") and spec.of_job("trim") is None


def test_what_goes_wrong_later_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "silent.wav").write_bytes((folder / "tone.wav").read_bytes()[:30])
    for name, values, said in (
        ("trim", {"start": 5}, "begin earlier"),
        ("sound", {"sound": {"path": str(folder / "clip.mp4")}}, "no sound"),
        ("sound", {"sound": {"path": str(tmp_path / "silent.wav")}}, "no sound"),
        ("sound", {"sound": {"path": str(folder / "tone.wav")}, "start": 3}, "after the end"),
        ("upscale", {"network": {"path": str(folder / "tone.wav")}}, "not a network|two more packages"),
    ):
        with pytest.raises(StudioError, match=said):
            edited(folder, tmp_path / "out", name, **values)
        assert [*(tmp_path / "out").iterdir()] == []
    cut = (folder / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: len(cut) * 2 // 3])
    with pytest.raises((MediaError, InvalidRequest)):
        edited(tmp_path, tmp_path / "out", "reverse", clip="cut.mp4")
    asked = spec.build(spec.find("loop"), {"clip": {"path": str(folder / "clip.mp4")}, "times": 20})
    running = runner.run(spec.find("loop"), asked, output_dir=tmp_path / "out", job_id="x", session=lambda: None)
    while not isinstance(next(running), Step):
        continue
    running.close()
    assert [*(tmp_path / "out").iterdir()] == []


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package with what it imports of torchvision, which no network of the ESRGAN family uses.

    torchvision's builds are bound to one build of torch, so it cannot be asked for here.
    """
    pytest.importorskip("einops")
    if "torchvision" not in sys.modules:
        functional = types.ModuleType("torchvision.transforms.functional")
        functional.InterpolationMode = functional.rotate = functional.normalize = object
        for name in ("torchvision", "torchvision.transforms"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, functional.__name__, functional)
    return pytest.importorskip("spandrel")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_clip_is_enlarged_by_a_network_of_the_esrgan_family(
    spandrel: Any, folder: Path, tmp_path: Path, suffix: str
) -> None:
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    torch.manual_seed(0)
    network = RRDBNet(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=2)
    path = tmp_path / f"tiny{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": network.state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    session = Session("cpu", store=Store(models=tmp_path))
    made = edited(folder, tmp_path / "out", "upscale", network={"path": str(path)}, session=lambda: session)
    after = pixels(made.video)
    assert after.shape == (FRAMES, 128, 192, 3) and "2 times" in made.notes[0]
    frame = next(read_frames(folder / "clip.mp4"))
    with torch.inference_mode():
        whole = network.eval()(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255)
    wanted = (whole[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    assert near(after[0], wanted, most=3)
    (held,) = session.status().components
    assert held.key.startswith("upscaler/")


def test_tiles_of_an_enlarged_frame_leave_no_seams() -> None:
    def network(seen: torch.Tensor) -> torch.Tensor:
        soft = torch.nn.functional.avg_pool2d(seen, 5, stride=1, padding=2, count_include_pad=False)
        return torch.nn.functional.interpolate(soft, scale_factor=2)

    frame = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    told = {"scale": 2, "device": torch.device("cpu"), "dtype": torch.float32}
    whole, tiled = (upscaling.enlarged(frame, network, tile=tile, **told) for tile in (512, 64))
    assert whole.shape == (200, 300, 3) and np.array_equal(whole, tiled)


def test_files_that_are_no_upscalers_are_refused(spandrel: Any, folder: Path, tmp_path: Path) -> None:
    session = Session("cpu", store=Store(models=tmp_path))
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("I am no network")
    (tmp_path / "evil.pth").write_bytes(b"cos\nsystem\n(S'touch gone'\ntR.")
    for name in ("other.pth", "text.pth", "evil.pth"):
        with pytest.raises(IncompatibleCheckpoint, match="not a network that enlarges"):
            edited(folder, tmp_path / "o", "upscale", network={"path": str(tmp_path / name)}, session=lambda: session)


def test_a_source_is_read_upright_and_counted(folder: Path) -> None:
    source = open_source(folder / "other.mp4")
    assert (source.size, source.fps, source.count, source.has_sound) == ((64, 96), Fraction(10), 20, False)
    assert near(np.stack([*source.backwards()])[::-1], np.stack([*source.frames()]), most=0.01)


def recorded(path: Path, steps: list[int], *, sound: bool) -> Path:
    """A recording whose frames are shown for so many 30ths of a second each, every one brighter than the last."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "h264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        heard = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000, layout="stereo")
        now = 0
        for number, step in enumerate(steps):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 4 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base, now = now, Fraction(1, 30), now + step
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            for start in range(0, now * 1600, 960):
                frame = av.AudioFrame.from_ndarray(np.full((2, 960), 0.1, np.float32), format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(heard.encode(frame))
            container.mux(heard.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_recording_whose_rate_changes_keeps_its_times(name: str, tmp_path: Path) -> None:
    """A second at 30 frames, then three at 5, as screens and telephones record."""
    recorded(tmp_path / name, [1] * 30 + [6] * 15, sound=True)
    source = open_source(tmp_path / name)
    assert source.seconds == pytest.approx(4, abs=0.05)
    assert len(source.sound()) == pytest.approx(4 * SOUND_RATE, rel=0.02)
    levels = [int(frame[32, 32, 0]) for frame in source.frames()]
    assert len(levels) == source.count and levels == sorted(levels)
    for seconds, number in ((0.5, 15), (1.05, 30), (2.1, 35), (3.9, 44)):
        assert levels[int(seconds * source.fps)] == pytest.approx(20 + 4 * number, abs=3), seconds
    clip = edited(tmp_path, tmp_path, "trim", clip=name, start=2.0)
    assert clip.frames / source.fps == pytest.approx(2, abs=0.05)
    backwards = [*read_frames(Path(edited(tmp_path, tmp_path, "reverse", clip=name).video))]
    assert len(backwards) == source.count and backwards[0].mean() > backwards[-1].mean()


def test_a_recording_with_a_shaking_clock_keeps_its_frames(tmp_path: Path) -> None:
    source = open_source(recorded(tmp_path / "a.mp4", [2, 3, 2, 1, 2, 2, 3, 1] * 3, sound=False))
    assert source.count == 24 and source.shown is None and float(source.fps) == pytest.approx(15, abs=0.7)
