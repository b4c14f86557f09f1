"""Flow matching, reference preprocessing and attention written out."""

import numpy as np
import torch
from torch.nn import functional

from engines.training.attention import plain_attention, written_out
from engines.training.data import fit_on_canvas, pad_tokens
from engines.training.flow import draw_sigmas, noised


def test_velocity_leads_from_noise_to_the_clip():
    rng = torch.Generator().manual_seed(0)
    clean, sigmas = torch.randn(4, 2, 3, 4, 4), draw_sigmas(4, rng)
    noisy, velocity = noised(clean, sigmas, rng)
    assert torch.allclose(noisy - sigmas.view(-1, 1, 1, 1, 1) * velocity, clean, atol=1e-5)
    assert ((sigmas > 0) & (sigmas < 1)).all()


def test_references_are_centred_on_white_with_their_aspect():
    wide = fit_on_canvas(np.zeros((20, 80, 3), np.uint8), width=96, height=64)
    assert wide.shape == (64, 96, 3)
    assert (wide[:20] == 255).all()
    assert (wide[20:44] == 0).all()
    tall = fit_on_canvas(np.zeros((80, 20, 3), np.uint8), width=96, height=64)
    assert (tall[:, :40] == 255).all()
    assert (tall[:, 40:56] == 0).all()


def test_long_texts_are_cut_but_keep_their_end_token():
    ids, mask = pad_tokens([[5, 6, 7, 8, 1], [9, 1]], longest=4)
    assert ids.tolist() == [[5, 6, 7, 1], [9, 1, 0, 0]]
    assert mask.sum().item() == 6


def test_plain_attention_equals_the_fused_one():
    query, key, value = (torch.randn(2, 3, 7, 8) for _ in range(3))
    assert torch.allclose(
        plain_attention(query, key, value), functional.scaled_dot_product_attention(query, key, value), atol=1e-5
    )
    fused = functional.scaled_dot_product_attention
    with written_out():
        assert functional.scaled_dot_product_attention is plain_attention
    assert functional.scaled_dot_product_attention is fused
