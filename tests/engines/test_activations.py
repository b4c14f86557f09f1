"""Every formula of working memory is at least what a run allocates at published width, and at most 1.4 times of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from engines.memory import activations
from engines.pyramid_flow import miniflux, mmdit
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.mmdit import PyramidMMDiT
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.sizes import TILE
from engines.pyramid_flow.vae import Cache, CausalVideoVAE
from engines.training.recipes.flashi2v_full import UMT5_XXL
from engines.wan import vae as vae_module
from engines.wan.text import encode_tokens
from engines.wan.transformer import predict
from engines.wan.vae import decode, encode
from tests.engines.fake_peak import fake, peak_bytes

WIDTHS = {
    "1.3B": {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960},
    "5B": {"num_attention_heads": 24, "attention_head_dim": 128, "ffn_dim": 14336},
    "14B": {"num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824},
}
VAE_2_1 = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
VAE_2_2 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
VAES = {"2.1": (VAE_2_1, 8), "2.2": (VAE_2_2, 16)}


@contextmanager
def in_precision(dtype: torch.dtype) -> Iterator[None]:
    """Networks are made in `dtype`: fake ones cannot be converted."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def close(reckoned: int, peak: int) -> bool:
    return peak <= reckoned <= 1.4 * peak


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("name", "rows", "latents"),
    [
        ("1.3B", 1, (22, 60, 104)),
        ("1.3B", 3, (10, 60, 104)),
        ("14B", 1, (21, 60, 104)),
        ("14B", 1, (21, 90, 160)),
        ("5B", 2, (31, 30, 52)),
    ],
)
def test_a_transformer(name: str, rows: int, latents: tuple[int, ...], dtype: torch.dtype) -> None:
    config = WIDTHS[name]
    with fake(), in_precision(dtype):
        network = WanTransformer3DModel(**config, num_layers=2)
        inputs, text = torch.empty(rows, 16, *latents), torch.empty(rows, 512, 4096)
        peak = peak_bytes(lambda: predict(network, inputs, torch.tensor(500), text), network)
    tokens = rows * latents[0] * latents[1] * latents[2] // 4
    assert close(activations.wan_transformer(config, tokens=tokens, itemsize=dtype.itemsize), peak)


@pytest.mark.parametrize("version", VAES)
@pytest.mark.parametrize("size", [(832, 480), (1280, 704)])
def test_an_autoencoder(version: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_module, "finite", lambda values, **told: values)  # a fake one has no numbers to look at
    options, stride = VAES[version]
    wide, high = size
    with fake():
        vae = AutoencoderKLWan(**options)
        shape = (1, vae.config.z_dim, 3, high // stride, wide // stride)

        def counted(run: Callable[[], Any]) -> int:
            return peak_bytes(run, vae)

        decoding = counted(lambda: [None for _ in decode(vae, torch.empty(shape))])
        encoding = {count: counted(lambda: encode(vae, torch.empty(1, 3, count, high, wide))) for count in (1, 9)}  # noqa: B023
    told = {"wide": wide, "high": high, "itemsize": 4}
    assert close(activations.wan_decoder(vae.config, **told), decoding)
    for count, peak in encoding.items():
        assert close(activations.wan_encoder(vae.config, frames=count, **told), peak)


def test_the_text_encoder() -> None:
    with fake(), in_precision(torch.bfloat16):
        encoder = UMT5EncoderModel(UMT5Config(**UMT5_XXL | {"num_layers": 2}))
        ids = torch.zeros(1, 512, dtype=torch.long)
        peak = peak_bytes(lambda: encode_tokens(encoder, ids, torch.full((1,), 512)), encoder)
    assert close(activations.text_encoder(encoder.config.to_dict(), tokens=512, itemsize=2), peak)


FAMILIES = {
    "miniflux": (
        PyramidFlux,
        {
            "patch_size": 1, "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 64,
            "num_attention_heads": 30, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
            "guidance_embeds": False, "axes_dims_rope": [16, 24, 24],
        },
    ),
    "sd3": (
        PyramidMMDiT,
        {
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "num_layers": 2, "attention_head_dim": 64,
            "num_attention_heads": 24, "joint_attention_dim": 4096, "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048, "out_channels": 16, "pos_embed_max_size": 192, "qk_norm": "rms_norm",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rows", "size"), [(1, (96, 160)), (2, (48, 80))])
def test_a_pyramid_network(family: str, rows: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    kind, config = FAMILIES[family]
    for module in (miniflux, mmdit):  # how much of a text is padding is read from numbers, which fake ones have not
        monkeypatch.setattr(module, "padding_first", lambda states, mask: (states, (0,) * len(states)))
    high, wide = size
    with fake(), in_precision(torch.bfloat16):
        network = kind(**config)
        shapes = [(8, high // 4, wide // 4), (1, high // 2, wide // 2), (1, high, wide), (1, high, wide)]
        clips = [torch.empty(rows, 16, *shape) for shape in shapes]
        mask, pooled = torch.ones(rows, 128, dtype=torch.bool), torch.empty(rows, config["pooled_projection_dim"])
        text = Text(torch.empty(rows, 128, 4096), mask, pooled)
        peak = peak_bytes(lambda: network(clips, text, torch.full((rows,), 5.5)), network)
    tokens = rows * sum(clip[0, 0].numel() for clip in clips) // 4
    assert close(activations.pyramid_transformer(config, tokens=tokens, itemsize=2), peak)


def test_the_pyramid_autoencoder() -> None:
    with fake(), in_precision(torch.bfloat16):
        vae = CausalVideoVAE()
        cache: Cache = {}

        def decode_three() -> None:
            for _ in range(3):
                vae.decode(torch.empty(1, 16, 1, TILE // 8, TILE // 8), cache)

        peak = peak_bytes(decode_three, vae)
        held = sum(kept.numel() for kept in cache.values())
    assert activations.pyramid_remembered(vae.config, wide=TILE, high=TILE, tile=TILE) == (held, held)
    told = {"wide": 1280, "high": 768, "tile": TILE, "itemsize": 2}
    assert close(activations.pyramid_coder(vae.config, **told), peak)
