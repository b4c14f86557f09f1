"""What a recipe is: settings, and a task built from them. One trainer runs every task.

Recipe = data source (`dataset`) + loss function + networks + schedule. A new starter is a new module in
`engines/training/recipes` and a line in its registry.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from torch import nn

from engines.wording import either, printable

from .optimizers import Name
from .world import WorldConfig

HELD_OUT = range(41, 49)  # seeds of the clips that evaluations measure with


@with_config(ConfigDict(extra="forbid"))
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceMix:
    """Shares of batches with 0, 1, 2 and 3-4 references."""

    none: float = 1.0
    one: float = 0.0
    two: float = 0.0
    many: float = 0.0


@with_config(ConfigDict(extra="forbid"))
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

    divided: ClassVar[bool] = False  # whether several processes divide a batch, or have one each

    name: str
    steps: int
    minutes: float = 0.0  # 0 = no limit
    seed: int = 0
    stages: tuple[Stage, ...]
    learning_rate: float = 1e-3
    optimizer: Name = "adamw"
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

    def __post_init__(self) -> None:
        for name, holds, meant in (
            ("steps", self.steps > 0, "a whole number from 1 on"),
            ("seed", 0 <= self.seed < 2**63, "a whole number from 0 to 2^63 - 1"),
            ("seed", self.seed not in HELD_OUT, f"none of {HELD_OUT[0]} to {HELD_OUT[-1]}, whose clips are held out"),
            ("minutes", 0 <= self.minutes < math.inf, "a number from 0 on, where 0 is no limit"),
            ("learning_rate", 0 <= self.learning_rate < math.inf, "a number from 0 on"),
            ("clip_norm", self.clip_norm > 0, "a number above 0"),
            ("ema", 0 <= self.ema < 1, "a number from 0 to below 1"),
            ("decay_share", 0 <= self.decay_share <= 1, "a number from 0 to 1"),
        ):
            if not holds:
                raise ValueError(f"{name} must be {meant}.")

    def stage(self, step: int) -> Stage:
        """The curriculum stage of a step."""
        turns = self.turns(step)
        return turns[step % len(turns)]

    def turns(self, step: int) -> list[Stage]:
        """The stages that take turns at a step: those with the same `until`, of which the last ones never end."""
        until = next((stage.until for stage in self.stages if step < stage.until), self.stages[-1].until)
        return [stage for stage in self.stages if stage.until == until]

    def record(self) -> dict[str, Any]:
        """Plain values for metadata and logs; of folders the last name alone, for files travel."""
        folders = {"start": Path(self.start).name, "files": Path(self.files).name}
        return json.loads(json.dumps(dataclasses.asdict(self) | folders))


class Task(Protocol):
    """A recipe come to life.

    It may also have `after_backward() -> figures`, called with the gradients before they are clipped; `state()` and
    `load_state(state)` for plain values and tensors of its own that a resumed run needs; `weights_of(file)`, what it
    exported by the trainer's names, where that is not one network as it stands; and `adopted()`, called when weights
    of a file were taken. Where the recipe is `divided`, it has a `share` (engines.training.share), and several
    processes give its loss rows of a batch: it draws for all of them, and gives its share of the whole batch's loss.
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
    """Apply `name=value` settings; values are read as JSON where possible.

    Raises:
        ValueError: a name is unknown, or a value is not what its setting takes.
    """
    changes: dict[str, Any] = {}
    hints = get_type_hints(type(recipe))
    types = {field.name: hints[field.name] for field in dataclasses.fields(recipe)}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or name not in types:
            raise ValueError(f"Unknown setting {setting!r}: write name=value with one of {', '.join(sorted(types))}.")
        changes[name] = _read(name, text, types[name])
    changed = dataclasses.replace(recipe, **changes)
    if recipe.stages and not changed.stages:  # recipes that train on people's own clips have none
        raise ValueError("stages must be one stage or more.")
    return changed


def _read(name: str, text: str, kind: Any) -> Any:
    """`text` as JSON of this type, or as it stands."""
    if get_origin(kind) is Literal:
        choice = text.strip('"')
        if choice not in get_args(kind):
            raise ValueError(f"{name} must be {either(get_args(kind))}, not {printable(choice)!r}.")
        return choice
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        try:
            return adapter.validate_python(text)
        except ValidationError:
            (fault, *_) = error.errors()
            where = "".join(f", {part}" for part in fault["loc"])
            said = "" if fault["type"] == "json_invalid" else f" ({fault['msg']}{where})"
            raise ValueError(f"{name} cannot be {printable(text)!r}{said}.") from None
