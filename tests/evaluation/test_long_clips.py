"""Figures of long clips: best for the real clips themselves, bad for frozen, dimming or changing ones."""

import numpy as np
import pytest

from engines.evaluation.long_clips import drift, held_out, keeps_identity, measured
from engines.evaluation.scores import Pair
from engines.training.recipes import pyramid_flow


@pytest.fixture(scope="module")
def clips():
    return held_out(6, width=pyramid_flow.FULL.width, height=pyramid_flow.FULL.height)


def of(clips, change) -> dict[str, float]:
    written, pictured = ([Pair(real=clip, made=change(clip.frames)) for clip in group] for group in clips)
    return {figure.name: figure.value for figure in measured(written, pictured)}


def test_the_real_clips_themselves_score_best(clips) -> None:
    found = of(clips, lambda frames: frames)
    assert found["motion right, from text"] >= 80 and found["motion right, from a picture"] >= 60
    assert found["colour right, from text"] == found["background right, from text"] == 100
    assert found["drift, first to last half second"] == found["drift of the real clips"] < 4
    assert found["same subject in first and last second"] == found["the same read in the real clips"] >= 75
    assert found["first frame PSNR, from a picture"] > 60


def test_faults_are_seen(clips) -> None:
    frozen = of(clips, lambda frames: np.repeat(frames[:1], len(frames), 0))
    assert frozen["motion right, from text"] < 50
    dimming = of(clips, lambda f: (f * np.linspace(1, 0.5, len(f))[:, None, None, None]).astype(np.uint8))
    assert dimming["drift, first to last half second"] > dimming["drift of the real clips"] + 3
    other = of(clips, lambda f: np.concatenate([f[:25], f[25:, :, :, ::-1]]))
    assert other["same subject in first and last second"] < 60


def test_an_empty_clip_has_no_subject_to_keep() -> None:
    empty = np.full((48, 64, 128, 3), 90, np.uint8)
    assert not keeps_identity(empty) and drift(empty) == 0
