"""Decoding in less memory gives the same frames: frame by frame, and in strips that leave no seam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from engines.pyramid_flow.coding import StreamingDecoder, to_levels
from engines.wan import decoding, tiles, vae
from engines.wan.strides import spatial_stride
from tests.engines import tiny_pyramid, tiny_wan
from tests.engines.fake_peak import peak_bytes
from tests.engines.tiny_wan import seeded

WAN_2_2 = tiny_wan.VAE | {
    "decoder_base_dim": 6, "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2,
    "scale_factor_spatial": 8,
}  # fmt: skip
LARGE = {"dim_mult": [1, 1, 1, 1], "temperal_downsample": [False, True, True], "scale_factor_spatial": 8}


def network(kind: str) -> AutoencoderKLWan:
    config = {"2.1": tiny_wan.VAE, "2.2": WAN_2_2, "published strides": tiny_wan.VAE | LARGE}[kind]
    return seeded(lambda: AutoencoderKLWan(**config))


def levels(module: AutoencoderKLWan, latents: torch.Tensor, manner: str) -> np.ndarray:
    return np.concatenate([*vae.decode_frames(module, latents, manner=manner, rounded=True)])


@pytest.mark.parametrize("kind", ["2.1", "2.2", "published strides"])
@pytest.mark.parametrize("shape", [(3, 4, 37), (2, 33, 3)], ids=["wide", "tall"])
@torch.no_grad()
def test_every_manner_gives_the_same_pixels(kind: str, shape: tuple[int, int, int]) -> None:
    module = network(kind)
    latents = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([*vae.decode(module, latents[None])], dim=2)
    apart = torch.cat([*vae.decode(module, latents[None], apart=True)], dim=2)
    assert whole.std() > 0.05
    torch.testing.assert_close(apart, whole, rtol=0, atol=1e-5)
    expected = levels(module, latents, "")
    for count in (2, 3):
        found = levels(module, latents, decoding.in_strips(count))
        assert found.shape == expected.shape
        assert int(np.abs(found.astype(int) - expected.astype(int)).max()) <= 1, "one level, by rounding alone"
        assert np.mean(found != expected) < 1e-3, "and hardly anywhere"
    assert not module._feat_map or all(kept is None for kept in module._feat_map)


@torch.no_grad()
def test_a_margin_too_narrow_would_be_a_seam() -> None:
    """The margin is what it must be: with less of it the pixels beside a cut change."""
    module = network("2.1")
    latents = torch.randn(1, 4, 2, 3, 40, generator=torch.Generator().manual_seed(1))
    whole = torch.cat([*vae.decode(module, latents)], dim=2)
    stride = spatial_stride(module.config)

    def beside(margin: int) -> float:
        (strip, _) = tiles.strips(40, 2, margin=margin)
        found = torch.cat([*vae.decode(module, latents, strip=strip)], dim=2)
        return (found - whole[..., : 20 * stride]).abs().max().item()

    enough = tiles.margin(module.config)
    assert beside(enough) < 1e-5 < beside(1)


@pytest.mark.parametrize("side", [40, 104, 160])
@pytest.mark.parametrize("count", tiles.COUNTS)
def test_strips_cover_a_side_once(side: int, count: int) -> None:
    found = tiles.strips(side, count, margin=13)
    assert found[0].begin == found[0].first == 0 and found[-1].end == found[-1].last == side
    assert all(one.last == other.first for one, other in pairwise(found))
    assert all(one.begin == max(0, one.first - 13) and one.end == min(side, one.last + 13) for one in found)


def test_the_published_decoder_needs_thirteen_latent_pixels() -> None:
    assert tiles.margin({"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}) == 13


def test_manners_take_less_and_less() -> None:
    published = {
        "base_dim": 96, "temperal_downsample": [False, True, True], "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
    }  # fmt: skip
    found = decoding.manners(published, wide=1280, high=720, device="cuda")
    sizes = [working(4) for working in found.values()]
    assert [*found][:3] == ["", decoding.FRAME_BY_FRAME, "in 2 strips"]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.35 * sizes[0]
    assert [decoding.strips_of(manner) for manner in found][:3] == [1, 1, 2]
    assert [*decoding.manners(published, wide=96, high=64, device="cpu")] == ["", decoding.FRAME_BY_FRAME]


@pytest.mark.parametrize("kind", ["2.1", "2.2", "pyramid"])
def test_a_clip_five_times_as_long_takes_no_more_memory_than_its_latents(kind: str) -> None:
    module = tiny_pyramid.vae() if kind == "pyramid" else network(kind)

    def taken(latents: torch.Tensor) -> int:
        def decoded() -> None:
            decoder = StreamingDecoder()
            units = latents.split(1, dim=1) if kind == "pyramid" else []
            pieces = (to_levels(decoder(module, unit[None])) for unit in units)
            for piece in pieces if units else vae.decode_frames(module, latents):
                assert len(piece) in (1, 4, 8)

        return peak_bytes(decoded, module)

    longer = torch.randn(4, 20, 8, 8)
    short = taken(longer[:, :4])
    assert 100_000 < short <= taken(longer) <= short + 2 * longer[:, 4:].numel() * 4
