"""Pyramid Flow's networks as architectures: how the tensors of their published files are named.

Source of the names: the classes of jy0205/Pyramid-Flow, which follow diffusers and transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.mmdit import PyramidMMDiT
from engines.pyramid_flow.vae import CausalVideoVAE
from engines.wan.encoder_keys import LLAMA_RENAMES

HEAD_DIM = 64  # of both published transformers and of CLIP; shapes tell it where queries are normalised
PATCH_AREA = 4
PRECISIONS = ("bfloat16", "float32")  # in float16 these networks make black video
ROTARY_AXES = {64: (16, 24, 24)}  # head channels -> channels for frame time, row, column


def count(shapes: Shapes, stem: str) -> int:
    """How many numbered entries `stem`.N. there are."""
    place = stem.count(".") + 1
    return 1 + max((int(n.split(".")[place]) for n in shapes if n.startswith(f"{stem}.")), default=-1)


def rotary_axes(head_dim: int) -> tuple[int, int, int]:
    """A quarter of the head for time, the rest for rows and columns, every share even; 16, 24, 24 as published."""
    if head_dim in ROTARY_AXES:
        return ROTARY_AXES[head_dim]
    time = head_dim // 8 * 2
    space = (head_dim - time) // 4 * 2
    return head_dim - 2 * space, space, space


def configure_miniflux(shapes: Shapes) -> dict[str, Any]:
    """Arguments of PyramidFlux from parameter shapes."""
    width, channels = shapes["x_embedder.weight"]
    head_dim = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": count(shapes, "transformer_blocks"),
        "num_single_layers": count(shapes, "single_transformer_blocks"),
        "attention_head_dim": head_dim,
        "num_attention_heads": width // head_dim,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "guidance_embeds": False,
        "axes_dims_rope": rotary_axes(head_dim),
    }


def configure_mmdit(shapes: Shapes) -> dict[str, Any]:
    """Arguments of PyramidMMDiT from parameter shapes; of the table of positions, the published side and base."""
    width, channels = shapes["pos_embed.proj.weight"][:2]
    head_dim = shapes["transformer_blocks.0.attn.norm_q.weight"][0]
    return {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": channels,
        "num_layers": count(shapes, "transformer_blocks"),
        "attention_head_dim": head_dim,
        "num_attention_heads": width // head_dim,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "caption_projection_dim": shapes["context_embedder.weight"][0],
        "pooled_projection_dim": shapes["time_text_embed.text_embedder.linear_1.weight"][1],
        "out_channels": shapes["proj_out.weight"][0] // PATCH_AREA,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    }


def configure_vae(shapes: Shapes) -> dict[str, Any]:
    """Arguments of CausalVideoVAE from parameter shapes; groups of the norms as published."""

    def blocks(side: str) -> list[str]:
        return [f"{side}.{index}" for index in range(count(shapes, side))]

    down, up = blocks("encoder.down_blocks"), blocks("decoder.up_blocks")
    return {
        "encoder_in_channels": shapes["encoder.conv_in.conv.weight"][1],
        "encoder_out_channels": shapes["encoder.conv_out.conv.weight"][0] // 2,
        "encoder_block_out_channels": tuple(shapes[f"{b}.resnets.0.conv1.conv.weight"][0] for b in down),
        "encoder_layers_per_block": tuple(count(shapes, f"{b}.resnets") for b in down),
        "encoder_spatial_down_sample": tuple(f"{b}.downsamplers.0.conv.conv.weight" in shapes for b in down),
        "encoder_temporal_down_sample": tuple(f"{b}.temporal_downsamplers.0.conv.conv.weight" in shapes for b in down),
        "decoder_in_channels": shapes["decoder.conv_in.conv.weight"][1],
        "decoder_out_channels": shapes["decoder.conv_out.conv.weight"][0],
        "decoder_block_out_channels": tuple(shapes[f"{b}.resnets.0.conv1.conv.weight"][0] for b in reversed(up)),
        "decoder_layers_per_block": tuple(count(shapes, f"{b}.resnets") for b in up),
        "decoder_spatial_up_sample": tuple(f"{b}.upsamplers.0.conv.conv.weight" in shapes for b in up),
        "decoder_temporal_up_sample": tuple(f"{b}.temporal_upsamplers.0.conv.conv.weight" in shapes for b in up),
    }


def configure_clip(shapes: Shapes) -> dict[str, Any]:
    """Arguments of CLIPTextConfig from parameter shapes; OpenCLIP's wider towers use the plain GELU."""
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    config = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": count(shapes, "encoder.layers"),
        "num_attention_heads": max(1, width // HEAD_DIM),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": "quick_gelu" if width <= 768 else "gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,  # tells transformers to pool where the token id is largest, as these files were trained
        "pad_token_id": 1,
    }
    if projection := shapes.get("text_projection.weight"):
        config["projection_dim"] = projection[0]
    return config


def configure_projected_clip(shapes: Shapes) -> dict[str, Any]:
    """The same for the class with a projection, whose tower's names have a prefix."""
    return configure_clip({name.removeprefix("text_model."): shape for name, shape in shapes.items()})


