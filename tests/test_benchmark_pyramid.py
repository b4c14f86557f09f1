"""The counting of benchmarks.pyramid: against hand-counted tokens and the figures worked out in advance."""

import pytest

from benchmarks import pyramid
from benchmarks.pyramid import FAMILIES, SIZES, autoregressive_calls, flops, pyramid_calls, sequence_calls, video_tokens


def test_the_longest_call_has_the_tokens_counted_by_hand() -> None:
    # The last unit at full size, the one before, a half of the one before that, the other 13 at a quarter.
    longest = max(sum(frames) for _, _, frames in pyramid_calls(SIZES[0]))
    assert longest == 960 + 960 + 240 + 13 * 60 == 2_940
    assert max(sum(frames) for _, _, frames in pyramid_calls(SIZES[2])) == 15_360
    assert video_tokens(sequence_calls(SIZES[0], 1)) == 16 * 960
    assert sum(count for count, _, _ in pyramid_calls(SIZES[0])) == 510


@pytest.mark.parametrize(
    ("size", "family", "petaflops", "autoregressive"), [(0, 0, 2.2, 10.4), (1, 1, 17.8, 17.5), (2, 0, 36.1, 42.1)]
)
def test_flops_are_those_of_the_specification(size: int, family: int, petaflops: float, autoregressive: float) -> None:
    ours = flops(pyramid_calls(SIZES[size]), FAMILIES[family])
    assert ours / 1e15 == pytest.approx(petaflops, abs=0.05)
    ratio = flops(autoregressive_calls(SIZES[size]), FAMILIES[family]) / ours
    assert ratio == pytest.approx(autoregressive, abs=0.05)
    assert flops(pyramid_calls(SIZES[size]), FAMILIES[family], prefixes=True) < ours


def test_what_is_measured_is_what_is_counted() -> None:
    starter, seen = pyramid.Starter(units=4), []
    starter.network.register_forward_pre_hook(
        lambda module, args: seen.append(sum(clip.shape[2:].numel() for clip in args[0]) // pyramid.PATCH**2)
    )
    for make, calls in (
        (starter.pyramid, pyramid_calls(starter.size, first=(2, 2, 2), later=(1, 1, 1))),
        (starter.autoregressive, [(6 if unit == 0 else 3, 0, [32] * (unit + 1)) for unit in range(4)]),
    ):
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pyramid, "FIRST", (2, 2, 2))
            patch.setattr(pyramid, "LATER", (1, 1, 1))
            starter.seconds(make)
        assert sum(seen) == video_tokens(iter(calls))
