"""Latents, autoencoder and text of the Wan engines, on tiny networks of the real classes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, FirstBlockCacheConfig
from diffusers.hooks.hooks import StateManager

from engines.loading.tokenizers import load_tokenizer, stamp
from engines.sampling.denoise import SamplingStep
from engines.sampling.guidance import NetworkCall
from engines.wan import text
from engines.wan.latents import denormalised, latent_shape, normalised, preview
from engines.wan.transformer import predict
from engines.wan.vae import decode, decode_frames, encode, to_pixels
from tests.engines import tiny_wan

VAES = {"wan 2.1": tiny_wan.VAE, "wan 2.2": tiny_wan.RESIDUAL_VAE}


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def caches(vae: AutoencoderKLWan) -> list[Any]:
    return [kept for kept in (*vae._feat_map, *vae._enc_feat_map) if kept is not None]


@pytest.mark.parametrize("config", VAES.values(), ids=VAES.keys())
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_streamed_decoding_is_bit_for_bit_the_whole(config: dict[str, Any], frames: int) -> None:
    vae, latents = tiny_wan.vae(config), draw(1, 4, frames, 4, 6)
    whole = vae.decode(denormalised(latents, vae.config)).sample
    pieces = list(decode(vae, latents))
    assert [piece.shape[2] for piece in pieces] == [1, 4, 4, 4][:frames]
    assert torch.equal(torch.cat(pieces, dim=2), whole)
    assert caches(vae) == []


@pytest.mark.parametrize("config", VAES.values(), ids=VAES.keys())
def test_the_geometry_is_that_of_the_network(config: dict[str, Any]) -> None:
    vae = tiny_wan.vae(config)
    latents = encode(vae, draw(1, 3, 9, 32, 48))
    assert tuple(latents.shape[1:]) == latent_shape(vae.config, width=48, height=32, frames=9)
    assert torch.cat(list(decode(vae, latents)), dim=2).shape == (1, 3, 9, 32, 48)


def test_an_abandoned_decode_leaves_no_cache() -> None:
    vae = tiny_wan.vae()
    frames = decode_frames(vae, draw(4, 3, 4, 4))
    assert next(frames).shape == (1, 16, 16, 3)
    assert caches(vae)
    frames.close()
    assert caches(vae) == []


def test_a_failing_decode_leaves_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tiny_wan.vae()
    pieces = decode(vae, draw(1, 4, 3, 4, 4))
    next(pieces)
    monkeypatch.setattr(vae.decoder, "conv_out", None)
    with pytest.raises(TypeError):
        next(pieces)
    assert caches(vae) == []


def test_frames_are_whole_levels_cut_down() -> None:
    vae, latents = tiny_wan.vae(), draw(4, 2, 4, 4)
    frames = np.concatenate(list(decode_frames(vae, latents)))
    whole = torch.cat(list(decode(vae, latents[None])), dim=2)[0].permute(1, 2, 3, 0)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, np.floor(((whole + 1) / 2 * 255).numpy()).astype(np.uint8))


def test_encoding_takes_the_mean_and_drops_what_is_left_over() -> None:
    vae, video = tiny_wan.vae(), draw(1, 3, 7, 16, 16)
    assert torch.equal(encode(vae, video), encode(vae, video))
    assert torch.equal(encode(vae, video), encode(vae, video[:, :, :5]))
    mean = vae.encode(video[:, :, :5]).latent_dist.mean
    assert torch.equal(encode(vae, video), normalised(mean, vae.config))
    assert caches(vae) == []


def test_normalising_can_be_undone() -> None:
    config, latents = tiny_wan.VAE, draw(2, 4, 1, 2, 2)
    torch.testing.assert_close(denormalised(normalised(latents, config), config), latents)
    torch.testing.assert_close(normalised(latents, config)[:, 1], (latents[:, 1] + 0.2) / 2)


def test_pixels_span_minus_one_to_one() -> None:
    picture = np.array([[[0, 255, 51]]], np.uint8)
    torch.testing.assert_close(to_pixels(picture).flatten(), torch.tensor([-1, 1, -0.6]))


def test_previews_use_the_fitted_colours_where_there_are_any() -> None:
    latents = draw(4, 3, 5, 6)
    neutral = preview(latents, None)
    assert neutral.shape == (3, 5, 6, 3) and neutral.dtype == np.uint8
    factors = {"weight": [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], "bias": [0.0, -1.0, 1.0]}
    colours = preview(latents, factors)
    assert (colours[..., 1] == 0).all() and (colours[..., 2] == 255).all()
    expected = ((latents[0].clamp(-1, 1) + 1) * 127.5).round().numpy()
    assert np.array_equal(colours[..., 0], expected)


def test_a_text_is_tokenised_with_its_end_and_cut_before_it(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_wan.write_tokenizer(tmp_path / "tokenizer.json"))
    assert text.tokenise(tokenizer, " a  red\nstar ", text_len=8) == ([3, 4, 6, 1], "")
    assert text.tokenise(tokenizer, "", text_len=8) == ([1], "")
    ids, cut = text.tokenise(tokenizer, "red " * 20, text_len=8)
    assert (ids, cut) == ([4] * 7 + [1], " ".join(["red"] * 13))
    assert text.tokenise(tokenizer, "red " * 7, text_len=8) == ([4] * 7 + [1], "")


def test_a_tokenizer_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tiny_wan.write_tokenizer(tmp_path / "tokenizer.json")
    assert text.tokenise(load_tokenizer(path), "red star", text_len=8)[0] == [4, 6, 1]
    assert load_tokenizer(path) is load_tokenizer(path)
    before, told = stamp(path), json.loads(path.read_text())
    vocabulary = told["model"]["vocab"]
    vocabulary["red"], vocabulary["star"] = vocabulary["star"], vocabulary["red"]
    path.write_text(json.dumps(told))
    os.utime(path, ns=(before[1] + 1, before[1] + 1))
    assert text.tokenise(load_tokenizer(path), "red star", text_len=8)[0] == [6, 4, 1]
    assert stamp(path) != before, "what was remembered of texts is not used again"


def test_padding_is_invisible_to_real_tokens() -> None:
    encoder, ids = tiny_wan.text_encoder(), torch.tensor([[3, 4, 6, 1]])
    alone = text.encode_tokens(encoder, ids, torch.tensor([4]))
    padded = text.encode_tokens(encoder, torch.nn.functional.pad(ids, (0, 5)), torch.tensor([4]))
    torch.testing.assert_close(padded[:, :4], alone, atol=1e-6, rtol=1e-5)
    assert not padded[:, 4:].any()
    assert torch.equal(text.padded(alone[0], text_len=9)[:4], alone[0])
    assert not text.padded(alone[0], text_len=9)[4:].any()


def test_a_cache_of_the_network_is_told_pass_step_and_noise_level() -> None:
    network = tiny_wan.transformer()
    network.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    told: list[Any] = []
    network.proj_out.register_forward_pre_hook(lambda *_: told.append(_cache_context(network)))
    arguments = (draw(2, 4, 1, 4, 4), torch.tensor(500.0), draw(2, 12, 16))
    predict(network, *arguments, call=NetworkCall(("cond", "uncond"), SamplingStep(3, 20, 0.5)))
    (context,) = told
    assert (context.name, context.step_index, context.num_inference_steps) == ("cond+uncond", 3, 20)
    assert context.sigma == 0.5
    assert _cache_context(network) is None


def _cache_context(network: torch.nn.Module) -> Any:
    registries = [module._diffusers_hook for module in network.modules() if hasattr(module, "_diffusers_hook")]
    parts = [part for registry in registries for hook in registry.hooks.values() for part in vars(hook).values()]
    return next(part._context for part in parts if isinstance(part, StateManager))
