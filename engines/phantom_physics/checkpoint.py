"""A physics checkpoint: a folder with physics.safetensors, and phantom_physics.json that says how it is to be used.

The starter is one file of all networks, which says the same in its metadata.
Design: docs/phantom_physics.md. No other project has such files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import IncompatibleCheckpoint
from engines.loading.key_rules import Architecture, Shapes
from engines.media.output import whole_file
from engines.phantom_physics import description
from engines.phantom_physics.description import FACT as FACT
from engines.phantom_physics.description import SETTINGS as SETTINGS
from engines.phantom_physics.encoder import Resize
from engines.phantom_physics.keys import BRANCH, configure_branch, native_name
from engines.phantom_physics.latents import PhysicsSpace
from engines.phantom_physics.network import PhysicsBranch

FORMAT = 1
WEIGHTS = "physics.safetensors"


class Encoder(BaseModel):
    """Which features the branch denoises."""

    model_config = ConfigDict(extra="allow", frozen=True)

    repo: str = "facebook/vjepa2-vitl-fpc64-256"
    hidden_size: int = 1024
    crop_size: int = 256
    tubelet_size: Literal[2] = 2
    max_frames: int = Field(64, ge=2, multiple_of=2)
    pool: int = Field(2, ge=1)
    frame_stride: Literal[1] = 1
    resize: Resize = "squash"
    normalisation: Literal["channel", "layernorm"] = "channel"


class PhysicsSettings(BaseModel):
    """What phantom_physics.json holds; sizes are those of the physics branch."""

    model_config = ConfigDict(extra="allow", frozen=True)

    format: int = FORMAT
    base_model: str = "Wan-AI/Wan2.2-TI2V-5B"
    base_sha256: str = ""
    variant: str = "mirror"
    physics_dim: int = 3072
    physics_ffn_dim: int = 14336
    physics_num_heads: int = Field(24, ge=1)
    num_layers: int = 30
    physics_in_dim: int = 1024
    physics_patch_size: tuple[int, int, int] = (1, 1, 1)
    coupling_layers: Literal["all"] | int | tuple[int, ...] = "all"
    coupling_rope: Literal["aligned", "none"] = "aligned"
    coupling_head_dim: int = Field(128, ge=6)
    encoder: Encoder = Encoder()
    training: dict[str, Any] = Field(default_factory=dict)
    force: dict[str, Any] | None = None
    defaults: dict[str, Any] = Field(default_factory=dict)

    @property
    def space(self) -> PhysicsSpace:
        """How frames become its latents."""
        encoder = self.encoder
        return PhysicsSpace(encoder.crop_size, encoder.pool, encoder.max_frames, encoder.resize)

    @property
    def unknown(self) -> list[str]:
        """Names that this version does not know, sorted."""
        inner = [f"encoder.{name}" for name in self.encoder.model_extra or {}]
        return sorted([*(self.model_extra or {}), *inner])

    def arguments(self) -> dict[str, Any]:
        """Those of PhysicsBranch that shapes do not tell."""
        return {
            "num_attention_heads": self.physics_num_heads,
            "attention_head_dim": self.physics_dim // self.physics_num_heads,
            "coupling_layers": self.coupling_layers,
            "coupling_rope": self.coupling_rope,
            "coupling_head_dim": self.coupling_head_dim,
        }


def settings_of(paths: Sequence[Path]) -> PhysicsSettings:
    """The settings of a checkpoint's files: from the one that is for them, from the weights themselves, or beside.

    Raises:
        IncompatibleCheckpoint: see read_settings.
    """
    return _checked(*description.told(paths))


def read_settings(path: Path) -> PhysicsSettings:
    """The settings that a file tells; names that are not known are kept in `unknown`.

    Raises:
        IncompatibleCheckpoint: the file is missing, broken, or of a later format.
    """
    return _checked(description.read(path), path.name)


def _checked(content: Any, name: str) -> PhysicsSettings:
    version = content.get("format") if isinstance(content, Mapping) else None
    if isinstance(version, int) and version > FORMAT:
        raise IncompatibleCheckpoint(
            f"{name} is of format {version}; this version reads format {FORMAT}.", hint="Update Kinora."
        )
    try:
        settings = PhysicsSettings.model_validate(content)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "its content"
        raise IncompatibleCheckpoint(
            f"{name} is no description of a physics checkpoint: {place} is wrong.",
            hint="Use the file that the trainer wrote.",
        ) from error
    if settings.physics_dim % settings.physics_num_heads:
        raise IncompatibleCheckpoint(
            f"{name}: a width of {settings.physics_dim} cannot be shared by {settings.physics_num_heads} heads.",
            hint="Use the file that the trainer wrote.",
        )
    return settings


@lru_cache(maxsize=16)
def _architecture(settings: str) -> Architecture:
    told = PhysicsSettings.model_validate_json(settings).arguments()

    def configure(shapes: Shapes) -> dict[str, Any]:
        return configure_branch(shapes) | told

    return dataclasses.replace(BRANCH, configure=configure)


def architecture(settings: PhysicsSettings) -> Architecture:
    """The physics branch as these settings describe it; the same object for the same settings."""
    return _architecture(settings.model_dump_json())


def describe(branch: PhysicsBranch, **told: Any) -> PhysicsSettings:
    """The settings of a branch, with what only its training knows (`encoder`, `training`, `defaults`, ...)."""
    config = branch.config
    sizes = {
        "physics_dim": config.num_attention_heads * config.attention_head_dim,
        "physics_ffn_dim": config.ffn_dim,
        "physics_num_heads": config.num_attention_heads,
        "num_layers": config.num_layers,
        "physics_in_dim": config.in_channels,
        "physics_patch_size": tuple(config.patch_size),
        "coupling_layers": config.coupling_layers,
        "coupling_rope": config.coupling_rope,
        "coupling_head_dim": config.coupling_head_dim,
        "force": {"kinds": ["point"]} if config.takes_force else None,
    }
    return PhysicsSettings.model_validate(sizes | told)


def write_folder(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    settings: PhysicsSettings,
    *,
    visual: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype | None = torch.bfloat16,
) -> None:
    """Writes a checkpoint: the branch's tensors by parameter name, under the names of the format.

    The channels' statistics stay float32. `visual` tensors, under the published names, go into the same file.
    """
    from safetensors.torch import save_file

    ready = {native_name(name): value for name, value in tensors.items()} | dict(visual or {})
    for name, value in ready.items():
        kept = name.startswith("physics_latents.") or dtype is None or not value.is_floating_point()
        ready[name] = (value if kept else value.to(dtype)).detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS) as part:
        save_file(ready, part)
    with whole_file(folder / SETTINGS) as part:
        part.write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
