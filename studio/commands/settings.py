"""settings: every setting, its value, and where that comes from."""

from __future__ import annotations

import argparse
import json

from studio import settings_table, speech
from studio.commands.options import Commands, setting_flags, settings_of
from studio.settings import SOURCES


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("settings", help="show every setting", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print the settings, or the error, as JSON")
    setting_flags(command, *(source.setting for source in SOURCES if source.flag))


def run(options: argparse.Namespace) -> int:
    """Show every setting, its value and where that comes from: a flag, a variable, the settings file or nowhere."""
    rows = settings_table.rows(settings_of(options))
    if options.json:
        speech.say(json.dumps([row.as_values() for row in rows]))
        return 0
    names, values = (max(len(getattr(row, column)) for row in rows) for column in ("setting", "value"))
    for row in rows:
        speech.say(f"{row.setting:<{names}}  {row.value:<{values}}  {row.origin}")
    return 0
