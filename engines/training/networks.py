"""The starter networks: the published systems' own classes with small configurations."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

PYRAMID_CHANNELS = 24
WAN_CHANNELS = 48
TEXT_WIDTH = 128
TEXT_LEN = 64
VOCABULARY = 1024

VAE: dict[str, Any] = {
    "base_dim": 32,
    "decoder_base_dim": 32,
    "z_dim": WAN_CHANNELS,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "dropout": 0.0,
    "latents_mean": [0.0] * WAN_CHANNELS,
    "latents_std": [1.0] * WAN_CHANNELS,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}

TRANSFORMER: dict[str, Any] = {
    "patch_size": [1, 1, 1],
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "in_channels": WAN_CHANNELS,
    "out_channels": WAN_CHANNELS,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 256,
    "ffn_dim": 1024,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "rope_max_seq_len": 1024,
}

TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": TEXT_WIDTH,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def build_vae(config: dict[str, Any] | None = None) -> AutoencoderKLWan:
    """A fresh VAE whose log-variance starts at -5 (it does not start to learn otherwise)."""
    vae = AutoencoderKLWan(**(config or VAE))
    with torch.no_grad():
        half = vae.config.z_dim
        vae.quant_conv.weight[half:].zero_()
        vae.quant_conv.bias[half:].fill_(-5.0)
    return vae


def build_transformer(config: dict[str, Any] | None = None) -> WanTransformer3DModel:
    """A fresh transformer that predicts zero."""
    network = WanTransformer3DModel(**(config or TRANSFORMER))
    torch.nn.init.zeros_(network.proj_out.weight)
    torch.nn.init.zeros_(network.proj_out.bias)
    return network


def build_text_encoder(config: dict[str, Any] | None = None) -> UMT5EncoderModel:
    """A fresh text encoder."""
    return UMT5EncoderModel(UMT5Config(**(config or TEXT_ENCODER)))


def text_states(
    encoder: UMT5EncoderModel, ids: torch.Tensor, mask: torch.Tensor, *, text_len: int = TEXT_LEN
) -> torch.Tensor:
    """Token ids and mask [B,L] -> states [B,text_len,D], zero where there is no token (as Wan pads its text)."""
    states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    return torch.nn.functional.pad(states, (0, 0, 0, text_len - states.shape[1]))
