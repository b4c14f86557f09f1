"""The small networks of BindWeave's starter: the published system's own classes with small configurations."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from engines.bindweave.conditions import MASK_CHANNELS
from engines.bindweave.network import BindWeaveTransformer3DModel

from .. import networks

# Pictures are seen in at most this many pixels: 4 to 12 tokens, whatever their size.
MAX_PIXELS = 84 * 112

IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8,
    "image_size": 48, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
LANGUAGE: dict[str, Any] = {
    "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 3,
    "num_key_value_heads": 3, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
    "pad_token_id": 0, "bos_token_id": 0,
}  # fmt: skip
VISION: dict[str, Any] = {
    "depth": 2, "hidden_size": 64, "intermediate_size": 192, "num_heads": 2, "out_hidden_size": 96, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [1],
    "in_channels": 3, "tokens_per_second": 2,
}  # fmt: skip


def mllm_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Arguments of Qwen2_5_VLConfig for chats in these tokens."""
    control = {
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    text = LANGUAGE | {
        "vocab_size": tokenizer.get_vocab_size(),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    }
    ids = {name: tokenizer.token_to_id(token) for name, token in control.items()}
    return {"text_config": text, "vision_config": dict(VISION), **ids}


def build_mllm(config: dict[str, Any]) -> Qwen2_5_VLForConditionalGeneration:
    """A fresh multimodal model."""
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))


def build_image_encoder() -> CLIPVisionModel:
    """A fresh image encoder. Its last block and norm stay so: BindWeave takes the states before them."""
    return CLIPVisionModel(CLIPVisionConfig(**IMAGE_ENCODER))


def transformer_config() -> dict[str, Any]:
    """Arguments of BindWeaveTransformer3DModel: the starters' transformer with room for pictures."""
    base, clip = networks.TRANSFORMER, IMAGE_ENCODER
    return base | {
        "in_channels": MASK_CHANNELS + 2 * base["out_channels"],
        "image_dim": clip["hidden_size"],
        "added_kv_proj_dim": base["num_attention_heads"] * base["attention_head_dim"],
        "mllm_dim": LANGUAGE["hidden_size"],
        "clip_token_len": (clip["image_size"] // clip["patch_size"]) ** 2 + 1,
    }


def build_transformer() -> BindWeaveTransformer3DModel:
    """A fresh transformer that predicts zero."""
    network = BindWeaveTransformer3DModel(**transformer_config())
    torch.nn.init.zeros_(network.proj_out.weight)
    torch.nn.init.zeros_(network.proj_out.bias)
    return network


@torch.no_grad()
def begin_as(network: BindWeaveTransformer3DModel, base: dict[str, torch.Tensor], grey: torch.Tensor) -> None:
    """Set a fresh transformer to what the text-to-video base does, which knows pictures as clean frames beside a clip.

    A picture's latent goes through the weights that a clip's latent goes through; the clip's own frames, whose
    condition is grey, see what they saw; what the encoders of pictures say counts little at first.

    Args:
        base: tensors of the base; those next to the latents are left out where it was trained on other ones.
        grey: latent [C] of a grey frame.

    Raises:
        ValueError: the base is of another network.
    """
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in base.items() if name in own and tensor.shape == own[name].shape}
    missing = own.keys() - fitting.keys()
    added = ("patch_embedding.", "proj_out.", "condition_embedder.text_projector.", "condition_embedder.image_embedder")
    if left := [n for n in missing if not n.startswith(added) and ".add_" not in n and "norm_added" not in n]:
        raise ValueError(f"The text-to-video base is of another network: it has no {min(left)}.")
    network.load_state_dict(fitting, strict=False)
    seen = base["patch_embedding.weight"]
    channels = network.config.out_channels
    if seen.shape[1] == channels:
        embedding = network.patch_embedding
        at_grey = (seen.flatten(2).sum(-1) * grey).sum(-1)
        embedding.weight.zero_()
        embedding.weight[:, :channels] = embedding.weight[:, channels + MASK_CHANNELS :] = seen
        embedding.weight[:, channels, 0, 0, 0] = at_grey
        embedding.bias.copy_(base["patch_embedding.bias"] - at_grey)
    embedder = network.condition_embedder
    embedder.text_projector.linear_2.weight.mul_(0.1)
    embedder.text_projector.linear_2.bias.zero_()
    embedder.image_embedder.norm2.weight.fill_(0.1)
    for block in network.blocks:
        block.attn2.add_v_proj.weight.mul_(0.1)
        block.attn2.add_v_proj.bias.zero_()
