"""A complete Pyramid Flow model of a few kilobytes, of either family, written as a starter's files are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.mmdit import PyramidMMDiT
from engines.pyramid_flow.spec import PYRAMID_FLOW
from engines.pyramid_flow.vae import CausalVideoVAE
from engines.types import Geometry, ModelSpec, Weights
from tests.engines import tiny_wan
from tests.engines.tiny_wan import TEXT_ENCODER, TEXT_LEN, CountingContext, seeded, write, write_tokenizer

MINIFLUX = {
    "patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16, "guidance_embeds": False,
    "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
MMDIT = {
    "sample_size": 16, "patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 16, "caption_projection_dim": 32, "pooled_projection_dim": 16,
    "out_channels": 4, "pos_embed_max_size": 16, "qk_norm": "rms_norm",
}  # fmt: skip
VAE = {
    "encoder_out_channels": 4, "encoder_block_out_channels": [4, 4, 8, 8], "encoder_layers_per_block": [1, 1, 1, 1],
    "encoder_norm_num_groups": 2, "decoder_in_channels": 4, "decoder_block_out_channels": [4, 4, 8, 8],
    "decoder_layers_per_block": [1, 1, 1, 1], "decoder_norm_num_groups": 2,
}  # fmt: skip
FAMILIES = {"miniflux": (PyramidFlux, MINIFLUX), "sd3": (PyramidMMDiT, MMDIT)}

MODEL = ModelSpec(
    name="tiny",
    title="Tiny",
    note="",
    weights=tuple(Weights(role, ()) for role in ("transformer", "vae", "text_encoder", "tokenizer")),
    geometry=Geometry(
        sizes=((128, 64), (64, 64)), multiple=64, max_pixels=128 * 64, frame_stride=8, max_frames=8 * 30 + 1
    ),
    defaults={"width": 64, "height": 64, "frames": 25, "steps": 2, "later_steps": 1},
)
SPEC = replace(PYRAMID_FLOW, models=(MODEL, *PYRAMID_FLOW.models))


def transformer(family: str) -> PyramidFlux | PyramidMMDiT:
    network, config = FAMILIES[family]
    return seeded(lambda: network(**config))


def vae(**changes: Any) -> CausalVideoVAE:
    return seeded(lambda: CausalVideoVAE(**VAE | changes))


def write_model(folder: Path, family: str = "miniflux", **changes: Any) -> dict[str, tuple[Path, ...]]:
    """All files of the model, by role; `changes` are of the autoencoder."""
    facts = {"text_len": TEXT_LEN, "prompt_suffix": " moves"}
    return {
        "transformer": (write(folder / "transformer.safetensors", transformer(family), FAMILIES[family][1], **facts),),
        "vae": (write(folder / "vae.safetensors", vae(**changes), VAE | changes),),
        "text_encoder": (write(folder / "text.safetensors", tiny_wan.text_encoder(), TEXT_ENCODER),),
        "tokenizer": (write_tokenizer(folder / "tokenizer.json"),),
    }


class PyramidContext(CountingContext):
    """A counting Context for the tiny model."""

    model = MODEL
