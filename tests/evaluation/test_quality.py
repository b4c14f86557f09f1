"""The quality measures on clips whose motion, brightness and colours are known."""

import cv2
import numpy as np
import pytest

from engines.media.quality import MOST_PSNR, measure


def texture(height, width, *, seed=0):
    """Smooth noise uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 4 * (smooth - 128), 0, 255).astype(np.uint8)


def shifted(pixels, *, count=9, height=256, width=320):
    """A window that travels over a texture by `pixels` a frame."""
    world = texture(height, width + pixels * count)
    return np.stack([world[:, index * pixels : index * pixels + width] for index in range(count)])


@pytest.mark.parametrize("pixels", [2, 8, 14])
def test_a_shifted_texture_reads_as_far_as_it_moved(pixels):
    found = measure(shifted(pixels), fps=8)
    assert found.motion == pytest.approx(100 * pixels / 256, rel=0.1)
    assert found.moves == (pixels > 6)
    assert found.flicker < 2


def test_motion_is_relative_to_the_size_and_to_time():
    frames = shifted(8)
    small = np.stack([cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for frame in frames])
    whole = measure(frames, fps=8).motion
    assert measure(small, fps=8).motion == pytest.approx(whole, rel=0.1)
    assert measure(shifted(4, count=17), fps=16).motion == pytest.approx(whole, rel=0.06)


def test_identical_frames_stand_still_and_neither_flicker_nor_drift():
    frame = texture(64, 96)
    found = measure(np.stack([frame] * 9), fps=12, picture=frame)
    assert found.motion == pytest.approx(0, abs=0.05)
    assert (found.moves, found.flicker) == (False, pytest.approx(0, abs=0.05))
    assert found.drift == pytest.approx((0, 0), abs=1e-4)
    assert (found.first_frame_psnr, found.first_frame_ssim) == (MOST_PSNR, pytest.approx(1))


def test_flicker_is_the_step_of_brightness_and_no_motion():
    frame = np.clip(texture(128, 160), 20, 235).astype(np.int16)
    frames = np.stack([frame + 6 * (index % 2) for index in range(8)]).astype(np.uint8)
    found = measure(frames, fps=8)
    assert found.flicker == pytest.approx(6, rel=0.1)
    assert found.moves is False


def test_motion_alone_flickers_far_less_than_its_plain_difference():
    frames = shifted(8)
    plain = np.abs(np.diff(frames.mean(-1), axis=0)).mean()
    assert measure(frames, fps=8).flicker < plain / 10


def test_a_ramp_of_brightness_drifts_as_far_as_its_lightness():
    levels = np.linspace(100, 156, 32).round().astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (32, 64, 64, 3)).copy()
    found = measure(frames, fps=16)
    grey = levels.astype(np.float32)[:, None, None] / 255
    light = cv2.cvtColor(np.repeat(grey, 3, -1).reshape(1, 32, 3), cv2.COLOR_RGB2LAB)[0, :, 0]
    expected = [light[start : start + 8].mean() - light[0] for start in range(0, 32, 8)]
    assert found.drift == pytest.approx(expected, abs=0.05)
    assert list(found.drift) == sorted(found.drift)


def test_lost_contrast_is_drift_too():
    frame = texture(64, 64).astype(np.float32)
    frames = np.stack([128 + (frame - 128) * (1 - index / 20) for index in range(16)]).astype(np.uint8)
    assert measure(frames, fps=8).drift[-1] > 10


def test_the_first_frame_against_its_picture():
    picture = texture(64, 96)
    noise = np.random.default_rng(1).normal(0, 5, picture.shape)
    frame = np.clip(picture + noise, 0, 255).round().astype(np.uint8)
    found = measure(frame[None], fps=16, picture=picture)
    assert found.first_frame_psnr == pytest.approx(10 * np.log10(255**2 / 25), abs=0.5)
    other = measure(texture(64, 96, seed=2)[None], fps=16, picture=picture)
    assert other.first_frame_psnr < 20 < found.first_frame_psnr
    assert other.first_frame_ssim < 0.3 < found.first_frame_ssim
    assert (found.motion, found.moves, found.flicker) == (None, None, None)


def test_frames_may_come_one_by_one():
    frames = shifted(8)
    assert measure(iter(frames), fps=8) == measure(frames, fps=8)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="without frames"):
        measure(np.zeros((0, 8, 8, 3), np.uint8), fps=8)
    with pytest.raises(ValueError, match="another size"):
        measure(texture(64, 64)[None], fps=8, picture=texture(64, 32))
