"""Every setting of a studio with its value and where that comes from, for `python -m studio settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studio import allowances
from studio.settings import SOURCES, Settings, Source, given_settings

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


def rows(settings: Settings, flags: Mapping[str, object]) -> list[Row]:
    """The settings that were made with `flags`, in the order of their declaration."""
    known = given_settings(flags)
    return [
        Row(source.setting, _value(source, settings), _origin(source, settings, known), source.help)
        for source in SOURCES
    ]


def _origin(source: Source, settings: Settings, known: Mapping[str, Any]) -> str:
    if source.setting in known:
        return str(known[source.setting].origin)
    return "Hugging Face Space" if settings.hosted and source.setting in ("host", "public") else DEFAULT


def _value(source: Source, settings: Settings) -> str:
    value = getattr(settings, source.setting)
    if source.setting == "password":
        return "made for each run" if settings.password_made else "set" if value else "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        value = allowances.text(value)
    if isinstance(value, tuple):
        value = ", ".join(value)
    return str(value) if value not in (None, "") else source.default or "none"
