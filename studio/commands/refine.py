"""refine: a better prompt, with the reasons for what was changed."""

from __future__ import annotations

import argparse
import json
import sys

from engines.errors import InvalidRequest, Problem
from engines.registry import SPECS, find
from studio import one_answer, refining, speech
from studio.commands.options import Commands, setting_flags, settings_of
from studio.paths import absolute
from studio.settings import check_models_folder


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("refine", help="suggest a better prompt", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("prompt", metavar="TEXT", help="the prompt as it is")
    command.add_argument("--engine", required=True, metavar="NAME", help=", ".join(SPECS))
    command.add_argument("--model", help="which of the engine's models the prompt is for (default: its first)")
    command.add_argument(
        "--ref", dest="pictures", action="append", default=[], metavar="PICTURE", help="a picture that goes with it"
    )
    command.add_argument("--json", action="store_true", help="print the suggestion, or the error, as JSON")
    setting_flags(command, "models", "devices", "memory_gb", "refiner")


def run(options: argparse.Namespace) -> int:
    """Suggest a better prompt, with the reasons for what was changed."""
    spec = find(options.engine)
    if not options.prompt.strip():
        raise InvalidRequest([Problem("prompt", "There is no prompt to refine: write what the subject does.")])
    settings = settings_of(options)
    check_models_folder(settings)
    pictures = [absolute(path) for path in options.pictures]
    question = refining.question(
        spec, options.prompt, model=options.model or "", pictures=pictures, refiner=settings.refiner
    )
    found = refining.whole(one_answer.ask(question, settings=settings))
    if options.json:
        speech.say(json.dumps({"prompt": found.text, "reasons": found.reasons, "by": found.by}))
        return 0
    for reason in found.reasons:
        speech.say(reason, sys.stderr)
    speech.say(found.text)
    return 0
