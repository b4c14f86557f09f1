"""Strokes that mend a cut-out: read, refused in a sentence, drawn over the mask, obeyed where a subject is cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from engines.errors import InvalidRequest
from engines.media import brush
from engines.media.framing import as_seen, boxed_subject, cut_out, silhouette
from engines.registry import SPECS
from engines.validation import build_request

REFUSED = {
    "words": "left of the head", "no sign": "3 40,10", "no point": "+3", "half a point": "+3 40",
    "outside": "+3 140,10", "no radius": "+0 4,4", "below": "+3 -4,4", "too fine": "+3 4.123,4",
    "not a number": "+3 nan,4", "a second sign": "++3 4,4",
}  # fmt: skip


@pytest.fixture
def scene() -> Image.Image:
    """A red disc on a light wall."""
    image = Image.new("RGB", (300, 200), (200, 205, 200))
    ImageDraw.Draw(image).ellipse((100, 30, 200, 130), fill=(200, 60, 40))
    return image


def is_white(image: Image.Image, x: int, y: int) -> bool:
    return image.getpixel((x, y)) == (255, 255, 255)


def test_strokes_are_read_as_they_are_written() -> None:
    first, second = brush.parse(" +3 40.5,10 42,12.25;-8 90,90; ")
    assert first == (True, 3.0, ((40.5, 10.0), (42.0, 12.25)))
    assert second == (False, 8.0, ((90.0, 90.0),))
    assert brush.parse("") == brush.parse(" ; ") == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_stroke_is_one_sentence(case: str) -> None:
    with pytest.raises(ValueError, match="Write a stroke of the brush as"):
        brush.parse(f"+3 1,1; {REFUSED[case]}")


def test_strokes_add_and_take_away_and_the_last_one_counts(scene: Image.Image) -> None:
    plain = cut_out(scene).image
    assert not is_white(plain, 150, 80) and is_white(plain, 20, 20)
    added = cut_out(scene, "+5 5,10 15,10").image
    assert added.getpixel((20, 20)) == scene.getpixel((20, 20)) and is_white(added, 20, 120)
    assert not is_white(added, 150, 80), "the rest stays"
    taken = cut_out(scene, "+5 5,10; -9 5,10; -10 50,40").image
    assert is_white(taken, 15, 20) and is_white(taken, 150, 80)
    small = cut_out(scene.resize((150, 100)), "+5 5,10 15,10").image
    assert not is_white(small, 10, 10), "percent: the same at every size"


def test_where_no_subject_is_found_the_brush_alone_says_what_it_is() -> None:
    plain = Image.new("RGB", (200, 100), (30, 30, 30))
    assert silhouette(plain) is None
    box = silhouette(plain, "+10 50,50").getbbox()
    assert np.allclose(box, (80, 30, 120, 70), atol=3)
    rest = silhouette(plain, "-10 50,50")
    assert rest.getpixel((100, 50)) == 0 and rest.getpixel((5, 5)) == 255
    assert silhouette(plain, "-100 50,50") is None and not cut_out(plain, "-100 50,50").found


def test_what_the_model_sees_is_mended_in_both_settings(scene: Image.Image) -> None:
    for setting in ("fitted", "letterboxed"):
        seen = [as_seen(scene, setting, cut=True, width=64, height=48, brush=text).image for text in ("", "-40 50,40")]
        assert not np.array_equal(*seen)
    assert boxed_subject(scene, "+4 2,2").image.width > boxed_subject(scene).image.width, "its box grows with it"


def test_requests_take_strokes_by_any_door_and_refuse_what_they_cannot_obey(tmp_path: Path, scene: Image.Image) -> None:
    scene.save(tmp_path / "disc.png")
    entry, strokes = {"path": tmp_path / "disc.png", "keep_background": False}, "+3 40,10 42,12"
    for engine in ("phantom-wan", "bindweave"):
        values = {"prompt": "a disc", "references": [entry], "references.1.brush": strokes}
        assert build_request(SPECS[engine], values).references[0].brush == strokes
        for changes, sentence in (
            ({"references.1.brush": "scribble"}, "Write a stroke"),
            ({"references.1.keep_background": True}, "which keeps its background"),
            ({"references.1.brush": "+3 1,1;" * 5000}, "brush"),
        ):
            with pytest.raises(InvalidRequest) as refused:
                build_request(SPECS[engine], values | changes)
            (problem,) = refused.value.problems
            assert problem.field == "references" and sentence in problem.message and "\n" not in problem.message
    with pytest.raises(InvalidRequest, match='has no setting "brush"'):
        picture = {"path": tmp_path / "disc.png", "brush": strokes}
        build_request(SPECS["flashi2v"], {"prompt": "a disc", "picture": picture})
