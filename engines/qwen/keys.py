"""Qwen2.5-VL and how its tensors are named: as published, and by the library since it gathers both halves in one.

Source of the published names: Qwen/Qwen2.5-VL-7B-Instruct.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes

# Of every published size; shapes do not tell them.
TEXT_HEAD_DIM, VISION_HEAD_DIM, FULL_ATTENTION_EVERY = 128, 80, 8
TOKENS_PER_SECOND = 2
ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]}

PUBLISHED = Layout(
    name="Qwen",
    signature=(r"visual\.patch_embed\.proj\.weight", r"visual\.merger\.ln_q\.weight", r"model\.layers\.0\..*"),
    renames=((r"^model\.", "model.language_model."), (r"^visual\.", "model.visual.")),
)
TRANSFORMERS = Layout(
    name="transformers",
    signature=(
        r"model\.visual\.patch_embed\.proj\.weight",
        r"model\.visual\.merger\.ln_q\.weight",
        r"model\.language_model\.layers\.0\..*",
    ),
)


def configure(shapes: Shapes) -> dict[str, Any]:
    """Arguments of Qwen2_5_VLConfig from parameter shapes; heads are counted at 128 and 80 channels each."""
    language, visual = "model.language_model", "model.visual"
    vocabulary, width = shapes[f"{language}.embed_tokens.weight"]
    layer = f"{language}.layers.0"
    seen, channels, temporal, patch, _ = shapes[f"{visual}.patch_embed.proj.weight"]
    merged = shapes[f"{visual}.merger.mlp.0.weight"][0]
    depth = _count(shapes, f"{visual}.blocks.")
    return {
        "text_config": {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": shapes[f"{layer}.mlp.gate_proj.weight"][0],
            "num_hidden_layers": _count(shapes, f"{language}.layers."),
            "num_attention_heads": shapes[f"{layer}.self_attn.q_proj.weight"][0] // TEXT_HEAD_DIM,
            "num_key_value_heads": shapes[f"{layer}.self_attn.k_proj.weight"][0] // TEXT_HEAD_DIM,
            "max_position_embeddings": 128_000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": dict(ROPE),
        },
        "vision_config": {
            "depth": depth,
            "hidden_size": seen,
            "intermediate_size": shapes[f"{visual}.blocks.0.mlp.gate_proj.weight"][0],
            "num_heads": seen // VISION_HEAD_DIM,
            "out_hidden_size": shapes[f"{visual}.merger.mlp.2.weight"][0],
            "in_channels": channels,
            "patch_size": patch,
            "temporal_patch_size": temporal,
            "spatial_merge_size": round((merged / seen) ** 0.5),
            "fullatt_block_indexes": list(range(FULL_ATTENTION_EVERY - 1, depth, FULL_ATTENTION_EVERY)),
            "tokens_per_second": TOKENS_PER_SECOND,
        },
    }


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered modules there are below `prefix`."""
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in shapes if name.startswith(prefix))


def restore(network: Qwen2_5_VLForConditionalGeneration) -> None:
    """Computes the frequencies of the positions, which no file holds."""
    with torch.device("cpu"):
        for module in (network.model.visual, network.model.language_model):
            for name, rope in list(module.named_children()):
                if name in ("rotary_pos_emb", "rotary_emb"):
                    setattr(module, name, type(rope)(module.config))


QWEN = Architecture(
    title=families.QWEN25_VL,
    class_name="Qwen2_5_VLForConditionalGeneration",
    construct=lambda config: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)),
    configure=configure,
    layouts=(TRANSFORMERS, PUBLISHED),
    restore=restore,
    blocks=("model.language_model.layers", "model.visual.blocks"),
)


def _restore_tied(network: Qwen2_5_VLForConditionalGeneration) -> None:
    restore(network)
    network.tie_weights()


# The smaller sizes write with the same table that they read with, and their files hold it once.
QWEN_TIED = replace(
    QWEN,
    configure=lambda shapes: configure(shapes) | {"tie_word_embeddings": True},
    aliases={"lm_head.weight": "model.language_model.embed_tokens.weight"},
    restore=_restore_tied,
)
