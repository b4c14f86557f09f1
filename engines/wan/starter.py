"""What the starters, the built-in models, share, and what their own files say: their autoencoder, and so their clips.

A network and its autoencoder belong together. Training writes the autoencoder's name into the network's file, so a
file that is replaced by a better one brings its autoencoder and its sizes along. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.errors import IncompatibleCheckpoint
from engines.loading import integrity
from engines.loading.store import ASSETS
from engines.parameters import presets
from engines.types import Geometry, Weights
from engines.wan.strides import spatial_stride, temporal_stride

FIRST_VAE = "vae.safetensors"  # of networks that name none: the first ones were trained on it
SIZES = ((96, 64), (64, 64), (64, 96))
STARTER_DEFAULTS = {"width": 96, "height": 64, "frames": 33, "fps": 12, "steps": 12}
STARTER_PRESETS = presets(8, 12, 24)

# What reads the prompt in every starter.
STARTER_TEXT = (
    Weights("text_encoder", ("starter/text_encoder.safetensors",), size_bytes=930_000),
    Weights("tokenizer", ("starter/tokenizer/tokenizer.json", "starter/tokenizer/tokenizer_config.json")),
)
STARTER_NOTE = (
    "A small demonstration model trained by this project on a world of simple moving shapes; "
    "it shows how the engine works, not what it can do at full size."
)


def facts_of(path: Path) -> dict[str, Any]:
    """What training wrote into a starter file; nothing for a file that is missing or cannot be read.

    That a file is missing or damaged is said when a clip is asked for, not when its engine is listed.
    """
    try:
        return integrity.facts_of(integrity.safetensors_header(path)[0], path)
    except (OSError, IncompatibleCheckpoint):
        return {}


def starter_weights(
    transformer: str, *, first_vae: str = FIRST_VAE, folder: Path = ASSETS / "starter"
) -> tuple[Weights, ...]:
    """All files of the starter whose network is in `transformer`, a name in `folder`.

    Args:
        first_vae: the autoencoder of networks that name none.
    """
    vae = facts_of(folder / transformer).get("vae", first_vae)
    return (*starter_parts({"transformer": transformer, "vae": vae}, folder=folder), *STARTER_TEXT)


def starter_parts(names: Mapping[str, str], *, folder: Path = ASSETS / "starter") -> tuple[Weights, ...]:
    """Files of a starter by role, names in `folder`."""
    return tuple(Weights(role, (f"starter/{name}",), size_bytes=_size(folder / name)) for role, name in names.items())


def starter_geometry(transformer: str, *, folder: Path = ASSETS / "starter") -> Geometry:
    """Which clips it can make: sides are multiples of a token's pixels, lengths of a latent's frames and one."""
    facts = facts_of(folder / transformer)
    vae = facts_of(folder / facts.get("vae", FIRST_VAE)).get("config", {"temperal_downsample": [True, True]})
    config = facts.get("configs", {}).get("WanTransformer3DModel") or facts.get("config", {})
    patch = config.get("patch_size", [1, 1, 1])[1:]
    return Geometry(
        sizes=SIZES,
        multiple=spatial_stride(vae) * math.lcm(*patch),
        max_pixels=96 * 96,
        frame_stride=temporal_stride(vae),
        max_frames=49,
        min_side=48,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
