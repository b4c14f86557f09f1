"""The strip of a given clip: what it marks is what is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.errors import MediaError
from engines.media import strip as strips
from engines.media.strip import DARK, HEIGHT, LINE, MOST, strip
from tests.engines.test_excerpt import read, write

RULES = {"fewest": 5, "stride": 4, "fps": 24}


def line(drawn: Image.Image) -> tuple[float, float]:
    """Where the line begins and ends, as shares of the strip."""
    (bright,) = np.nonzero(np.asarray(drawn)[-1, :, 0] > 200)
    return bright[0] / drawn.width, (bright[-1] + 1) / drawn.width


def levels(drawn: Image.Image) -> list[float]:
    """How bright the upper half of each small frame is; without the mark and the number, all are alike."""
    width = drawn.width // MOST
    return [
        float(np.asarray(drawn)[: HEIGHT // 3, index * width + width // 3 : (index + 1) * width].mean())
        for index in range(MOST)
    ]


@pytest.mark.parametrize(("most", "moment"), [(9, 1.0), (9, 0.0), (9, 0.5), (5, 0.3), (41, 1.0), (45, 0.0)])
def test_the_line_and_the_bright_frames_are_those_that_are_read(tmp_path: Path, most: int, moment: float) -> None:
    clip = write(tmp_path / "a.mp4", 41)
    numbers, told = read(clip, most=most, moment=moment)
    drawn, said = strip(clip, most=most, moment=moment, **RULES)
    assert said == told and drawn is not None and drawn.height == HEIGHT + 2 * LINE
    assert line(drawn) == pytest.approx((numbers[0] / 41, (numbers[-1] + 1) / 41), abs=1 / drawn.width)
    parts = [(41 * index / MOST, 41 * (index + 1) / MOST) for index in range(MOST)]
    bright = [level > 90 * (1 - DARK / 2) for level in levels(drawn)]
    assert bright == [begin < numbers[-1] + 1 and end > numbers[0] for begin, end in parts]


def test_of_few_frames_each_is_shown_once(tmp_path: Path) -> None:
    drawn, _ = strip(write(tmp_path / "a.mp4", 5), most=45, moment=1.0, **RULES)
    assert drawn is not None and drawn.width == 5 * 84 and line(drawn) == (0, 1)  # 96x64 at a height of 56


def test_a_clip_of_hours_is_told_without_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write(tmp_path / "a.mp4", 30)
    monkeypatch.setattr(strips, "MOST_DECODED", 29 * 96 * 64)
    monkeypatch.setattr(strips, "frames_of", lambda *_, **__: pytest.fail("it was decoded"))
    assert strip(clip, most=9, moment=1.0, **RULES) == (None, read(clip, most=9)[1])


def test_what_cannot_be_gone_on_from_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="only 4 frames"):
        strip(write(tmp_path / "a.mp4", 4), most=45, moment=1.0, **RULES)
    (tmp_path / "b.mp4").write_bytes(write(tmp_path / "c.mp4", 30).read_bytes()[:600])
    with pytest.raises(MediaError, match=r"damaged|not a video"):
        strip(tmp_path / "b.mp4", most=45, moment=1.0, **RULES)
