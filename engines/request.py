"""A request is the single declaration of an engine's parameters.

Type, default, bounds and help of a field drive the page, the command line, the API, validation and the metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 2_000

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
) -> Any:
    """A request field. `minimum` and `maximum` are inclusive; `step` and `lines` only shape the control, and
    `placeholder` shows in an empty box what may be written; without one the help does.

    `default` is the published default; a ModelSpec overrides it where its checkpoint was published with another.
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
        },
    )


def control(field: FieldInfo) -> dict[str, Any]:
    """What `parameter` was told about the control: group, unit, step, lines, placeholder, advanced."""
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


class Reference(BaseModel):
    """One picture: a file on this machine, and how it is to be used.

    Attributes:
        keep_background: whether the background belongs to the subject; for engines that set subjects on a canvas.
        position: where the clip's frame lies along the side that is cropped, 0 left or top, 1 right or bottom; for
            engines whose picture fills the frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    keep_background: bool = True
    position: float = Field(0.5, ge=0, le=1)


class Request(BaseModel):
    """What every engine takes. Engines subclass it and add their own fields with `parameter`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    width: int = parameter(832, label="Width", help="Width of the clip.", group="clip", unit="px", minimum=16)
    height: int = parameter(480, label="Height", help="Height of the clip.", group="clip", unit="px", minimum=16)
    frames: int = parameter(81, label="Frames", help="Length of the clip in frames.", group="clip", minimum=1)
    fps: int = parameter(
        16, label="Frame rate", help="Frames shown per second.", group="clip", unit="fps", minimum=1, maximum=60,
        advanced=True,
    )  # fmt: skip
    steps: int = parameter(
        50,
        label="Steps",
        help="Denoising steps: more take longer and give cleaner detail.",
        group="quality",
        minimum=1,
        maximum=200,
        step=1,
        advanced=True,
    )
    seed: int = parameter(
        -1,
        label="Seed",
        help="The same seed and settings give the same clip; -1 draws a new one.",
        group="seed",
        minimum=-1,
        maximum=MAX_SEED,
        step=1,
    )
