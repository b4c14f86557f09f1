"""Over how many devices one clip is split, and how: a pure choice, made before anything is loaded. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["guidance", "sequence", "weights", "reading"]
NONE, AUTO = "none", "auto"  # jobs side by side, each on one device; what suits a clip and leaves no device idle
READING: Split = "reading"  # one makes the clip, an idle one reads its prompt: nobody asks for that, the planner does
CHOICES = (NONE, *(how for how in get_args(Split) if how != READING), AUTO)


@dataclass(frozen=True)
class Share:
    """How a clip is split: `how` is None where one device makes it alone; `why` says so where more were asked for."""

    how: Split | None
    devices: int = 1
    why: str = ""


def choose(setting: str, *, passes: int, devices: int, holders: int = 1) -> Share:
    """How one clip is made by up to `devices` devices of one kind.

    Guidance goes first: it exchanges one latent a step, where the other ways exchange something in every block. Weights
    are shared where they must be, and with them the tokens, so that nothing is computed twice.

    Args:
        setting: of CHOICES.
        passes: of the network in one step; more devices than that have nothing to do in a split of guidance.
        holders: the fewest devices that hold the network between them; 1 where each alone can, or none of them.
    """
    if setting == NONE or devices < 2:
        return Share(None)
    dealt = min(passes, devices)
    match setting:
        case "guidance" if dealt < 2:
            return Share(None, why="Guidance is off, so a step takes one pass: one device makes the clip.")
        case "guidance":
            return Share("guidance", dealt)
        case "sequence":
            return Share("sequence", devices)
        case "weights":
            return Share("weights", devices)
    if 1 < holders <= devices:
        return Share("weights", devices)
    return Share("guidance", dealt) if dealt >= 2 and devices < 2 * dealt else Share("sequence", devices)
