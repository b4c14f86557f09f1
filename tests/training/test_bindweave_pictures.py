"""BindWeave's training pictures and objective, and the world's clips whose captions tell subjects apart."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from engines.training.bindweave.cut_outs import Subject, kept, turned_and_scaled, white_box
from engines.training.bindweave.objective import Bell
from engines.training.world import WorldConfig, caption_of, make_clip


def _frame() -> tuple[Image.Image, Image.Image]:
    """A red disc on blue, and its mask."""
    picture, mask = Image.new("RGB", (120, 80), (0, 0, 255)), Image.new("L", (120, 80))
    for canvas, fill in ((picture, (255, 0, 0)), (mask, 255)):
        ImageDraw.Draw(canvas).ellipse((30, 20, 69, 49), fill=fill)
    return picture, mask


def test_a_subject_stands_in_a_white_box_with_its_silhouette() -> None:
    subject = white_box(*_frame())
    assert subject.image.size == subject.mask.size == (40, 30)
    seen, inside = np.asarray(subject.image), np.asarray(subject.mask) > 127
    assert (seen[inside] == (255, 0, 0)).all() and (seen[~inside] == 255).all()
    assert 0.7 < inside.mean() < 0.85
    with pytest.raises(ValueError, match="empty"):
        white_box(Image.new("RGB", (4, 4)), Image.new("L", (4, 4)))


def test_it_is_turned_and_scaled_but_never_beyond_the_frame() -> None:
    subject, scales, corners = white_box(*_frame()), [], 0
    for seed in range(60):
        made = turned_and_scaled(subject, np.random.default_rng(seed), width=96, height=64)
        assert made.image.size == made.mask.size
        assert 1 <= made.image.width <= 96 and 1 <= made.image.height <= 64
        scales.append(math.sqrt((np.asarray(made.mask) > 127).sum() / (np.asarray(subject.mask) > 127).sum()))
        corners += made.image.getpixel((0, 0)) == (0, 0, 0)
        red = np.asarray(made.image)[np.asarray(made.mask) > 250].reshape(-1, 3)
        assert red.size == 0 or np.abs(np.median(red, axis=0) - (255, 0, 0)).max() < 3, (
            "the mask turns with the picture"
        )
    assert min(scales) < math.exp(-1.2) and max(scales) > 1.3 and corners > 50
    still = turned_and_scaled(subject, np.random.default_rng(0), width=96, height=64, turn=0, scale=0)
    assert still.image.size == (40, 30) and np.array_equal(np.asarray(still.image), np.asarray(subject.image))


def test_large_subjects_become_references_else_the_largest() -> None:
    rng = np.random.default_rng(0)

    def chosen(*subjects: tuple[float, ...]) -> list[int]:
        return kept([Subject(*one) for one in subjects], most=4, rng=rng)

    assert chosen((0.05,), (0.2,), (0.1,), (0.01,)) == [1, 2]
    assert chosen((0.02,), (0.05,), (0.01,)) == [1]
    assert chosen((0.2, 4.4, 0.5), (0.3, 4.5, 0.1), (0.4, None, 0.6), (0.5, 4.4, None)) == [1, 2]
    assert chosen((0.2, 1.0, 0.0), (0.3, 1.0, 0.0)) == [1], "the largest, if none is good enough"
    drawn = {tuple(chosen(*[(0.2,)] * 6)) for _ in range(40)}
    assert len(drawn) > 5 and all(len(set(four)) == 4 for four in drawn)


def test_noise_levels_are_weighted_by_a_bell() -> None:
    bell = Bell.of(5.0)
    assert bell.sigmas[0] == 1 and bell.sigmas[-1] == pytest.approx(5 * 0.001 / (1 + 4 * 0.001))
    assert bell.sigmas[500] == pytest.approx(5 * 0.5 / 3, abs=1e-3)
    assert bell.weights.mean() == pytest.approx(1) and bell.weights.min() == 0
    best = bell.sigmas[bell.weights.argmax()]
    assert best == pytest.approx(0.5, abs=0.01), "levels in the middle count most"
    left, right = (bell.weights[(bell.sigmas - level).abs().argmin()] for level in (0.3, 0.7))
    assert left == pytest.approx(float(right), rel=0.03)
    sigmas, weights = bell.draw(4000, torch.Generator().manual_seed(0))
    assert sigmas.median() == pytest.approx(5 / 6, abs=0.02) and weights.mean() == pytest.approx(1, abs=0.05)


TOLD = WorldConfig(
    width=64, height=48, frames=5, exact_count=2, told_apart=1.0, own_motions=True, photo_background=0.0,
    subject_shares=(0.1, 0.8, 0.1, 0.0),
)  # fmt: skip


@pytest.mark.parametrize("count", [2, 3])
def test_every_subject_is_named_by_a_trait_of_its_own_and_moves_in_its_own_way(count: int) -> None:
    from dataclasses import replace

    config, traits = replace(TOLD, exact_count=count), set()
    for seed in range(40):
        clip = make_clip((8, seed), replace(config, frames=1))
        values = [getattr(track.subject, clip.trait) for track in clip.tracks]
        assert len(set(values)) == count and all(value in clip.caption for value in values)
        assert len({track.motion for track in clip.tracks}) == count
        assert not {"plain", "with eyes"} <= set(values)
        traits.add(clip.trait)
    assert traits == {"pattern", "colour", "shape"}


def test_the_world_without_it_is_as_it_was() -> None:
    assert caption_of((3, 1), WorldConfig()) == "a red striped triangle grows, dark blue background"
    assert caption_of((3, 2), WorldConfig(two_subjects=1.0)) == (
        "a green circle bounces and a green ring with eyes moves down in a grey scene with a white floor"
    )
    assert make_clip((3, 1), WorldConfig(frames=1)).trait is None
