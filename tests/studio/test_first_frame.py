"""The one picture of image-to-video on the page: its crop is shown, whatever picture it is."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.inputs import media_fields
from engines.phantom_physics.engine import beginning
from engines.registry import SPECS
from engines.validation import build_request
from studio.page import first_frame
from studio.page.uploads import served

SPEC = SPECS["flashi2v"]
DECLARED = media_fields(SPEC.request_type)["picture"]


def view(path: Path, position: float = 50, *, width: int = 96, height: int = 64) -> first_frame.CropView:
    return first_frame.crop_view(str(path), width=width, height=height, position=position / 100)


def drawn(seen: first_frame.CropView) -> np.ndarray:
    data = re.search(r"base64,([^\"]+)", seen.html)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def picture(kind: str, path: Path) -> Path:
    """A picture of this kind that is white wherever it is seen."""
    white = {"16-bit": ("I;16", 65535), "grey": ("L", 255), "clear": ("RGBA", (9, 9, 9, 0))}
    mode, colour = white.get(kind, ("RGB", "white"))
    size = {"tiny": (16, 17), "enormous": (9000, 7000), "tall": (200, 900), "wide": (900, 200)}.get(kind, (300, 300))
    image, exif = Image.new(mode, size, colour), Image.Exif()
    if kind == "rotated":
        image, exif[0x0112] = Image.new(mode, (900, 200), colour), 6
    if kind == "clear":
        image.putpixel((0, 0), (255, 255, 255, 255))  # a picture of which nothing can be seen is refused
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["tall", "wide", "square", "tiny", "enormous", "16-bit", "grey", "clear", "rotated"])
def test_every_picture_shows_its_crop(kind: str, tmp_path: Path) -> None:
    path = picture(kind, tmp_path / "picture.png")
    seen = view(path)
    pixels = drawn(seen)
    bright = (pixels > 250).all(-1)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    shape = (columns[-1] - columns[0] + 1) / (rows[-1] - rows[0] + 1)
    assert shape == pytest.approx(96 / 64, rel=0.05), "the frame of the clip"
    assert (pixels[~bright] < 120).all(), "what is cut off is dark"
    assert seen.movable
    assert ("enlarged" in seen.html) == (kind == "tiny")
    tall = kind in ("tall", "rotated")
    assert (pixels.shape[0] > 1.5 * pixels.shape[1]) == tall, "turned as the camera was held"
    request = build_request(SPEC, {"prompt": "x", "picture": {"path": path}})
    assert request.picture.position == 0.5


def test_the_frame_goes_where_it_is_put(tmp_path: Path) -> None:
    path = picture("wide", tmp_path / "wide.png")
    left, right = (drawn(view(path, position)) for position in (0, 100))
    assert left[20, 5].min() > 250 > 120 > left[20, -5].max()
    assert right[20, -5].min() > 250 > 120 > right[20, 5].max()
    assert "67 % of the picture is cut off" in view(path).html


def test_a_picture_of_the_frames_shape_is_whole(tmp_path: Path) -> None:
    Image.new("RGB", (192, 128), "white").save(tmp_path / "whole.png")
    seen = view(tmp_path / "whole.png")
    assert "whole picture" in seen.html and not seen.movable
    assert (drawn(seen) > 250).all()


def test_what_is_no_picture_is_told_in_place_of_the_crop(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("I am no picture.")
    html = view(tmp_path / "text.png").html
    assert "is not a picture" in html and str(tmp_path) not in html


def test_values_pass_through_the_components(picture: Path) -> None:
    shown = first_frame.show({"path": str(picture), "position": 0.25}, DECLARED)
    back = first_frame.read([{"path": shown[0]}, shown[1]], DECLARED)
    assert back["position"] == 0.25
    assert Path(back["path"]).read_bytes() == picture.read_bytes()
    assert first_frame.read([None, 25], DECLARED) is None
    assert first_frame.read([{"path": str(picture)}, 25], DECLARED) is None, "a file of this machine is no upload"
    assert first_frame.show(None, DECLARED) == [None, 50]
    assert first_frame.show({"path": "gone.png"}, DECLARED)[0] is None


@pytest.mark.parametrize("position", [None, "left", -1, 101, float("nan"), []])
def test_a_position_that_is_none_is_the_middle(position: object, picture: Path) -> None:
    assert first_frame.read([{"path": served(picture)}, position], DECLARED)["position"] == 0.5


@pytest.mark.parametrize(
    ("size", "where"),
    [((400, 300), 0.5), ((300, 300), 0.5), ((900, 200), 0.5), ((300, 450), 0.22), ((300, 900), 0.27)],
)
def test_an_upright_picture_begins_at_its_upper_third(size: tuple[int, int], where: float, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", size, "white").save(path)
    (held,) = [first_frame.begin(DECLARED, {"path": served(path)}, "96x64")]
    assert first_frame.start_position(size, width=96, height=64) == pytest.approx(where, abs=0.05)
    assert held == pytest.approx(100 * where, abs=5)
    assert first_frame.begin(DECLARED, None, "96x64") == 50
    assert first_frame.begin(DECLARED, {"path": served(path)}, "wide") == 50


PHYSICS = media_fields(SPECS["phantom-physics"].request_type)["picture"]


@pytest.mark.parametrize("kind", ["tall", "wide", "square", "tiny", "rotated"])
def test_a_picture_whose_shape_is_kept_is_shown_as_the_clip_begins(kind: str, tmp_path: Path) -> None:
    """What the engine makes of it, and no word of a frame that could be dragged."""
    path = picture(kind, tmp_path / "picture.png")
    seen = first_frame.crop_view(str(path), width=832, height=480, shape=PHYSICS.shape)
    request = build_request(SPECS["phantom-physics"], {"model": "5B", "prompt": "x", "picture": {"path": path}})
    (frame,), _ = beginning(request)
    assert f"is {frame.shape[1]} × {frame.shape[0]}" in seen.html
    pixels = drawn(seen)
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(frame.shape[1] / frame.shape[0], rel=0.02)
    assert (pixels > 250).all() and not seen.movable and "Drag" not in seen.html and "data-wide" not in seen.html
