"""Whether the right subject moves as told: near perfect on the simulator's own clips, near chance on others'."""

import functools

import numpy as np
import pytest

from engines.evaluation import own_motions, starter


@functools.cache
def requests(*, three: bool = False) -> list[own_motions.Request]:
    return own_motions.requests(8, three=three)


@pytest.mark.parametrize("three", [False, True])
def test_true_clips_score_and_shuffled_ones_do_not(three: bool) -> None:
    asked = requests(three=three)
    true = [hit for one in asked for hit in own_motions.moves_right(one.clip.frames, one.clip)]
    others = asked[1:] + asked[:1]
    pairs = zip(asked, others, strict=True)
    false = [hit for one, other in pairs for hit in own_motions.moves_right(other.clip.frames, one.clip)]
    assert np.mean(true) > (0.8 if three else 0.9) and np.mean(false) < 0.4


def test_swapped_motions_are_not_right() -> None:
    """Both motions are in the clip, but each is the other subject's."""
    swapped = []
    for one in requests():
        first, second = one.clip.tracks
        crossed = [
            type(first)(subject=a.subject, motion=b.motion, centres=a.centres, radii=a.radii)
            for a, b in ((first, second), (second, first))
        ]
        clip = type(one.clip)(**{**vars(one.clip), "tracks": tuple(crossed)})
        swapped += own_motions.moves_right(clip.frames, clip)
    assert np.mean(swapped) < 0.1


def test_pictures_come_in_any_order_and_are_those_of_the_clip() -> None:
    asked = requests()
    assert {one.order for one in asked} == {(0, 1), (1, 0)}
    for one in asked:
        assert all(one.pictures[place] is one.clip.references[index] for place, index in enumerate(one.order))
        assert one.clip.trait is not None
    assert "bindweave" in starter.EVALUATIONS
