"""Image-to-video figures: perfect for the real clips themselves, bad for frozen, shuffled or tinted ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from engines.evaluation import figures, variants
from engines.evaluation.__main__ import main
from engines.evaluation.picture_clips import colour_drift, held_out, measured
from engines.evaluation.scores import Pair


@pytest.fixture(scope="module")
def clips():
    return held_out(3)


def of(clips, change) -> dict[str, float]:
    objects, photos = ([Pair(real=clip, made=change(clip.frames)) for clip in group] for group in clips)
    rows, _ = measured(objects, photos, [30.0] * (len(objects) + len(photos)))
    return {figure.name: figure.value for figure in rows}


def test_the_real_clips_themselves_score_best(clips) -> None:
    found = of(clips, lambda frames: frames)
    assert found["motion right"] == found["motion read right in the real clips"] >= 80
    assert found["dynamic degree, share of the real clips'"] == pytest.approx(100)
    assert found["first frame SSIM"] == pytest.approx(1)
    assert found["drift of colour, last chunk"] == found["drift of colour in the real clips"] < 3


def test_faults_are_seen(clips) -> None:
    frozen = of(clips, lambda frames: np.repeat(frames[:1], len(frames), 0))
    assert frozen["dynamic degree, distance from theirs"] > 90 and frozen["motion right"] < 50
    turned = of(clips, lambda frames: frames[::-1])
    assert turned["first frame PSNR"] < 30 and turned["motion right"] < 60

    def dimming(frames):
        return (frames * np.linspace(1, 0.6, len(frames))[:, None, None, None]).astype(np.uint8)

    assert of(clips, dimming)["drift of colour, last chunk"] > 3


def test_drift_starts_at_zero_and_grows_with_a_tint() -> None:
    frames = np.full((16, 8, 8, 3), 120, np.uint8)
    assert colour_drift(frames) == [0, 0, 0, 0]
    frames[..., 0] += np.arange(16, dtype=np.uint8)[:, None, None] * 4
    drift = colour_drift(frames)
    assert drift[0] == 0 and drift == sorted(drift) and drift[-1] > 5


def test_variants_stand_side_by_side(clips, tmp_path: Path) -> None:
    pairs = [[Pair(real=clip, made=clip.frames) for clip in group] for group in clips]
    rows, curves = measured(*pairs, [30.0] * 4)
    for name in ("full", "shift"):
        figures.write(tmp_path / f"{name}.json", name="x", figures=rows, facts={"variant": name, "curves": curves})
    out = tmp_path / "side"
    assert main(["variants", str(tmp_path / "full.json"), str(tmp_path / "shift.json"), "--out", str(out)]) == 0
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "| measure | full | shift | target |" in text and "side.svg" in text
    assert "</svg>" in out.with_suffix(".svg").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="name one of each"):
        variants.read([tmp_path / "full.json", tmp_path / "full.json"])
    (tmp_path / "other.json").write_text(json.dumps({"figures": []}))
    with pytest.raises(ValueError, match="no evaluation of a variant"):
        variants.read([tmp_path / "other.json"])
