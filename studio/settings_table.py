"""Every setting of a studio with its value and where that comes from, for `python -m studio settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.memory.budget import limits_text
from studio.settings import SOURCES, Settings, Source

DEFAULT = "default"


@dataclass(frozen=True)
class Row:
    """One setting: its value as people write it, and the flag, variable or file that it comes from."""

    setting: str
    value: str
    origin: str
    help: str

    def as_values(self) -> dict[str, str]:
        """For a program."""
        return {"setting": self.setting, "value": self.value, "from": self.origin, "help": self.help}


def rows(settings: Settings) -> list[Row]:
    """The settings, in the order of their declaration."""
    return [
        Row(source.setting, value(source, settings), settings.origins.get(source.setting, DEFAULT), source.help)
        for source in SOURCES
    ]


def value(source: Source, settings: Settings) -> str:
    """A setting's value in words; of the password only whether there is one."""
    held = getattr(settings, source.setting)
    if source.setting == "password":
        return "made for each run" if settings.password_made else "set" if held else "none"
    if isinstance(held, bool):
        return "true" if held else "false"
    return text(held) or source.default or "none"


def text(held: Any) -> str:
    """A value as one would write it behind its flag; "" for none."""
    if isinstance(held, Mapping):
        return limits_text(held)
    if isinstance(held, tuple):
        return ", ".join(map(str, held))
    return "" if held is None else str(held)
