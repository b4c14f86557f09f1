"""How the tensors of the physics branch and of V-JEPA 2 are named: in this project's checkpoints, in published ones.

Sources of the published names: transformers' VJEPA2Model, and facebookresearch/vjepa2 src/models/vision_transformer.py.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from engines.loading import families
from engines.loading.key_rules import Architecture, Layout, Shapes
from engines.phantom_physics.encoder import build_encoder
from engines.phantom_physics.network import PhysicsBranch
from engines.wan import transformer_keys
from engines.wan.transformer_keys import NATIVE, TRANSFORMER, restore_rope

HEADS = {1024: 16, 1280: 16, 1408: 22}  # of V-JEPA 2 by width: shapes do not tell them

# What one file may hold: each network ignores the others.
_PHYSICS_KEYS = r"(physics|coupling|physics_latents|force)\..*"
_VISUAL_KEYS = r"(patch_embedding|text_embedding|time_embedding|time_projection|blocks|head)\..*"
_ENCODER_KEYS = r"(encoder|predictor)\..*"

# The library's names -> the published ones, for writing checkpoints: NATIVE's renames the other way round.
_TO_NATIVE = (
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"_attn\.to_([qkv])\.", r"_attn.\1."),
    (r"_attn\.to_out\.0\.", "_attn.o."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
)


def native_name(name: str) -> str:
    """The key of a physics branch's parameter in a checkpoint of this project."""
    name = re.sub(r"^blocks\.(\d+)\.coupling\.", r"coupling.\1.", name)
    if re.fullmatch(_PHYSICS_KEYS, name):
        return name
    return f"physics.{native_visual_name(name)}"


def native_visual_name(name: str) -> str:
    """The published key of a visual transformer's parameter."""
    for pattern, replacement in _TO_NATIVE:
        name = re.sub(pattern, replacement, name)
    return name


def _own_name(found: re.Match[str]) -> str:
    """The library's name of a key `physics....`."""
    (name,) = Layout("", (), NATIVE.renames).convert([found[1]])
    return name


PHYSICS = Layout(
    name="Phantom-physics",
    signature=(r"physics\.blocks\.0\.self_attn\.q\.weight", r"coupling\.\d+\.vis_attn\.q\.weight"),
    renames=((r"^physics\.(.+)$", _own_name), (r"^coupling\.(\d+)\.", r"blocks.\1.coupling.")),
    ignored=(_VISUAL_KEYS, _ENCODER_KEYS),
)


def configure_branch(shapes: Shapes) -> dict[str, Any]:
    """Arguments of PhysicsBranch from parameter shapes; heads are counted at 128 channels each."""
    coupled = sorted({int(name.split(".")[1]) for name in shapes if ".coupling." in name})
    config = transformer_keys.configure(shapes)
    return config | {
        "visual_width": shapes[f"blocks.{coupled[0]}.coupling.vis_attn.q.weight"][0],
        "coupling_layers": "all" if len(coupled) == config["num_layers"] else coupled,
        "statistics": "physics_latents.mean" in shapes,
        "takes_force": "force.visual.weight" in shapes,
    }


BRANCH = Architecture(
    title=families.PHYSICS,
    class_name="PhysicsBranch",
    construct=lambda config: PhysicsBranch(**config),
    configure=configure_branch,
    layouts=(PHYSICS,),
    keep_float32=(*TRANSFORMER.keep_float32, "physics_latents"),
    restore=restore_rope,
    blocks=TRANSFORMER.blocks,
)
# The pictures' transformer, also from a file that holds both branches and their encoder.
VISUAL = dataclasses.replace(
    TRANSFORMER,
    layouts=tuple(
        dataclasses.replace(layout, ignored=(*layout.ignored, _PHYSICS_KEYS, _ENCODER_KEYS))
        for layout in TRANSFORMER.layouts
    ),
)

ENCODER_TRANSFORMERS = Layout(
    name="transformers",
    signature=(
        r"encoder\.embeddings\.patch_embeddings\.proj\.weight",
        r"encoder\.layer\.0\.attention\.(attention\.)?query\.weight",
    ),
    renames=((r"\.attention\.attention\.", ".attention."),),  # of early public conversions
    ignored=(r"predictor\..*", _PHYSICS_KEYS, _VISUAL_KEYS),
)
ENCODER_PUBLISHED = Layout(
    name="V-JEPA 2",
    signature=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight"),
    renames=(
        (r"^patch_embed\.proj\.", "encoder.embeddings.patch_embeddings.proj."),
        (r"^blocks\.(\d+)\.attn\.", r"encoder.layer.\1.attention."),
        (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
        (r"^norm\.", "encoder.layernorm."),
    ),
    # The table is left over from before rotary positions.
    ignored=(r"pos_embed",),
    splits=((r"\bqkv\b", ("query", "key", "value")),),
)


def configure_encoder(shapes: Shapes) -> dict[str, Any]:
    """Arguments of VJEPA2Config from parameter shapes."""
    width, _, tubelet, patch, _ = shapes["encoder.embeddings.patch_embeddings.proj.weight"]
    return {
        "hidden_size": width,
        "tubelet_size": tubelet,
        "patch_size": patch,
        "num_hidden_layers": 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("encoder.layer.")),
        "num_attention_heads": HEADS.get(width, max(1, width // 64)),
        "mlp_ratio": shapes["encoder.layer.0.mlp.fc1.weight"][0] / width,
    }


def configure_predictor(shapes: Shapes) -> dict[str, Any]:
    """The same with those of the predictor, whose heads are counted as the published ones have: 32 channels each."""
    width = shapes["predictor.embeddings.predictor_embeddings.weight"][0]
    return configure_encoder(shapes) | {
        "pred_hidden_size": width,
        "pred_num_attention_heads": max(1, width // 32),
        "pred_num_hidden_layers": 1
        + max(int(name.split(".")[2]) for name in shapes if name.startswith("predictor.layer.")),
        "pred_num_mask_tokens": shapes["predictor.embeddings.mask_tokens"][0],
        "pred_mlp_ratio": shapes["predictor.layer.0.mlp.fc1.weight"][0] / width,
    }


VIDEO_ENCODER = Architecture(
    title=families.V_JEPA2,
    class_name="VideoEncoder",
    construct=build_encoder,
    configure=configure_encoder,
    layouts=(ENCODER_TRANSFORMERS, ENCODER_PUBLISHED),
    blocks=("encoder.layer",),
)
# The same with what predicts, for files that hold it.
VIDEO_PREDICTOR = dataclasses.replace(
    VIDEO_ENCODER,
    construct=lambda config: build_encoder(config, predicts=True),
    configure=configure_predictor,
    layouts=(
        dataclasses.replace(
            ENCODER_TRANSFORMERS,
            signature=(*ENCODER_TRANSFORMERS.signature, r"predictor\.embeddings\.mask_tokens"),
            ignored=ENCODER_TRANSFORMERS.ignored[1:],
        ),
    ),
    blocks=("encoder.layer", "predictor.layer"),
)