def configure_t5(shapes: Shapes) -> dict[str, Any]:
    """Arguments of T5Config from parameter shapes."""
    attention = "encoder.block.0.layer.0.SelfAttention"
    vocabulary, width = shapes.get("shared.weight") or shapes["encoder.embed_tokens.weight"]
    buckets, heads = shapes[f"{attention}.relative_attention_bias.weight"]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_heads": heads,
        "d_kv": shapes[f"{attention}.q.weight"][0] // heads,
        "d_ff": shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        "num_layers": count(shapes, "encoder.block"),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }


def restore_clip(encoder: CLIPTextModel | CLIPTextModelWithProjection) -> None:
    """Counts the positions, which no file needs to hold."""
    embeddings = getattr(encoder, "text_model", encoder).embeddings
    embeddings.position_ids = torch.arange(encoder.config.max_position_embeddings, device="cpu").expand(1, -1)


MINIFLUX = Architecture(
    title=families.PYRAMID_MINIFLUX,
    class_name="PyramidFlux",
    construct=lambda config: PyramidFlux(**config),
    configure=configure_miniflux,
    layouts=(
        Layout(
            name="Pyramid Flow",
            signature=(
                r"x_embedder\.weight",
                r"transformer_blocks\.0\.attn\.norm_added_q\.weight",
                r"single_transformer_blocks\.0\.proj_mlp\.weight",
            ),
        ),
    ),
    blocks=("transformer_blocks", "single_transformer_blocks"),
    precisions=PRECISIONS,
)
MMDIT = Architecture(
    title=families.PYRAMID_SD3,
    class_name="PyramidMMDiT",
    construct=lambda config: PyramidMMDiT(**config),
    configure=configure_mmdit,
    layouts=(
        Layout(
            name="Pyramid Flow",
            signature=(r"pos_embed\.proj\.weight", r"transformer_blocks\.0\.attn\.norm_add(ed)?_q\.weight"),
            renames=((r"\.attn\.norm_add_([qk])\.", r".attn.norm_added_\1."),),
            ignored=(r"pos_embed\.pos_embed",),
        ),
    ),
    restore=lambda network: network.compute_positions(torch.device("cpu")),
    blocks=("transformer_blocks",),
    precisions=PRECISIONS,
)
VAE = Architecture(
    title=families.PYRAMID_AUTOENCODER,
    class_name="CausalVideoVAE",
    construct=lambda config: CausalVideoVAE(**config),
    configure=configure_vae,
    layouts=(
        Layout(
            name="Pyramid Flow",
            signature=(
                r"encoder\.down_blocks\.0\.resnets\.0\.conv1\.conv\.weight",
                r"decoder\.up_blocks\.0\.resnets\.0\.conv1\.conv\.weight",
                r"quant_conv\.conv\.weight",
            ),
            ignored=(r"loss\..*",),  # the discriminator and the perceptual network of its training
        ),
    ),
    precisions=PRECISIONS,
)
T5 = Architecture(
    title=families.T5,
    class_name="T5EncoderModel",
    construct=lambda config: T5EncoderModel(T5Config(**config)),
    configure=configure_t5,
    layouts=(
        Layout(
            name="transformers",
            signature=(
                r"(shared|encoder\.embed_tokens)\.weight",
                r"encoder\.block\.0\.layer\.1\.DenseReluDense\.wi_1\.weight",
                r"encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight",
            ),
            ignored=(r"decoder\..*", r"lm_head\..*", *families.REPACKED),
        ),
        Layout(
            name="llama.cpp",
            signature=(r"token_embd\.weight", r"enc\.blk\.0\.attn_q\.weight", r"enc\.blk\.0\.attn_rel_b\.weight"),
            renames=LLAMA_RENAMES,
            ignored=(r"dec\..*", r"output\.weight"),
        ),
    ),
    aliases={"encoder.embed_tokens.weight": "shared.weight"},
    restore=lambda encoder: encoder.tie_weights(),
    blocks=("encoder.block",),
    precisions=PRECISIONS,
)
_TOWER = (r"(text_model\.)?embeddings\.token_embedding\.weight", r"(text_model\.)?encoder\.layers\.0\.mlp\.fc1\.weight")
CLIP = Architecture(
    title=families.CLIP_TEXT,
    class_name="CLIPTextModel",
    construct=lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    configure=configure_clip,
    layouts=(
        Layout(
            name="transformers",
            signature=_TOWER,
            renames=((r"^text_model\.", ""),),
            ignored=(r"(.*\.)?position_ids", r"text_projection\.weight"),
        ),
    ),
    restore=restore_clip,
    blocks=("encoder.layers",),
    precisions=PRECISIONS,
)
PROJECTED_CLIP = Architecture(
    title=families.PROJECTED_CLIP_TEXT,
    class_name="CLIPTextModelWithProjection",
    construct=lambda config: CLIPTextModelWithProjection(CLIPTextConfig(**config)),
    configure=configure_projected_clip,
    layouts=(
        Layout(
            name="transformers",
            signature=(*_TOWER, r"text_projection\.weight"),
            ignored=(r"(.*\.)?position_ids",),
        ),
    ),
    restore=restore_clip,
    blocks=("text_model.encoder.layers",),
    precisions=PRECISIONS,
)
