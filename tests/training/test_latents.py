"""The block latents: shapes, inverse, natural spectrum, one code for still pictures and videos."""

import numpy as np
import pytest
import torch

from engines.training.latents import BlockLatents, Blocks, to_levels, to_unit
from engines.training.prepare import fit_latents


@pytest.fixture(scope="module")
def code() -> BlockLatents:
    return fit_latents(Blocks(8, 4), 16, clips=40)


def test_pixels_survive_the_unit_range():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_levels(to_unit(frames)), frames)


def test_shapes_and_linear_inverse(code, tmp_path):
    video = torch.rand(2, 3, 9, 16, 24) * 2 - 1
    latents = code.encode(video)
    assert latents.shape == (2, 16, 3, 2, 3)
    assert torch.allclose(code.encode(code.decode(latents)), latents, atol=1e-3)
    code.save(tmp_path / "code.safetensors")
    assert torch.equal(BlockLatents.load(tmp_path / "code.safetensors").encode(video), latents)


def test_a_still_clip_has_about_the_same_code_in_every_latent_frame(code):
    still = to_unit(np.full((9, 16, 16, 3), (200, 60, 30), np.uint8))[None]
    latents = code.encode(still)
    gap = (latents[:, :, 0] - latents[:, :, 1]).square().mean()
    assert gap < 0.1 * latents.square().mean()


def test_the_spectrum_falls_naturally(code):
    from engines.training.prepare import WORLD
    from engines.training.world import make_clip

    latents = torch.cat([code.encode(to_unit(make_clip((1, i), WORLD).frames)[None]) for i in range(20)])
    deviation = latents[:, :, 1:].std((0, 2, 3, 4))
    assert deviation[0] > 2 * deviation[8] > 0
    assert 0.3 < float(latents.square().mean()) < 3
