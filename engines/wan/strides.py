"""How many pixels and frames one latent of a Wan autoencoder stands for, from its configuration. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def temporal_stride(config: Mapping[str, Any]) -> int:
    """Frames per latent frame after the first: 4 for the published autoencoders."""
    return int(2 ** sum(config["temperal_downsample"]))


def spatial_stride(config: Mapping[str, Any]) -> int:
    """Pixels per latent pixel: 8 for Wan 2.1, 16 for Wan 2.2."""
    return int(2 ** len(config["temperal_downsample"]) * (config.get("patch_size") or 1))
