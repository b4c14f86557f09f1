"""serve: the page, until it is stopped."""

from __future__ import annotations

import argparse

from studio.commands.options import Commands, setting_flags, settings_of
from studio.settings import SOURCES


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("serve", help="serve the page", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    setting_flags(command, *(source.setting for source in SOURCES if source.flag))


def run(options: argparse.Namespace) -> int:
    """Serve the page until it is stopped."""
    from studio.serving import run

    run(settings_of(options, open_browser=options.open or None))
    return 0
