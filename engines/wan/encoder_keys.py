"""The text and image encoders of Wan and how their tensors are named: by Wan's files, and by transformers.

Sources of the published names: Wan2.1 wan/modules/t5.py (T5Encoder) and wan/modules/clip.py (XLMRobertaCLIP).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes

CLIP_HEAD_DIM = 80  # of ViT-H/14; shapes do not tell it

TEXT_NATIVE = Layout(
    name="Wan",
    signature=(r"token_embedding\.weight", r"blocks\.0\.attn\.q\.weight", r"blocks\.0\.pos_embedding\..*"),
    renames=(
        (r"^token_embedding\.", "shared."),
        (r"^norm\.", "encoder.final_layer_norm."),
        (r"^blocks\.(\d+)\.", r"encoder.block.\1."),
        (r"\.norm1\.", ".layer.0.layer_norm."),
        (r"\.norm2\.", ".layer.1.layer_norm."),
        (r"\.attn\.", ".layer.0.SelfAttention."),
        (r"\.pos_embedding\.embedding\.", ".layer.0.SelfAttention.relative_attention_bias."),
        (r"\.ffn\.gate\.0\.", ".layer.1.DenseReluDense.wi_0."),
        (r"\.ffn\.fc1\.", ".layer.1.DenseReluDense.wi_1."),
        (r"\.ffn\.fc2\.", ".layer.1.DenseReluDense.wo."),
    ),
    ignored=families.REPACKED,
)
TEXT_TRANSFORMERS = Layout(
    name="transformers",
    signature=(
        r"(shared|encoder\.embed_tokens)\.weight",
        r"encoder\.block\.0\.layer\.1\.DenseReluDense\.wi_1\.weight",
        # Every layer has distances of its own; in T5 only the first has.
        r"encoder\.block\.1\.layer\.0\.SelfAttention\.relative_attention_bias\.weight",
    ),
    ignored=(r"decoder\..*", r"lm_head\..*", *families.REPACKED),
)

# As llama.cpp's converter names T5's encoders, in GGUF files.
LLAMA_RENAMES = (
    (r"^token_embd\.", "shared."),
    (r"^enc\.output_norm\.", "encoder.final_layer_norm."),
    (r"^enc\.blk\.(\d+)\.", r"encoder.block.\1."),
    (r"\.attn_norm\.", ".layer.0.layer_norm."),
    (r"\.ffn_norm\.", ".layer.1.layer_norm."),
    (r"\.attn_([qkvo])\.", r".layer.0.SelfAttention.\1."),
    (r"\.attn_rel_b\.", ".layer.0.SelfAttention.relative_attention_bias."),
    (r"\.ffn_gate\.", ".layer.1.DenseReluDense.wi_0."),
    (r"\.ffn_up\.", ".layer.1.DenseReluDense.wi_1."),
    (r"\.ffn_down\.", ".layer.1.DenseReluDense.wo."),
)
TEXT_LLAMA = Layout(
    name="llama.cpp",
    # Every layer has distances of its own; in T5 only the first has.
    signature=(r"token_embd\.weight", r"enc\.blk\.0\.attn_q\.weight", r"enc\.blk\.1\.attn_rel_b\.weight"),
    renames=LLAMA_RENAMES,
    ignored=(r"dec\..*", r"output\.weight"),
)


def configure_text(shapes: Shapes) -> dict[str, Any]:
    """Arguments of UMT5Config from parameter shapes."""
    vocabulary, width = shapes.get("shared.weight") or shapes["encoder.embed_tokens.weight"]
    attention = "encoder.block.0.layer.0.SelfAttention"
    buckets, heads = shapes[f"{attention}.relative_attention_bias.weight"]
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_heads": heads,
        "d_kv": shapes[f"{attention}.q.weight"][0] // heads,
        "d_ff": shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        "num_layers": 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.block.")),
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu",
    }


TEXT_ENCODER = Architecture(
    title=families.UMT5,
    class_name="UMT5EncoderModel",
    construct=lambda config: UMT5EncoderModel(UMT5Config(**config)),
    configure=configure_text,
    layouts=(TEXT_NATIVE, TEXT_TRANSFORMERS, TEXT_LLAMA),
    aliases={"encoder.embed_tokens.weight": "shared.weight"},
    restore=lambda encoder: encoder.tie_weights(),
    blocks=("encoder.block",),
)

IMAGE_NATIVE = Layout(
    name="Wan",
    signature=(
        r"visual\.cls_embedding",
        r"visual\.patch_embedding\.weight",
        r"visual\.transformer\.0\.attn\.to_qkv\..*",
    ),
    # The file also holds the text half of the pair; of the visual half, the projection is not used.
    ignored=(r"textual\..*", r"log_scale", r"visual\.head"),
    renames=(
        (r"^visual\.cls_embedding$", "embeddings.class_embedding"),
        (r"^visual\.pos_embedding$", "embeddings.position_embedding.weight"),
        (r"^visual\.patch_embedding\.", "embeddings.patch_embedding."),
        (r"^visual\.pre_norm\.", "pre_layrnorm."),
        (r"^visual\.post_norm\.", "post_layernorm."),
        (r"^visual\.transformer\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
        (r"^visual\.transformer\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
        (r"^visual\.transformer\.(\d+)\.mlp\.0\.", r"encoder.layers.\1.mlp.fc1."),
        (r"^visual\.transformer\.(\d+)\.mlp\.2\.", r"encoder.layers.\1.mlp.fc2."),
        (r"^visual\.transformer\.(\d+)\.attn\.to_qkv\.", r"encoder.layers.\1.self_attn.to_qkv."),
    ),
    splits=((r"\bto_qkv\b", ("q_proj", "k_proj", "v_proj")),),
)
IMAGE_TRANSFORMERS = Layout(
    name="transformers",
    signature=(
        r"embeddings\.class_embedding",
        r"encoder\.layers\.0\.self_attn\.q_proj\.weight",
        r"pre_layrnorm\.weight",
    ),
    ignored=(r"embeddings\.position_ids", r"visual_projection\.weight"),
)


def configure_image(shapes: Shapes) -> dict[str, Any]:
    """Arguments of CLIPVisionConfig from parameter shapes; heads are counted at 80 channels each."""
    (width,) = [n for n in shapes["embeddings.class_embedding"] if n > 1]
    patch = shapes["embeddings.patch_embedding.weight"][-1]
    positions = math.prod(shapes["embeddings.position_embedding.weight"]) // width
    return {
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.layers.")),
        "num_attention_heads": max(1, width // CLIP_HEAD_DIM),
        "patch_size": patch,
        "image_size": math.isqrt(positions - 1) * patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def restore_positions(encoder: CLIPVisionModel) -> None:
    """Counts the positions, which no file holds."""
    embeddings = encoder.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device="cpu").expand(1, -1)


IMAGE_ENCODER = Architecture(
    title=families.CLIP_VISION,
    class_name="CLIPVisionModel",
    construct=lambda config: CLIPVisionModel(CLIPVisionConfig(**config)),
    configure=configure_image,
    layouts=(IMAGE_NATIVE, IMAGE_TRANSFORMERS),
    restore=restore_positions,
    blocks=("encoder.layers",),
)
