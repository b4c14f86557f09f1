"""The one number: how much of each device may be used, as people write it, and what of it networks and their runs get.

What is stated is the most that the process takes of the device, what it takes for itself included. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from engines.errors import OutOfMemory
from engines.wording import gigabytes

MOST_GB = 100_000
Limits = Mapping[str, float]
"""Device -> the most GB of it that may be used; "" for every device that is not named."""

# What the process takes of a device for itself. Of a GPU: its context, and what its allocator cannot use; of RAM: the
# interpreter with its libraries, which were measured once all of them are imported and a clip is being written.
CONTEXT_BYTES = 500_000_000
OWN_BYTES = {"cuda": 600_000_000, "cpu": 1_100_000_000, "mps": 1_100_000_000}
# What is left free where nobody states a number: of a GPU's memory, of the RAM that is free.
_RESERVE_SHARE = {"cuda": 0.05}
_RAM_RESERVE_SHARE = 0.1
_RAM_SHARE = 0.7  # of the free RAM, for networks that wait there


class Memory(NamedTuple):
    """A device at a moment: free and total bytes, and what this process holds of it."""

    free: int
    total: int
    held: int


def read_limits(text: str) -> dict[str, float]:
    """ "8" for every device, "cuda:0=8,cuda:1=20" for each; "" for no limit.

    Raises:
        ValueError: with what it must be.
    """
    limits: dict[str, float] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        name, equals, number = entry.rpartition("=")
        device = "cuda:0" if name.strip().lower() == "cuda" else name.strip().lower()
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        known = bool(re.fullmatch(r"cpu|mps|cuda:\d{1,3}", device)) if equals else True
        if not known or device in limits or not 0 < value <= MOST_GB:
            raise ValueError(
                f"a number of gigabytes above 0, at most {MOST_GB:,}, or one for each device as cuda:0=8,cuda:1=20"
            )
        limits[device] = value
    return limits


def limits_text(limits: Limits) -> str:
    """Limits as `read_limits` reads them."""
    return ",".join(f"{device}={number:g}" if device else f"{number:g}" for device, number in limits.items())


def limit_of(limits: Limits, device: str) -> int | None:
    """The most bytes of a device that may be used; None where nobody says. "cuda:0@box" is "cuda:0" of a machine."""
    stated = limits.get(device, limits.get(device.partition("@")[0], limits.get("")))
    return None if stated is None else int(stated * 1e9)


def allowed_bytes(kind: str, memory: Memory, limit: int | None) -> int:
    """The most that the process may take of a device now: what is stated, and never more than there is.

    Args:
        kind: "cuda", "cpu", "mps".
        limit: what is stated; None for what is free less a reserve.
    """
    there = memory.free + memory.held
    if limit is not None:
        return min(limit, there)
    share = _RESERVE_SHARE.get(kind)
    return there - int(memory.total * share if share is not None else memory.free * _RAM_RESERVE_SHARE)


def networks_bytes(kind: str, allowed: int) -> int:
    """What of `allowed` bytes networks and their runs get.

    Raises:
        OutOfMemory: the program alone takes more.
    """
    own = OWN_BYTES.get(kind, OWN_BYTES["cpu"])
    if allowed <= own:
        raise OutOfMemory(
            f"Only {gigabytes(allowed)} of this device's memory may be used, and the program alone takes "
            f"{gigabytes(own)} of it.",
            hint="Allow more memory, or free some.",
        )
    return allowed - own


def ram_bytes(free: int, *, workers: int) -> int:
    """What one of several processes may take of the free RAM for networks that wait there."""
    return int(free * _RAM_SHARE / max(1, workers))
