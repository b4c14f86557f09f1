"""What a request declares of its files: kinds and parts, their checks, and names that reach a part of a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engines.errors import InvalidRequest, Problem
from engines.inputs import PICTURES, TYPES, Adapter, GivenClip, Reference, files, media, media_fields, with_parts
from engines.media.clips import ClipFacts, clip_problem, look_at
from engines.phantom_wan.spec import PHANTOM_WAN
from engines.registry import SPECS
from engines.request import Request
from engines.types import EngineSpec
from engines.validation import build_request


class Everything(Request):
    """One field of every kind."""

    subjects: tuple[Reference, ...] = media(
        "subject", label="Subjects", help="Who acts.", parts=("keep_background",), most=2
    )
    start: Reference | None = media("first frame", label="Start", help="Where it begins.", parts=("position",))
    mask: Reference | None = media("mask", label="Mask", help="What stays.")
    clip: GivenClip | None = media("clip", label="Clip", help="What goes on.", parts=("moment",))
    earlier: Path | None = media("earlier job", label="Earlier", help="What goes on.", suffix=".bin")
    adapter: Adapter | None = media("adapter", label="Adapter", help="How it looks.", parts=("strength",))


MODEL = replace(PHANTOM_WAN.models[0], defaults={"width": 96, "height": 64, "frames": 9})
SPEC: EngineSpec = replace(
    PHANTOM_WAN, name="everything", models=(MODEL,), request_type=Everything, check=lambda request, model: []
)
GOOD = {"prompt": "x"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "fox.png")
    return tmp_path / "fox.png"


def write_video(path: Path, codec: str = "libx264", *, frames: int = 7) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            pixels = np.full((48, 64, 3), 200 * index // frames, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def problems(values: dict[str, Any], spec: EngineSpec = SPEC) -> list[Problem]:
    with pytest.raises(InvalidRequest) as caught:
        build_request(spec, GOOD | values)
    return list(caught.value.problems)


@pytest.mark.parametrize("spec", [*SPECS.values(), SPEC], ids=lambda spec: spec.name)
def test_a_field_holds_the_type_of_its_kind(spec: EngineSpec) -> None:
    for name, declared in media_fields(spec.request_type).items():
        kind = TYPES[declared.kind]
        expected = tuple[kind, ...] if declared.most > 1 else kind | None
        assert spec.request_type.model_fields[name].annotation == expected
        assert not declared.as_published or spec.request_type.model_fields[declared.as_published].annotation is bool


def test_a_part_that_the_kind_does_not_have_cannot_be_declared() -> None:
    with pytest.raises(KeyError):
        media("clip", label="Clip", help="", parts=("position",))


def test_every_file_of_a_request_is_found(picture: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    request = build_request(
        SPEC, GOOD | {"subjects": [{"path": picture}] * 2, "clip": {"path": clip}, "earlier": tmp_path / "x.bin"}
    )
    assert [(name, declared.kind) for name, declared, _ in files(request)] == [
        ("subjects", "subject"), ("subjects", "subject"), ("clip", "clip"), ("earlier", "earlier job")
    ]  # fmt: skip
    assert list(media_fields(Everything, *PICTURES)) == ["subjects", "start", "mask"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"start.position": "0.25"}, {"start": {"path": "a", "position": "0.25"}}),
        ({"subjects.2.keep_background": "no"}, {"subjects": [{"path": "b"}, {"path": "c", "keep_background": "no"}]}),
        (
            {"subjects.keep_background": False},
            {"subjects": [{"path": name, "keep_background": False} for name in "bc"]},
        ),
        ({"subjects.3.keep_background": "no"}, {"subjects.3.keep_background": "no"}),
        ({"subjects.0.keep_background": "no"}, {"subjects.0.keep_background": "no"}),
        ({"clip.moment": 1}, {"clip.moment": 1}),
        ({"start.path": "/etc/passwd"}, {"start.path": "/etc/passwd"}),
        ({"steps.position": 1}, {"steps.position": 1}),
        ({"start.": 1}, {"start": {"path": "a", "": 1}}),
    ],
)
def test_names_reach_the_parts_of_files(more: dict[str, Any], expected: dict[str, Any]) -> None:
    given = {"start": {"path": "a"}, "subjects": [{"path": "b"}, {"path": "c"}]}
    before = repr(given)
    assert with_parts(Everything, given | more) == given | expected
    assert repr(given) == before, "what was given stays as it is"


def test_parts_come_out_of_the_request_as_they_were_given(picture: Path) -> None:
    values = {"subjects": [{"path": picture}], "subjects.1.keep_background": "no", "start": {"path": picture}}
    request = build_request(SPEC, GOOD | values | {"start.position": "0.25"})
    assert (request.subjects[0].keep_background, request.start.position) == (False, 0.25)


def test_parts_that_an_engine_does_not_obey_are_refused_unless_nothing_is_changed(picture: Path) -> None:
    request = build_request(SPEC, GOOD | {"mask": {"path": picture, "position": 0.5, "keep_background": True}})
    assert request.mask.path == picture
    assert problems({"mask": {"path": picture, "position": 0.2}}) == [
        Problem("mask", 'Mask has no setting "position" in this engine: leave it out.')
    ]
    assert problems({"subjects": [{"path": picture}] * 3}) == [
        Problem("subjects", "Use at most 2 subjects; you gave 3.")
    ]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"start": {"path": "none.png"}}, "start", 'There is no picture "none.png"'),
        ({"clip": {"path": "none.mp4"}}, "clip", 'There is no video "none.mp4"'),
        ({"adapter": {"path": "none.safetensors"}}, "adapter", 'There is no file "none.safetensors"'),
        ({"adapter": {"path": "fox.png", "strength": 9}}, "adapter", 'has a "strength" that cannot be 9'),
        ({"clip": {"path": "fox.png"}}, "clip", '"fox.png" is a PNG picture, not a video: choose an MP4'),
        ({"clip": "fox.png"}, "clip", 'Clip must be an object with a "path"; you gave "fox.png".'),
        ({"subjects": "fox.png"}, "subjects", 'Subjects must be a list; you gave "fox.png".'),
        ({"earlier": 5}, "earlier", "Earlier must be the name of a file; you gave 5."),
        ({"clip.moment": 0}, "clip", 'There is no file for "clip.moment": give it as "clip" first.'),
    ],
)
def test_files_are_checked_by_what_their_field_says(
    values: dict[str, Any], field: str, words: str, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(picture.parent)
    (problem,) = problems(values)
    assert problem.field == field and words in problem.message and str(picture.parent) not in problem.message


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"),
     ("a.ts", "libx264")],
)  # fmt: skip
def test_videos_are_told_by_their_bytes(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, codec)
    assert look_at(path) == ClipFacts(64, 48, 8.0, 7)
    assert clip_problem(path.rename(tmp_path / "video.png")) is None, "whatever its name says"


def test_what_is_no_video_is_one_sentence(tmp_path: Path, picture: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:300])
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (tmp_path / "list2.mp4").write_text("ffconcat version 1.0\nfile 'whole.mp4'\n")
    (tmp_path / "empty.mp4").touch()
    write_sound(tmp_path / "sound.mp4")
    expected = {
        "cut.mp4": "is damaged", "list.mp4": "is not a video, whatever its name says", "list2.mp4": "is not a video",
        "empty.mp4": "is empty", "sound.mp4": "has sound but no picture", "fox.png": "is a PNG picture, not a video",
        "none.mp4": "There is no video", ".": "is not a file",
    }  # fmt: skip
    for name, words in expected.items():
        problem = clip_problem(tmp_path / name)
        assert problem is not None and words in problem
        assert problem.endswith(".") and problem.count("\n") == 0 and str(tmp_path) not in problem
