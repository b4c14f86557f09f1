"""What can be computed of OpenS2V-Eval: its motion figure, its fitted total, and the likeness to pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.evaluation import opens2v
from engines.evaluation.__main__ import main
from engines.media.video import VideoWriter
from tests.engines import tiny_bindweave, tiny_wan

# Columns in the order of the weights, and the published total, as the specification has them.
PUBLISHED = {
    "BindWeave": (45.55, 95.90, 13.91, 53.71, 67.79, 46.84, 66.85, 57.61),
    "VACE-14B": (47.21, 94.97, 15.02, 55.09, 67.27, 44.08, 67.04, 57.55),
    "Phantom-14B": (46.39, 96.31, 33.42, 51.46, 70.65, 37.43, 69.35, 56.77),
    "Kling1.6": (44.59, 86.93, 41.60, 40.10, 66.20, 45.89, 74.59, 56.23),
    "Phantom-1.3B": (46.67, 93.30, 14.29, 48.56, 69.43, 42.48, 62.50, 54.89),
    "MAGREF-480P": (45.02, 93.17, 21.81, 30.83, 70.47, 43.04, 66.90, 52.51),
    "SkyReels-A2": (39.41, 87.93, 25.60, 45.95, 64.54, 43.75, 60.32, 52.25),
}


def texture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (96, 160, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).astype(np.uint8)


def sliding(pixels: int, count: int = 8) -> np.ndarray:
    return np.stack([np.roll(texture(), index * pixels, axis=1) for index in range(count)])


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_fitted_total_reproduces_the_published_ones(model: str) -> None:
    *scores, total = PUBLISHED[model]
    named = dict(zip(opens2v.FITTED_WEIGHTS, scores, strict=True))
    assert opens2v.total(named) == pytest.approx(total, abs=0.0061)
    with pytest.raises(KeyError):
        opens2v.total({name: value for name, value in named.items() if name != "FaceSim"})


def test_the_motion_figure_counts_drift_along_both_axes_together() -> None:
    assert opens2v.motion_fb(sliding(2)) == pytest.approx(1.0, abs=0.15)  # two pixels along one axis of two
    assert opens2v.motion_fb(sliding(-2)) == pytest.approx(1.0, abs=0.15)
    assert opens2v.motion_fb(sliding(0)) == pytest.approx(0.0, abs=1e-3)
    assert opens2v.motion_fb(sliding(2)[:1]) == 0.0


def test_likeness_finds_the_picture_that_the_clip_shows() -> None:
    encoder = tiny_bindweave.image_encoder()
    clip = np.stack([texture(3)] * 4)
    same = opens2v.likeness(encoder, clip, [texture(3)])
    assert same == pytest.approx(1.0, abs=1e-4)
    assert opens2v.likeness(encoder, clip, [texture(9), texture(3)]) == pytest.approx(same)
    assert opens2v.likeness(encoder, clip, [np.zeros((64, 64, 3), np.uint8)]) < same


def test_a_folder_of_clips_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips, pictures = tmp_path / "clips", tmp_path / "pictures"
    clips.mkdir(), pictures.mkdir()
    assert main(["opens2v", str(clips)]) == 2
    assert "There is no clip in clips." in capsys.readouterr().err
    writer = VideoWriter(clips / "slide.mp4", fps=8, tags={})
    writer.write(sliding(2))
    writer.close()
    cv2.imwrite(str(pictures / "slide_1.png"), texture())
    encoder = tiny_wan.write(
        tmp_path / "clip.safetensors", tiny_bindweave.image_encoder(), tiny_bindweave.IMAGE_ENCODER
    )
    given = ["opens2v", str(clips), str(pictures), "--image-encoder", str(encoder), "--out", str(tmp_path / "out.json")]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("slide ") and "likeness" in printed
    row = json.loads((tmp_path / "out.json").read_text())["clips"]["slide"]
    assert row["motion_fb"] == pytest.approx(1.0, abs=0.3)
    assert -1 <= row["likeness"] <= 1
