"""What is heard of an edited clip: where the sound begins, how loud it is, and how it goes over into another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.editing.source import SOUND_RATE, read_sound
from tests.engines.edited_clips import FPS, FRAMES, edited, loudness, pixels, write_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


def test_sound_is_as_long_as_the_picture_and_the_picture_stays_to_the_bit(folder: Path, tmp_path: Path) -> None:
    assert (pixels(folder / "loud.mp4") == pixels(folder / "clip.mp4")).all()
    sound = read_sound(folder / "loud.mp4")
    assert abs(len(sound) / SOUND_RATE - FRAMES / FPS) < 0.1
    tone = loudness(folder / "loud.mp4")
    assert tone[0] > 0.2 and tone[5] > 0.2 and tone[4] < tone[0] / 2, "half a second, again and again"
    once = edited(
        folder, tmp_path, "sound", sound={"path": str(folder / "tone.wav")}, repeat=False, fade=0.2, start=0.1
    )
    faded = loudness(once.video)
    assert faded[0] < tone[0] and faded[6:].max() < 0.01


@pytest.mark.parametrize(
    ("name", "values", "seconds"),
    [("trim", {"start": 0.5, "end": 1.0}, 0.5), ("reverse", {}, 17 / 12), ("loop", {"times": 2}, 34 / 12),
     ("loop", {"times": 1, "way": "there and back"}, 33 / 12), ("smooth", {"factor": 2, "slow": True}, 33 / 12),
     ("captions", {"text": "Hi"}, 17 / 12)],
)  # fmt: skip
def test_an_edited_clip_keeps_its_sound(folder: Path, tmp_path: Path, name: str, values: dict, seconds: float) -> None:
    made = edited(folder, tmp_path, name, clip="loud.mp4", **values)
    assert abs(len(read_sound(Path(made.video))) / SOUND_RATE - seconds) < 0.1
    tone = loudness(made.video)
    assert tone.max() > 0.1
    if name == "reverse":
        assert np.corrcoef(tone[:12], loudness(folder / "loud.mp4", backwards=True)[:12])[0, 1] > 0.8
    joined = edited(folder, tmp_path, "join", clip="loud.mp4", then={"path": str(folder / "other.mp4")}, fade=0.25)
    assert loudness(joined.video)[:10].max() > 0.2 and loudness(joined.video)[16:].max() < 0.01


def test_a_part_begins_with_the_sound_of_its_first_moment(folder: Path, tmp_path: Path) -> None:
    """The tone ends softly and begins anew after half a second."""
    tone = loudness(edited(folder, tmp_path, "trim", clip="loud.mp4", start=0.25, end=0.75).video)
    assert tone[0] < 0.8 * loudness(folder / "loud.mp4")[0] and tone[3] > 1.3 * tone[1]


def test_a_volume_of_half_is_half_as_loud(folder: Path, tmp_path: Path) -> None:
    half = edited(folder, tmp_path, "sound", sound={"path": str(folder / "tone.wav")}, fade=0, volume=0.5)
    assert loudness(half.video)[0] == pytest.approx(loudness(folder / "loud.mp4")[0] / 2, rel=0.1)


def test_the_sound_of_the_first_clip_fades_out_over_the_second(folder: Path, tmp_path: Path) -> None:
    joined = edited(folder, tmp_path, "join", clip="loud.mp4", then={"path": str(folder / "other.mp4")}, fade=1)
    tone = loudness(joined.video)
    assert tone[13] < 0.5 * tone[8]
