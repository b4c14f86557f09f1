"""python -m tests.manifests.outlines: writes what is known of published networks from their key lists.

The planner's estimate (engines/memory/outlines.py) reads it without opening a file and without torch.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from engines.loading import weight_only
from engines.loading.checkpoints import Checkpoint, outline
from engines.loading.key_rules import Architecture
from engines.loading.networks import counted, outlined
from engines.memory.outlines import FILE
from engines.qwen.keys import QWEN
from tests.manifests.run import ARCHITECTURES

MANIFESTS = Path(__file__).parent / "files"
WAN_T2V, WAN_I2V = "Wan-AI/Wan2.1-T2V-1.3B", "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers"
WAN22, PHANTOM = "Wan-AI/Wan2.2-TI2V-5B", "bytedance-research/Phantom"
SD3, MINIFLUX = "rain1011/pyramid-flow-sd3", "rain1011/pyramid-flow-miniflux"
# Published file, the first of its role -> its key list.
FILES = {
    f"{PHANTOM}/Phantom-Wan-1.3B.pth": "phantom-wan-1.3B",
    f"{PHANTOM}/Phantom_Wan_14B-00001-of-00006.safetensors": "phantom-wan-14B",
    "yunyangge/FlashI2V-1.3B/npu/flashi2v_1_3B.pt": "flashi2v-1.3b-npu",
    f"{WAN_T2V}/Wan2.1_VAE.pth": "wan2.1-vae",
    f"{WAN_T2V}/models_t5_umt5-xxl-enc-bf16.pth": "umt5-xxl-enc",
    "ByteDance/BindWeave/diffusion_pytorch_model.safetensors.index.json": "bindweave_dit",
    f"{WAN_I2V}/vae/diffusion_pytorch_model.safetensors": "wan2.1-vae",
    f"{WAN_I2V}/text_encoder/model.safetensors.index.json": "umt5-xxl-enc",
    f"{WAN_I2V}/image_encoder/model.safetensors": "wan21_i2v_diffusers_image_encoder",
    "Qwen/Qwen2.5-VL-7B-Instruct/model.safetensors.index.json": "bindweave_qwen2_5_vl_7b",
    f"{WAN22}/diffusion_pytorch_model-00001-of-00003.safetensors": "wan2.2-ti2v-5b",
    f"{WAN22}/Wan2.2_VAE.pth": "wan2.2-vae",
    "phantom-physics/physics.safetensors": "phantom-physics-native",
    "facebook/vjepa2-vitl-fpc64-256/model.safetensors": "vjepa2-vitl-fpc64-256",
    **{
        f"{repo}/diffusion_transformer_{size}/diffusion_pytorch_model.safetensors": f"{manifest}_{size}"
        for repo, manifest, sizes in (
            (SD3, "pyramid-flow-sd3.diffusion_transformer", ("384p", "768p")),
            (MINIFLUX, "pyramid-flow-miniflux.diffusion_transformer", ("384p", "768p", "image")),
        )
        for size in sizes
    },
    f"{SD3}/causal_video_vae/diffusion_pytorch_model.safetensors": "pyramid-flow-sd3.causal_video_vae",
    f"{MINIFLUX}/causal_video_vae/diffusion_pytorch_model.bin": "pyramid-flow-miniflux.causal_video_vae",
    f"{SD3}/text_encoder_3/model-00001-of-00002.safetensors": "pyramid-flow-sd3.text_encoder_3",
    f"{MINIFLUX}/text_encoder_2/model-00001-of-00002.safetensors": "pyramid-flow-miniflux.text_encoder_2",
    f"{SD3}/text_encoder/model.safetensors": "pyramid-flow-sd3.text_encoder",
    f"{SD3}/text_encoder_2/model.safetensors": "pyramid-flow-sd3.text_encoder_2",
    f"{MINIFLUX}/text_encoder/model.safetensors": "pyramid-flow-miniflux.text_encoder",
}
# What the formulas of engines/memory/activations.py and the stages of engines ask of a configuration.
USED = (
    "num_attention_heads", "attention_head_dim", "ffn_dim", "patch_size", "num_layers", "out_channels", "in_channels",
    "base_dim", "decoder_base_dim", "z_dim", "temperal_downsample", "is_residual", "dim_mult", "num_res_blocks",
    "d_model", "num_heads", "d_kv", "d_ff", "decoder_block_out_channels", "decoder_in_channels", "hidden_size",
    "intermediate_size", "mlp_ratio", "num_single_layers", "decoder_layers_per_block", "decoder_spatial_up_sample",
    "decoder_temporal_up_sample",
)  # fmt: skip
PARTS = ("text_config", "vision_config")


def described(manifest: str) -> dict[str, Any]:
    """The entry of one published network."""
    keys = json.loads((MANIFESTS / f"{manifest}.json").read_text(encoding="utf-8"))["keys"]
    tensors = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    architecture = next(a for a in ARCHITECTURES if a.places(tensors))
    blueprint, empty = outline(Checkpoint(manifest, tensors), architecture)
    config = dict(blueprint.config) or dict(empty.config if isinstance(empty.config, dict) else empty.config.to_dict())
    full = dict(empty.config) if not hasattr(empty.config, "to_dict") else empty.config.to_dict()
    kept = {name: full[name] for name in USED if full.get(name) is not None}
    if architecture is QWEN:
        kept = {part: {name: config[part][name] for name in ("hidden_size", "intermediate_size")} for part in PARTS}
    entry = outlined(empty, architecture, kept)
    if architecture.blocks:
        packed = counted(weight_only.outline(copy.deepcopy(empty), architecture.blocks, "int8"), architecture)
        entry["narrow"] = [[*packed.whole], [*packed.outside], [*packed.block]]
    return entry


def kind(architecture: Architecture) -> dict[str, Any]:
    """What the planner must know of a class of networks."""
    return {
        "blocks": [*architecture.blocks],
        "keep_float32": [*architecture.keep_float32],
        "precisions": [*architecture.precisions],
        "makeshifts": [*architecture.makeshifts],
    }


def everything() -> dict[str, Any]:
    """The content of the file."""
    return {
        "kinds": {architecture.class_name: kind(architecture) for architecture in ARCHITECTURES},
        "files": FILES,
        "networks": {manifest: described(manifest) for manifest in sorted(set(FILES.values()))},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(everything(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
