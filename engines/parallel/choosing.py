"""Over how many devices one clip is split, and how: a pure choice, made before anything is loaded. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["guidance", "sequence"]
NONE, AUTO = "none", "auto"  # jobs side by side, each on one device; what suits a clip and leaves no device idle
CHOICES = (NONE, *get_args(Split), AUTO)


@dataclass(frozen=True)
class Share:
    """How a clip is split: `how` is None where one device makes it alone; `why` says so where more were asked for."""

    how: Split | None
    devices: int = 1
    why: str = ""


def choose(setting: str, *, passes: int, devices: int, by_sequence: bool = True) -> Share:
    """How one clip is made by up to `devices` devices of one kind.

    Guidance goes first: it exchanges one latent a step, where the other ways exchange something in every block.

    Args:
        setting: of CHOICES.
        passes: of the network in one step; more devices than that have nothing to do in a split of guidance.
        by_sequence: whether the engine's network can be split by its tokens.
    """
    if setting == NONE or devices < 2:
        return Share(None)
    dealt = min(passes, devices)
    match setting:
        case "guidance" if dealt < 2:
            return Share(None, why="Guidance is off, so a step takes one pass: one device makes the clip.")
        case "guidance":
            return Share("guidance", dealt)
        case "sequence" if not by_sequence:
            return Share(None, why="This engine's clips cannot be split by sequence: one device makes the clip.")
        case "sequence":
            return Share("sequence", devices)
    if dealt >= 2 and (devices < 2 * dealt or not by_sequence):
        return Share("guidance", dealt)
    return Share("sequence", devices) if by_sequence else Share(None)
