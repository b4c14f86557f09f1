"""Settings read from videos of Kinora, Wan2GP, ComfyUI, VHS and SD.Next; and from files that mean no good."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engines.errors import MediaError
from engines.media import comfy, foreign
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


# The same graph as it was drawn, saved without the form that was run; and one whose numbers come through links.
DRAWN = {
    "nodes": [
        {"id": 3, "type": "KSampler", "widgets_values": [42, "randomize", 20, 6.0, "uni_pc", "simple", 1],
         "inputs": [{"name": "positive", "link": 4}, {"name": "negative", "link": 6}, {"name": "model", "link": None}]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a robot dances"]},
        {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["ugly"]},
        {"id": 30, "type": "ImageResize", "widgets_values": [64, 64]},
        {"id": 40, "type": "WanImageToVideo", "widgets_values": [832, 480, 33, 1]},
        {"id": 48, "type": "ModelSamplingSD3", "widgets_values": [8]},
        {"id": 50, "type": "VHS_VideoCombine", "widgets_values": {"frame_rate": 16, "filename_prefix": "/secret/clip"}},
        {"id": 51, "type": "SomebodysOwn", "widgets_values": [1, 2]},
    ],
    "links": [[4, 6, 0, 3, 1, "CONDITIONING"], [6, 7, 0, 3, 2, "CONDITIONING"], ["odd"], None],
}  # fmt: skip
LINKED = GRAPH | {
    "2": {"class_type": "LoadImage", "inputs": {"width": 9, "height": 9, "seed": 1}},
    "3": {"class_type": "KSampler", "inputs": GRAPH["3"]["inputs"] | {"seed": ["60", 0], "steps": ["3", 0]}},
    "50": {"class_type": "CreateVideo", "inputs": {"fps": ["61", 0]}},
    "60": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
    "61": {"class_type": "PrimitiveFloat", "inputs": {"value": 24.0}},
    "62": {"class_type": "BasicScheduler", "inputs": {"steps": 20}},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".png"])
@pytest.mark.parametrize(
    ("tags", "settings"),
    [
        ({"workflow": json.dumps(DRAWN)}, COMFY | {"fps": 16}),
        ({"prompt": "", "workflow": json.dumps(DRAWN)}, COMFY | {"fps": 16}),
        ({"prompt": json.dumps(LINKED), "workflow": json.dumps(DRAWN)}, COMFY | {"fps": 24}),
        ({"workflow": json.dumps({"nodes": [{"id": 1, "type": "SomebodysOwn", "widgets_values": [3]}]})}, {}),
    ],
    ids=["drawn", "empty", "linked", "unknown"],
)
def test_a_graph_is_read_as_it_was_run_or_drawn(tmp_path: Path, suffix: str, tags: dict, settings: dict) -> None:
    path = tmp_path / f"clip{suffix}"
    told = foreign.read(picture(path, tags) if suffix == ".png" else video(path, tags, custom=True))
    assert told is not None and (told.program, told.settings) == ("ComfyUI", settings)
    assert "secret" not in json.dumps(told.settings)


def picture(path: Path, tags: dict[str, str]) -> Path:
    """A small PNG file with these texts."""
    texts = PngInfo()
    for name, text in tags.items():
        texts.add_text(name, text, zip=len(text) > 500)
    Image.new("RGB", (8, 8)).save(path, pnginfo=texts)
    return path


@pytest.mark.parametrize(
    "drawn",
    [
        {"nodes": 3}, {"nodes": []}, {"nodes": [None, 3, {"type": 4}, {"id": 1}]},
        {"nodes": [{"type": "KSampler"}] * 5000},
        {"nodes": [{"id": 1, "type": "KSampler", "widgets_values": [[["x"]], {}, None, True]}], "links": {"a": 1}},
        {"nodes": [{"id": 1, "type": "KSampler", "inputs": [{"name": "positive", "link": 1}]}], "links": [[1, 1, 0]]},
    ],
)  # fmt: skip
def test_graphs_that_mean_no_good_tell_nothing(tmp_path: Path, drawn: Any) -> None:
    for path in (picture(tmp_path / "a.png", {"workflow": json.dumps(drawn)}),):
        told = foreign.read(path)
        assert told is None or told.settings == {}
    (tmp_path / "b.png").write_bytes(path.read_bytes()[:20])
    with pytest.raises(MediaError, match="damaged"):
        foreign.read(tmp_path / "b.png")


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


def test_nodes_that_link_to_themselves_cost_little(tmp_path: Path) -> None:
    loop = {"class_type": "X", "inputs": {name: ["1", 0] for name in comfy._TEXTS}}
    graph = {"1": loop, "2": {"class_type": "K", "inputs": {"positive": ["1", 0], "seed": ["1", 0]}}}
    begun = time.monotonic()
    assert comfy.settings(graph, text=str, number=lambda _: None) == {}
    assert time.monotonic() - begun < 5, "seven ways at each of nine levels are forty million"
