"""A complete Phantom-physics model of a few kilobytes: Wan 2.2's kind of networks, V-JEPA 2's, and a physics branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from engines.phantom_physics.checkpoint import SETTINGS, WEIGHTS, Encoder, describe, write_folder
from engines.phantom_physics.encoder import VideoEncoder, build_encoder
from engines.phantom_physics.keys import native_name
from engines.phantom_physics.latents import PhysicsSpace
from engines.phantom_physics.network import PhysicsBranch
from tests.engines import tiny_wan
from tests.engines.tiny_wan import RESIDUAL_VAE, TRANSFORMER, seeded
from tests.golden import recipe

VISUAL = TRANSFORMER
VAE = RESIDUAL_VAE
CHANNELS = 24  # of V-JEPA features
PHYSICS = VISUAL | {"patch_size": [1, 1, 1], "in_channels": CHANNELS, "out_channels": CHANNELS}
COUPLING = {"visual_width": 32, "coupling_head_dim": 16}
ENCODER = {
    "crop_size": 64, "frames_per_clip": 16, "hidden_size": CHANNELS, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
PREDICTOR = ENCODER | {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
FORCE = {"kinds": ["point", "wind"]}
SPACE = PhysicsSpace(size=64, pool=2, max_frames=8)


def visual(**changes: Any) -> WanTransformer3DModel:
    return seeded(lambda: WanTransformer3DModel(**(VISUAL | changes)))


def branch(**changes: Any) -> PhysicsBranch:
    """A fresh branch: its couplings start at zero."""
    return seeded(lambda: PhysicsBranch(**(PHYSICS | COUPLING | changes)))


def spoken(**changes: Any) -> PhysicsBranch:
    """A branch with the golden recipe's weights, whose couplings say something."""
    network = branch(**changes)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.from_numpy(recipe.weight(native_name(name), value.shape, "tiny")))
    return network


def encoder() -> VideoEncoder:
    return seeded(lambda: build_encoder(ENCODER))


def write_model(folder: Path) -> dict[str, tuple[Path, ...]]:
    """All files of the model, by role; its couplings say something."""
    files = tiny_wan.write_model(folder)
    tiny_wan.write(folder / "transformer.safetensors", visual(), VISUAL, text_len=tiny_wan.TEXT_LEN)
    tiny_wan.write(folder / "vae.safetensors", tiny_wan.vae(VAE), VAE)
    network = seeded(lambda: build_encoder(PREDICTOR, predicts=True))
    encoder_file = tiny_wan.write(folder / "encoder.safetensors", network, PREDICTOR)
    network = spoken(takes_force=True)
    told = Encoder(hidden_size=CHANNELS, crop_size=SPACE.size, max_frames=SPACE.max_frames, pool=SPACE.pool)
    write_folder(folder / "physics", network.state_dict(), describe(network, encoder=told, force=FORCE), dtype=None)
    return files | {
        "physics": (folder / "physics" / WEIGHTS, folder / "physics" / SETTINGS),
        "encoder": (encoder_file,),
    }
