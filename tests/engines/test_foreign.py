"""Settings read from videos of Kinora, Wan2GP, ComfyUI, VHS and SD.Next; and from files that mean no good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engines.errors import MediaError
from engines.media import foreign
from engines.media.marking import is_marked
from engines.media.metadata import Metadata
from engines.media.stripping import strip
from engines.media.video import read_frames
from tests.studio.kept_clips import moving, write_clip

OURS = Metadata(engine="phantom-wan", model="starter", parameters={"seed": 3, "steps": 9}, prompt="a star", seed=3)
WAN2GP = {
    "type": "WanGP v12.61", "prompt": "a fox runs", "negative_prompt": "blurry", "resolution": "832x480",
    "video_length": 81, "num_inference_steps": 30, "seed": 123456789, "guidance_scale": 5.5, "flow_shift": 7,
    "model_type": "t2v_1.3B", "image_start": "/secret/picture.png", "settings_version": 2.3,
}  # fmt: skip
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 42, "steps": 20, "cfg": 6.0, "positive": ["6", 0],
                                               "negative": ["7", 0], "model": ["48", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["38", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["38", 0]}},
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "a robot dances"}},
    "40": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 832, "height": 480, "length": 33}},
    "48": {"class_type": "ModelSamplingSD3", "inputs": {"shift": 8.0}},
}  # fmt: skip
SAID = "a cat sleeps\nNegative prompt: noise\nSteps: 25, Sampler: UniPC, Seed: 77, Size: 704x512, CFG scale: 4.5"


def video(path: Path, tags: dict[str, str], *, custom: bool = False) -> Path:
    """A small video with these tags, as players see them or under names of any kind."""
    flags = "use_metadata_tags+faststart" if custom else "faststart"
    with av.open(str(path), "w", options={"movflags": flags} if path.suffix == ".mp4" else {}) as container:
        container.metadata.update(tags)
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in moving(3, 64, 48):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


COMFY = {
    "prompt": "a robot dances", "negative_prompt": "ugly", "seed": 42, "steps": 20, "guidance_scale": 6.0, "width": 832,
    "height": 480, "frames": 33, "shift": 8.0,
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("tags", "custom", "program", "settings"),
    [
        ({"comment": json.dumps(WAN2GP)}, False, "Wan2GP",
         {"prompt": "a fox runs", "negative_prompt": "blurry", "seed": 123456789, "steps": 30, "frames": 81,
          "guidance_scale": 5.5, "shift": 7.0, "width": 832, "height": 480}),
        ({"prompt": json.dumps(GRAPH), "workflow": "{}"}, True, "ComfyUI", COMFY),
        ({"comment": json.dumps({"prompt": json.dumps(GRAPH), "workflow": {}})}, False, "ComfyUI", COMFY),
        ({"comment": json.dumps({"prompt": GRAPH})}, False, "ComfyUI", COMFY),
        ({"comment": SAID, "title": "x"}, False, "SD.Next",
         {"prompt": "a cat sleeps", "negative_prompt": "noise", "steps": 25, "seed": 77, "guidance_scale": 4.5,
          "width": 704, "height": 512}),
    ],
    ids=["wan2gp", "comfyui", "vhs", "vhs-object", "sdnext"],
)  # fmt: skip
def test_videos_of_other_programs_tell_their_settings(
    tmp_path: Path, suffix: str, tags: dict, custom: bool, program: str, settings: dict
) -> None:
    told = foreign.read(video(tmp_path / f"clip{suffix}", tags, custom=custom))
    assert (told.program, told.settings) == (program, settings)


def test_our_own_videos_tell_everything(tmp_path: Path) -> None:
    text = OURS.model_dump_json()
    for tags, custom in (({"comment": text}, False), ({"comment": text}, True), ({"kinora": text}, True)):
        told = foreign.read(video(tmp_path / "clip.mp4", tags, custom=custom))
        assert told.own == OURS and told.program == "Kinora"


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "{", "[]", "null", "{}", '{"prompt": 3, "video_length": 81}', "[" * 60_000, '{"a":' * 9_000,
        json.dumps({"prompt": {"1": {"class_type": 3, "inputs": [1]}}}),
        json.dumps({"schema_name": "kinora.video", "seed": "x"}),
        json.dumps({"1": {"class_type": "A", "inputs": {"positive": ["1", 0], "text": ["1", 0]}}}),
    ],
)  # fmt: skip
def test_what_means_nothing_tells_nothing(tmp_path: Path, text: str) -> None:
    told = foreign.read(video(tmp_path / "clip.mp4", {"comment": text}))
    assert told is None or told.settings in ({}, {"frames": 81})


@pytest.mark.parametrize(
    "odd",
    [{"seed": float("inf")}, {"seed": "9" * 400}, {"seed": True}, {"seed": [1]}, {"guidance_scale": "1e999"}],
)
def test_only_finite_numbers_and_plain_texts_are_taken(tmp_path: Path, odd: dict[str, Any]) -> None:
    values = {"prompt": "a\x07b\x00 <b>", "video_length": 5, "model_type": "t"} | odd
    told = foreign.read(video(tmp_path / "clip.mp4", {"comment": json.dumps(values)}))
    assert told.settings == {"prompt": "a b  <b>", "frames": 5}
    assert "picture" not in json.dumps(foreign._of_wan2gp(WAN2GP)), "no path is taken"


def test_a_file_that_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("I am no video")
    with pytest.raises(MediaError, match="is not a video"):
        foreign.read(tmp_path / "a.mp4")
    huge = "x" * 2_000_000
    told = foreign.read(video(tmp_path / "b.mp4", {"comment": json.dumps(WAN2GP | {"note": huge})}))
    assert told is None, "no program writes so much"


def test_a_clip_can_be_given_away_without_its_settings(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", moving(9, 64, 48), comment=OURS.model_dump_json())
    strip(source, tmp_path / "bare.mp4")
    assert foreign.read(source).own == OURS and foreign.read(tmp_path / "bare.mp4") is None
    content = (tmp_path / "bare.mp4").read_bytes()
    assert b"a star" not in content and b"kinora" not in content.lower()
    assert is_marked(tmp_path / "bare.mp4"), "that a generator made it is still said"
    frames = [np.stack(list(read_frames(path))) for path in (source, tmp_path / "bare.mp4")]
    assert (frames[0] == frames[1]).all()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError):
        strip(tmp_path / "text.mp4", tmp_path / "no.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "bare.mp4", "text.mp4"}
