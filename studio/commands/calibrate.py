"""calibrate: a model's own calibration for the step cache "calibrated", measured on a clip that is not kept."""

from __future__ import annotations

import argparse
import secrets
import sys

from engines.errors import InvalidRequest, Problem
from engines.events import Answer
from engines.messages import Ask
from engines.prompting.tasks import CALIBRATE
from engines.registry import find
from engines.sampling.caches import calibrates
from engines.validation import build_request
from studio import one_answer, speech
from studio.commands.asked import clip_flags, override, values_of
from studio.commands.options import Commands, setting_flags, settings_of
from studio.settings import check_computing, check_models_folder


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("calibrate", help="prepare a model for the step cache", description=run.__doc__)
    command.set_defaults(run=run)
    clip_flags(command)
    setting_flags(command, "models", "adapters", "devices", "memory_gb", "attention")


def run(options: argparse.Namespace) -> int:
    """Measure, on the steps of one clip, which steps a model can spare; kept beside its file, for every later clip."""
    spec = find(options.engine)
    if not calibrates(spec.request_type):
        raise InvalidRequest(
            [Problem("engine", f"{spec.title} has no calibrated step cache: there is nothing to calibrate.")]
        )
    request = build_request(spec, values_of(spec, options))
    overrides = tuple(override(spec, request.model, text) for text in options.weights)
    settings = settings_of(options, overrides=overrides)
    check_models_folder(settings)
    check_computing(settings)
    settings.files().require(spec.name, spec.model(request.model))
    question = Ask(
        id=secrets.token_hex(8), task=CALIBRATE, text=request.model_dump_json(), engine=spec.name, model=request.model
    )
    for piece in one_answer.ask(question, settings=settings):
        if isinstance(piece, Answer):
            speech.say(
                f"{piece.text} is made: clips of {spec.title} {request.model} may take the step cache calibrated."
            )
        else:
            speech.say(piece.text.rstrip(), sys.stderr)
    return 0
