"""The Wan video transformer and how its tensors are named: by its authors, and by diffusers.

Source of the published names: Wan2.1 wan/modules/model.py, class WanModel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes

HEAD_DIM = 128  # of every published Wan model; shapes do not tell it

NATIVE = Layout(
    name="Wan",
    signature=(r"patch_embedding\.weight", r"blocks\.0\.self_attn\.q\.weight", r"head\.modulation"),
    renames=(
        (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
        (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
        (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
        (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
        (r"^time_projection\.1\.", "condition_embedder.time_proj."),
        (r"^img_emb\.proj\.0\.", "condition_embedder.image_embedder.norm1."),
        (r"^img_emb\.proj\.1\.", "condition_embedder.image_embedder.ff.net.0.proj."),
        (r"^img_emb\.proj\.3\.", "condition_embedder.image_embedder.ff.net.2."),
        (r"^img_emb\.proj\.4\.", "condition_embedder.image_embedder.norm2."),
        (r"^img_emb\.emb_pos$", "condition_embedder.image_embedder.pos_embed"),
        (r"\.self_attn\.", ".attn1."),
        (r"\.cross_attn\.", ".attn2."),
        (r"(\.attn[12])\.([qkv])\.", r"\1.to_\2."),
        (r"(\.attn[12])\.o\.", r"\1.to_out.0."),
        (r"\.attn2\.([kv])_img\.", r".attn2.add_\1_proj."),
        (r"\.attn2\.norm_k_img\.", ".attn2.norm_added_k."),
        # The authors' norm3 stands before cross-attention; diffusers counts it second.
        (r"^(blocks\.\d+)\.norm3\.", r"\1.norm2."),
        (r"\.ffn\.0\.", ".ffn.net.0.proj."),
        (r"\.ffn\.2\.", ".ffn.net.2."),
        (r"^(blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
        (r"^head\.modulation$", "scale_shift_table"),
        (r"^head\.head\.", "proj_out."),
    ),
)
# Wan as the MindSpeed-MM runtime names it; the files of systems built there.
MINDSPEED = Layout(
    name="MindSpeed-MM",
    signature=(r"patch_embedding\.weight", r"blocks\.0\.self_attn\.proj_q\.weight", r"head\.modulation"),
    renames=(
        (r"^text_embedding\.linear_", "condition_embedder.text_embedder.linear_"),
        (r"_attn\.proj_([qkv])\.", r"_attn.\1."),
        (r"_attn\.proj_out\.", "_attn.o."),
        (r"_attn\.([qk])_norm(_img)?\.", r"_attn.norm_\1\2."),
        *NATIVE.renames,
    ),
    ignored=(r".*\._extra_state",),  # what the training framework's parallel layers leave behind
)
DIFFUSERS = Layout(
    name="diffusers",
    signature=(r"patch_embedding\.weight", r"blocks\.0\.attn1\.to_q\.weight", r"proj_out\.weight"),
    ignored=(r"blocks\.\d+\.attn2\.norm_added_q\.weight",),
)


def configure(shapes: Shapes) -> dict[str, Any]:
    """Arguments of WanTransformer3DModel from parameter shapes; heads are counted at 128 channels each."""
    width, channels, *patch = shapes["patch_embedding.weight"]
    config = {
        "patch_size": tuple(patch),
        "num_attention_heads": max(1, width // HEAD_DIM),
        "attention_head_dim": min(width, HEAD_DIM),
        "in_channels": channels,
        "out_channels": shapes["proj_out.weight"][0] // math.prod(patch),
        "text_dim": shapes["condition_embedder.text_embedder.linear_1.weight"][1],
        "freq_dim": shapes["condition_embedder.time_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "eps": 1e-6,
    }
    if image := shapes.get("condition_embedder.image_embedder.norm1.weight"):
        config |= {"image_dim": image[0], "added_kv_proj_dim": shapes["blocks.0.attn2.add_k_proj.weight"][1]}
    if positions := shapes.get("condition_embedder.image_embedder.pos_embed"):
        config["pos_embed_seq_len"] = positions[1]
    return config


def restore_rope(network: WanTransformer3DModel) -> None:
    """Computes the rope tables, which no file holds."""
    config = network.config
    with torch.device("cpu"):
        network.rope = WanRotaryPosEmbed(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)


TRANSFORMER = Architecture(
    title=families.WAN_TRANSFORMER,
    class_name="WanTransformer3DModel",
    construct=lambda config: WanTransformer3DModel(**config),
    configure=configure,
    layouts=(NATIVE, DIFFUSERS),
    keep_float32=tuple(WanTransformer3DModel._keep_in_fp32_modules),
    restore=restore_rope,
    blocks=("blocks",),
)
