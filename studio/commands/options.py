"""What commands have in common: their parser, the flags of settings, and name=value."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, TextIO, TypeAlias

from engines.errors import InvalidRequest, Problem
from studio import speech
from studio.settings import SOURCES, Settings, from_environment

MAKING = (
    "models", "more_models", "adapters", "devices", "split", "memory_gb", "precision", "attention", "compile",
    "metadata", "certificate",
)  # fmt: skip
"""Settings of commands that make clips."""
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Where a command adds itself."""


class Parser(argparse.ArgumentParser):
    """argparse that answers a mistake with one sentence, and whose help nobody has to hear."""

    def print_help(self, file: TextIO | None = None) -> None:
        """Say what there is; early releases of Python 3.11 let a closed pipe through as an error."""
        speech.say(self.format_help().removesuffix("\n"), file)

    def error(self, message: str) -> NoReturn:
        raise InvalidRequest([Problem("", f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")])


def setting_flags(command: argparse.ArgumentParser, *settings: str) -> None:
    """Flags for these settings, as settings.SOURCES declares them, and for the settings file."""
    for source in (source for source in SOURCES if source.setting in ("config", *settings)):
        help_ = f"{source.help} (default: {source.default})" if source.default else source.help
        if source.metavar:
            command.add_argument(source.flag, dest=source.setting, metavar=source.metavar, help=help_)
        else:
            command.add_argument(source.flag, dest=source.setting, action="store_const", const="1", help=help_)


def settings_of(options: argparse.Namespace, **more: Any) -> Settings:
    """The settings that the flags, the environment and the settings file say; raises BadSetting."""
    return from_environment(**flags_of(options), **more)


def flags_of(options: argparse.Namespace) -> dict[str, Any]:
    """The flags of settings as they were given, None for those that were not."""
    return {source.setting: getattr(options, source.setting, None) for source in SOURCES}


def named_value(text: str) -> tuple[str, str]:
    """ "text-guidance=2.5" -> ("text_guidance", "2.5"); raises InvalidRequest."""
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidRequest([Problem("set", f'Write --set as name=value; you gave "{text}".')])
    return name.strip().replace("-", "_"), value
