"""The procedural world: deterministic, any size, honest captions, splits that do not meet."""

import dataclasses

import numpy as np
import pytest

from engines.training import words
from engines.training.world import WorldConfig, caption_of, make_clip, pictures, sprites

PLAIN = WorldConfig(subject_shares=(1, 0, 0, 0), two_subjects=0, photo_background=0, paraphrase=0)


def test_a_seed_always_gives_the_same_clip():
    config = WorldConfig(references=True, two_subjects=0.5)
    first, again, other = (make_clip(seed, config) for seed in (3, 3, 4))
    assert np.array_equal(first.frames, again.frames)
    assert first.caption == again.caption == caption_of(3, config)
    assert all(np.array_equal(a, b) for a, b in zip(first.references, again.references, strict=True))
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize(
    ("width", "height", "frames"), [(96, 64, 33), (64, 64, 17), (128, 64, 25), (64, 96, 9), (160, 96, 1)]
)
def test_any_size_and_length(width, height, frames):
    clip = make_clip(1, WorldConfig(width=width, height=height, frames=frames), with_masks=True)
    assert clip.frames.shape == (frames, height, width, 3)
    assert clip.masks.shape == (frames, height, width)
    assert clip.tracks[0].centres.shape == (frames, 2)


def test_captions_name_what_is_drawn():
    for seed in range(40):
        clip = make_clip(seed, PLAIN)
        track = clip.tracks[0]
        for word in (track.subject.colour, track.subject.shape, track.motion, clip.background):
            assert word in clip.caption
        if clip.floor:
            assert f"{clip.floor} floor" in clip.caption


def test_every_word_of_the_grammar_occurs():
    captions = " ".join(caption_of(seed, dataclasses.replace(PLAIN, floor=0.5)) for seed in range(500))
    for group in (words.COLOURS, words.SHAPES, words.MOTIONS, words.BACKGROUNDS, words.FLOORS):
        for word in group:
            assert word in captions


def test_the_track_is_where_the_mask_is():
    for seed in range(12):
        clip = make_clip(seed, PLAIN, with_masks=True)
        track = clip.tracks[0]
        weight = track.subject.pivot * track.radii[::8]  # a triangle's mass lies below the middle of its disc
        centres = track.centres[::8] + np.stack([np.zeros_like(weight), weight], 1)
        for mask, (x, y) in zip(clip.masks[::8], centres, strict=True):
            rows, columns = np.nonzero(mask > 0.5)
            assert abs(columns.mean() + 0.5 - x) < 2.5
            assert abs(rows.mean() + 0.5 - y) < 2.5


def test_a_reference_is_not_a_crop_of_its_clip():
    config = WorldConfig(subject_shares=(0, 1, 0, 0), two_subjects=0, references=True, reference_white=1.0)
    clip = make_clip(8, config)
    reference = clip.references[0]
    assert reference.dtype == np.uint8
    assert (reference == 255).all(-1).mean() > 0.2
    assert reference.shape[:2] != clip.frames.shape[1:3] or not np.array_equal(reference, clip.frames[0])


def test_splits_do_not_meet():
    assert not set(pictures.PHOTOS_TRAIN) & set(pictures.PHOTOS_HELD_OUT)
    if pictures.emoji_font() is not None:
        assert len(pictures.emoji_codes(held_out=True)) == pictures.EMOJI_HELD_OUT
        assert not set(pictures.emoji_codes(held_out=True)) & set(pictures.emoji_codes(held_out=False))
    held_out = dataclasses.replace(PLAIN, held_out=True)
    assert not np.array_equal(make_clip(5, PLAIN).frames, make_clip(5, held_out).frames)


def test_without_the_emoji_font_there_are_sprites(monkeypatch, caplog):
    pictures._emoji.cache_clear()
    pictures.emoji_codes.cache_clear()
    monkeypatch.setattr(pictures, "EMOJI_FONTS", ())
    try:
        clip = make_clip(2, WorldConfig(subject_shares=(0, 0, 1, 0), photo_background=0))
        assert clip.tracks[0].subject.kind == "sprite"
        assert "fonts-noto-color-emoji" in caplog.text
    finally:
        pictures._emoji.cache_clear()
        pictures.emoji_codes.cache_clear()


def test_a_sprite_look_belongs_to_its_seed():
    one, same, other = sprites.sprite(9), sprites.sprite(9), sprites.sprite(10)
    assert np.array_equal(one.picture, same.picture)
    assert not np.array_equal(one.picture, other.picture)
