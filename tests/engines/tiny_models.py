"""A tiny model of every engine, behind the engine's own spec: what the contract tests run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engines.registry import SPECS
from engines.types import EngineSpec, Geometry, ModelSpec, Weights
from tests.engines import tiny_bindweave, tiny_flashi2v, tiny_physics, tiny_pyramid, tiny_wan

WAN_GEOMETRY = Geometry(
    sizes=((32, 16), (24, 24)), multiple=8, max_pixels=64 * 64, frame_stride=4, max_frames=33, min_side=16
)


@dataclass(frozen=True)
class Tiny:
    """An engine with a tiny model.

    Attributes:
        write: folder -> the model's files by role.
        values: request values of a small clip, its pictures aside.
        batching: "module.NAME" of the most tokens for which the passes of guidance are one batch; "" for an engine
            whose passes differ in length.
        others: for a field whose other value cannot be guessed, the values that must change the clip, beside those of
            other fields that are the same before and after.
    """

    engine: str
    write: Callable[[Path], dict[str, tuple[Path, ...]]]
    geometry: Geometry
    values: Mapping[str, Any]
    batching: str
    roles: tuple[str, ...] = ("transformer", "vae", "text_encoder", "tokenizer")
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def spec(self) -> EngineSpec:
        """The engine's own spec, with the tiny model first."""
        model = ModelSpec(
            name="tiny",
            title="Tiny",
            note="",
            weights=tuple(Weights(role, ()) for role in self.roles),
            geometry=self.geometry,
            defaults={"prompt": "a red star", **self.values},
        )
        return replace(SPECS[self.engine], models=(model, *SPECS[self.engine].models))


PUSHED = {"x": 0.1, "y": 0.9, "angle": 90.0, "strength": 1.0}
SMALL = {"width": 32, "height": 16, "frames": 9, "steps": 2, "seed": 4, "negative_prompt": "a circle"}

CACHED = {"step_cache": {"step_cache": "third", "steps": 8}}

# One entry for every engine of the registry.
TINY: dict[str, Tiny] = {
    one.engine: one
    for one in (
        Tiny(
            "phantom-wan",
            tiny_wan.write_model,
            WAN_GEOMETRY,
            values=SMALL,
            batching="engines.wan.transformer.BATCHED_TOKENS",
            others=CACHED,
        ),
        Tiny(
            "flashi2v",
            tiny_flashi2v.write_model,
            WAN_GEOMETRY,
            values=SMALL,
            batching="engines.wan.transformer.BATCHED_TOKENS",
            others=CACHED,
        ),
        Tiny(
            "pyramid-flow",
            tiny_pyramid.write_model,
            replace(tiny_pyramid.MODEL.geometry, sizes=((128, 64), (64, 64), (64, 128))),
            values=SMALL | {"width": 64, "height": 64, "later_steps": 2},
            batching="engines.pyramid_flow.generation.BATCHED_TOKENS",
            others=CACHED | {"storyboard": {"storyboard": "0-9: blue circle"}},
        ),
        Tiny(
            "phantom-physics",
            tiny_physics.write_model,
            replace(WAN_GEOMETRY, sizes=((64, 32), (64, 64)), multiple=32, max_pixels=96 * 96, min_side=32),
            values=SMALL | {"width": 64, "height": 32, "fps": 24},
            batching="engines.wan.transformer.BATCHED_TOKENS",
            roles=("transformer", "vae", "text_encoder", "tokenizer", "physics", "encoder"),
            others=CACHED
            | {"solver": {"solver": "dpm++"}, "force": {"force": "wind"}}
            | {f"force_{name}": {"force": "point", f"force_{name}": value} for name, value in PUSHED.items()},
        ),
        Tiny(
            "bindweave",
            tiny_bindweave.write_model,
            WAN_GEOMETRY,
            values=SMALL,
            batching="",
            others=CACHED,
            roles=tiny_bindweave.ROLES,
        ),
    )
}
