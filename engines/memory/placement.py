"""How one network is placed on a device: a pure function of sizes and a budget, in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines.wording import gigabytes

Mode = Literal["resident", "swap", "grouped", "refused"]


@dataclass(frozen=True)
class Plan:
    """A decision.

    Attributes:
        mode: resident (fits beside what is there), swap (idle networks go first), grouped (its blocks take turns on
            the device), refused.
        device_bytes: what the network takes of the device.
        reason: one line for the log, or for people if refused.
        fits: for a refusal, the share of the asked working memory that would fit; 0 if the network alone is too big.
    """

    mode: Mode
    device_bytes: int
    reason: str
    fits: float = 1.0


def plan(
    *,
    size_bytes: int,
    working_bytes: int,
    budget_bytes: int,
    idle_bytes: int = 0,
    busy_bytes: int = 0,
    grouped_bytes: int | None = None,
) -> Plan:
    """Place a network of `size_bytes` whose run needs `working_bytes` more.

    Args:
        idle_bytes: on the device, may go.
        busy_bytes: on the device and in use, working memory included.
        grouped_bytes: device share of the network when its blocks take turns; None if it cannot.
    """
    room = budget_bytes - busy_bytes - working_bytes
    sizes = f"{gigabytes(size_bytes)} + {gigabytes(working_bytes)} working, {gigabytes(budget_bytes)} allowed"
    if size_bytes + idle_bytes <= room:
        return Plan("resident", size_bytes, f"resident: {sizes}")
    if size_bytes <= room:
        return Plan("swap", size_bytes, f"swap: {sizes}, {gigabytes(idle_bytes)} idle")
    if grouped_bytes is not None and grouped_bytes <= room:
        return Plan("grouped", grouped_bytes, f"grouped: {sizes}, {gigabytes(grouped_bytes)} at a time")
    least = size_bytes if grouped_bytes is None else min(grouped_bytes, size_bytes)
    left = budget_bytes - busy_bytes - least
    fits = max(0.0, left / working_bytes) if working_bytes else 0.0
    needed = gigabytes(least + working_bytes + busy_bytes)
    return Plan("refused", 0, f"this needs {needed} of memory but only {gigabytes(budget_bytes)} may be used", fits)
