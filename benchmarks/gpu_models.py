"""Wan networks of published size with random weights, which cost what trained ones do: no file is downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file

from engines.loading.checkpoints import construct
from engines.wan.transformer_keys import TRANSFORMER

FILE = "diffusion_pytorch_model.safetensors"
COMMON = {"in_channels": 16, "out_channels": 16, "freq_dim": 256, "patch_size": (1, 2, 2), "cross_attn_norm": True}
WAN_1_3B = COMMON | {
    "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30, "text_dim": 4096,
}  # fmt: skip
WAN_14B = COMMON | {
    "num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40, "text_dim": 4096,
}  # fmt: skip
TINY = COMMON | {
    "num_attention_heads": 1, "attention_head_dim": 32, "ffn_dim": 64, "num_layers": 2, "text_dim": 32, "freq_dim": 32,
}  # fmt: skip
TINY_VAE = {"base_dim": 4, "num_res_blocks": 1}


@dataclass(frozen=True)
class Scale:
    """What is measured: networks and a clip, of published size or tiny.

    Attributes:
        small, large: arguments of WanTransformer3DModel.
        vae: arguments of AutoencoderKLWan.
        large_gb: the most memory that the large network may have while its blocks take turns.
        small_gb: of a small card, on which clips are decoded too.
        names: of both networks.
    """

    small: dict[str, Any]
    large: dict[str, Any]
    vae: dict[str, Any]
    width: int
    height: int
    frames: int
    large_gb: float
    small_gb: float
    names: tuple[str, str]


FULL = Scale(WAN_1_3B, WAN_14B, {}, 832, 480, 81, 12.0, 10.0, ("1.3B", "14B"))
SMALLEST = Scale(TINY, TINY, TINY_VAE, 64, 48, 5, 4.0, 4.0, ("tiny", "tiny"))


def write_transformer(folder: Path, config: dict[str, Any], device: torch.device) -> Path:
    """A transformer in bfloat16, as diffusers keeps one: its file and a config.json beside it."""
    folder.mkdir(parents=True)
    with torch.device(device):
        network = WanTransformer3DModel(**config)
    network.save_config(folder)
    save_file(_in_bfloat16(network), folder / FILE)
    return folder / FILE


def write_vae(folder: Path, config: dict[str, Any], device: torch.device) -> Path:
    """An autoencoder in float32."""
    folder.mkdir(parents=True)
    with torch.device(device):
        network = AutoencoderKLWan(**config)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / FILE)
    return folder / FILE


def of_one_block(config: dict[str, Any], device: torch.device) -> WanTransformer3DModel:
    """A network in RAM whose blocks are all one block's memory: as many bytes go to a GPU as of any, and only one
    block of numbers had to be drawn."""
    with torch.device(device):
        single = WanTransformer3DModel(**config | {"num_layers": 1})
    drawn = {name: tensor.cpu() for name, tensor in _in_bfloat16(single).items()}
    network = construct(TRANSFORMER, config)
    state = {name: drawn[re.sub(r"^blocks\.\d+\.", "blocks.0.", name)].detach() for name in network.state_dict()}
    network.load_state_dict(state, assign=True)
    TRANSFORMER.restore(network)
    return network.eval().requires_grad_(False)


def _in_bfloat16(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its weights as a published file in bfloat16 has them once it is loaded: some parts stay in float32."""
    return {
        name: tensor.contiguous() if TRANSFORMER.stays_float32(name) else tensor.to(torch.bfloat16).contiguous()
        for name, tensor in network.state_dict().items()
    }
