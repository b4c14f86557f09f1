"""The command line: which command runs, and one sentence for whatever went wrong. The commands: studio/commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engines.errors import IncompatibleCheckpoint, InvalidRequest, MissingWeights, StudioError
from engines.wording import printable
from studio import one_clip, speech
from studio.commands import batch, calibrate, edit, generate, models, refine, serve, settings
from studio.commands.answers import BAD_REQUEST, CANCELLED, FAILED, report
from studio.commands.options import Parser
from studio.paths import reason
from studio.settings import BadSetting

COMMANDS = (serve, generate, batch, edit, refine, models, calibrate, settings)
_REQUESTS_FAULT = (InvalidRequest, MissingWeights, IncompatibleCheckpoint, BadSetting, one_clip.BadOutput)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 bad request, 130 cancelled."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    speech.prepare()
    try:
        return _run(given)
    finally:
        speech.finish()


def _run(given: list[str]) -> int:
    answer = partial(report, as_json="--json" in given)
    try:
        options = parser().parse_args(given)
        return int(options.run(options))
    except KeyboardInterrupt:
        return answer("Cancelled", "Cancelled.", code=CANCELLED)
    except StudioError as error:
        problems = [vars(problem) for problem in getattr(error, "problems", ())]
        kind = getattr(error, "kind", type(error).__name__)
        fault = isinstance(error, _REQUESTS_FAULT) or kind in {known.__name__ for known in _REQUESTS_FAULT}
        return answer(kind, str(error), code=BAD_REQUEST if fault else FAILED, problems=problems)
    except OSError as error:  # a name too long, a folder that may not be entered, a working directory that is gone
        name = printable(Path(os.fsdecode(error.filename)).name) if error.filename else "this folder"
        text = f'"{name}" cannot be used: {reason(error)}. Choose another file or folder.'
        return answer("MediaError", text, code=BAD_REQUEST)


def parser() -> Parser:
    """The parser of all commands, each with its flags."""
    made = Parser(prog="python -m studio", description="Kinora: a studio for controllable video generation.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return made
