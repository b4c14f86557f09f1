"""A request is the single declaration of an engine's parameters.

Type, default, bounds and help of a field drive the page, the command line, the API, validation and the metadata.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1  # asks for a seed to be drawn
MAX_PROMPT_CHARACTERS = 2_000
MAX_STEPS = 200

Group = Literal["prompt", "picture", "clip", "quality", "guidance", "seed"]


def parameter(
    default: Any,
    *,
    label: str,
    help: str,
    group: Group,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    max_length: int | None = None,
    lines: int = 1,
    placeholder: str = "",
    advanced: bool = False,
    presentation: bool = False,
    hidden: bool = False,
    scenes: Callable[[str], str] | None = None,
    of: str = "",
) -> Any:
    """A request field. `minimum` and `maximum` are inclusive; `step` and `lines` only shape the control, and
    `placeholder` shows in an empty box what may be written; without one the help does.

    `default` is the published default; a ModelSpec overrides it where its checkpoint was published with another.
    `presentation` says that the field decides how the frames are shown and never what is in them. A `hidden` one has
    no control of its own on the page, which fills it otherwise. `scenes` makes a text one of scenes, a table on the
    page: what writes any text of scenes as lines of "0-2: what happens", or raises ValueError with what is wrong.
    `of` names the field of a file that it is said of: without that file nobody is asked, and none but the default goes.
    """
    return Field(
        default,
        title=label,
        description=help,
        ge=minimum,
        le=maximum,
        max_length=max_length,
        json_schema_extra={
            "group": group,
            "unit": unit,
            "step": step,
            "lines": lines,
            "placeholder": placeholder,
            "advanced": advanced,
            "presentation": presentation,
            "hidden": hidden,
            "scenes": scenes,  # type: ignore[dict-item]
            "of": of,
        },
    )


def control(field: FieldInfo) -> dict[str, Any]:
    """What a field was declared with beside its type: see `parameter`."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    """Smallest and largest value of a field, None where it has none."""
    low = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    high = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    return low, high


class Declared(BaseModel):
    """Fields made with `parameter` and `media`: what drives page, command line, API, validation and metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(Declared):
    """What every engine takes. Engines subclass it and add their own fields with `parameter`."""

    model: str = Field("starter", title="Model", description="Which checkpoint of the engine makes the clip.")
    prompt: str = parameter(
        "",
        label="Prompt",
        help="What happens in the clip. Describe every subject by what can be seen of it.",
        group="prompt",
        max_length=MAX_PROMPT_CHARACTERS,
        lines=3,
    )
    negative_prompt: str = parameter(
        "",
        label="Negative prompt",
        help="What the clip should not look like. It starts as the text that the model was published with.",
        group="prompt",
        max_length=MAX_PROMPT_CHARACTERS,
        lines=2,
        advanced=True,
    )
    written_prompt: str = parameter(
        "",
        label="Prompt as written",
        help="The prompt before it was refined; nothing if it was not.",
        group="prompt",
        max_length=MAX_PROMPT_CHARACTERS,
        presentation=True,
        hidden=True,
    )
    refined_by: str = parameter(
        "",
        label="Refined by",
        help="Who refined the prompt; nothing if nobody did.",
        group="prompt",
        max_length=200,
        presentation=True,
        hidden=True,
    )
    width: int = parameter(832, label="Width", help="Width of the clip.", group="clip", unit="px", minimum=16)
    height: int = parameter(480, label="Height", help="Height of the clip.", group="clip", unit="px", minimum=16)
    frames: int = parameter(81, label="Frames", help="Length of the clip in frames.", group="clip", minimum=1)
    fps: int = parameter(
        16, label="Frame rate", help="Frames shown per second.", group="clip", unit="fps", minimum=1, maximum=60,
        advanced=True, presentation=True,
    )  # fmt: skip
    steps: int = parameter(
        50,
        label="Steps",
        help="Denoising steps: more take longer and give cleaner detail.",
        group="quality",
        minimum=1,
        maximum=MAX_STEPS,
        step=1,
        advanced=True,
    )
    seed: int = parameter(
        RANDOM_SEED,
        label="Seed",
        help="The same seed and settings give the same clip; -1 draws a new one.",
        group="seed",
        minimum=RANDOM_SEED,
        maximum=MAX_SEED,
        step=1,
    )


def seeds(seed: int, count: int = 1) -> list[int]:
    """The seeds of `count` clips made together: one after another from `seed`, or from one drawn for RANDOM_SEED."""
    first = secrets.randbelow(MAX_SEED - count + 2) if seed == RANDOM_SEED else seed
    return [(first + index) % (MAX_SEED + 1) for index in range(count)]
