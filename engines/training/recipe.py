"""What a recipe is: settings, and a task built from them. One trainer runs every task.

Recipe = data source (`dataset`) + loss function + networks + schedule. A new starter is a new module in
`engines/training/recipes` and a line in its registry.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from .world import WorldConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceMix:
    """Shares of batches with 0, 1, 2 and 3-4 references."""

    none: float = 1.0
    one: float = 0.0
    two: float = 0.0
    many: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of the curriculum: which world, until which step, how many clips a batch, how many references."""

    until: int
    batch: int
    world: WorldConfig
    mix: ReferenceMix = ReferenceMix()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a run. `minutes` is wall time; a run ends at `steps` or `minutes`, whichever comes first."""

    name: str
    steps: int
    minutes: float = 0.0  # 0 = no limit
    seed: int = 0
    stages: tuple[Stage, ...]
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup: int = 100
    decay_share: float = 0.3  # last share of the run in which the rate falls to zero along a cosine
    clip_norm: float = 1.0
    adaptive_clip: bool = False  # clip at what was usual so far instead of at clip_norm
    ema: float = 0.998
    bfloat16: bool = True
    start: str = ""  # folder of starter files to begin from
    files: str = "assets/starter"  # folder with the parts this recipe builds on
    latents_file: str = ""  # of those, the code of its latents

    def stage(self, step: int) -> Stage:
        """The curriculum stage of a step. Stages with the same `until` take turns; the last ones never end."""
        until = next((stage.until for stage in self.stages if step < stage.until), self.stages[-1].until)
        turns = [stage for stage in self.stages if stage.until == until]
        return turns[step % len(turns)]

    def record(self) -> dict[str, Any]:
        """Plain values for metadata and logs; of folders the last name alone, for files travel."""
        folders = {"start": Path(self.start).name, "files": Path(self.files).name}
        return json.loads(json.dumps(dataclasses.asdict(self) | folders))


class Task(Protocol):
    """A recipe come to life.

    It may also have `after_backward() -> figures`, called with the gradients before they are clipped, and `state()` and
    `load_state(state)` for plain values of its own that a resumed run needs.
    """

    def networks(self) -> dict[str, nn.Module]:
        """The networks to train, by name."""
        ...

    def dataset(self) -> torch.utils.data.Dataset:
        """Batch of step k at index k: a dict of tensors, the same for the same k."""
        ...

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Scalar loss and figures for the log."""
        ...

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Write starter files from (averaged) weights; `record` says how they were trained."""
        ...


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply `name=value` settings; values are read as JSON where possible. Unknown names are an error."""
    changes = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        known = {field.name: field for field in dataclasses.fields(recipe)}
        if not sign or name not in known:
            raise ValueError(f"Unknown setting {setting!r}: write name=value with one of {', '.join(sorted(known))}.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        current = getattr(recipe, name)
        if isinstance(current, tuple) and name != "stages":
            value = tuple(value)
        if name == "stages":
            value = tuple(
                Stage(
                    until=item["until"],
                    batch=item["batch"],
                    world=WorldConfig(**item.get("world", {})),
                    mix=ReferenceMix(**item.get("mix", {})),
                )
                for item in value
            )
        changes[name] = value
    return dataclasses.replace(recipe, **changes)
