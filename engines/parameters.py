"""Fields and quality presets that several engines declare alike. Imports no torch."""

from __future__ import annotations

from typing import Any

from engines.inputs import media
from engines.media.framing import Setting
from engines.request import MAX_STEPS, parameter


def step_count(default: int, *, label: str, help: str) -> Any:
    """A number of denoising steps."""
    return parameter(
        default, label=label, help=help, group="quality", minimum=1, maximum=MAX_STEPS, step=1, advanced=True
    )  # fmt: skip


def guidance_scale(default: float, *, label: str, help: str, advanced: bool = True) -> Any:
    """How strongly a clip keeps to what it is told."""
    return parameter(
        default, label=label, help=help, group="guidance", minimum=0, maximum=20, step=0.5, advanced=advanced
    )  # fmt: skip


def timestep_shift(default: float) -> Any:
    """The shift of the noise levels of flow matching."""
    return parameter(
        default,
        label="Timestep shift",
        help="Larger values spend more steps on layout and motion, smaller ones on detail.",
        group="quality",
        minimum=0.1,
        maximum=20,
        step=0.5,
        advanced=True,
    )


def reference_pictures(*, most: int, more_help: str = "", setting: Setting = "fitted") -> Any:
    """Pictures of the subjects of a clip; its request declares `published_pictures` too."""
    return media(
        "subject",
        label="Reference pictures",
        help=f"Pictures, each of one subject: a person, an animal, an object or a scene. {more_help}".strip(),
        parts=("keep_background", "brush"),
        most=most,
        needed="Add a reference picture: this engine needs at least one.",
        as_published="published_pictures",
        setting=setting,
    )


def published_pictures() -> Any:
    """The switch that a field of pictures names as its `as_published`."""
    return parameter(
        False,
        label="Prepare pictures as published",
        help="Treat pictures exactly as the published code does: ignore camera rotation and drop transparency.",
        group="picture",
        advanced=True,
    )


def presets(draft: int, standard: int, best: int, **shares: float) -> dict[str, dict[str, int]]:
    """The page's quality choices: their steps, and the steps of further fields as shares of them."""
    counts = {"Draft": draft, "Standard": standard, "Best": best}
    return {
        name: {"steps": count} | {field: int(share * count) for field, share in shares.items()}
        for name, count in counts.items()
    }
