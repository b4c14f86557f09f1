"""models: what can run here, and the download of one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from engines.errors import InvalidRequest, Problem
from engines.registry import SPECS
from engines.types import EngineSpec
from engines.wording import both, either, gigabytes
from studio import models, speech
from studio.commands.options import Commands, setting_flags, settings_of
from studio.settings import check_models_folder


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("models", help="list the models", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="print the list, or the error, as JSON")
    command.add_argument("--download", metavar="ENGINE/MODEL", help="fetch a model's missing files from its hub")
    setting_flags(command, "models")


def run(options: argparse.Namespace) -> int:
    """List every engine's models, or download one."""
    settings = settings_of(options)
    files = settings.files()
    if not options.download:
        check_models_folder(settings)
    else:
        name, _, model = options.download.partition("/")
        if name not in SPECS or model not in [known.name for known in SPECS[name].models]:
            known = [f"{spec.name}/{one.name}" for spec in SPECS.values() for one in spec.models]
            raise InvalidRequest([Problem("download", f"There is no such model: choose {either(known)}.")])
        if licence := models.licence(SPECS[name].model(model)):
            speech.say(licence, sys.stderr)
        for file in files.download(name, SPECS[name].model(model)):
            speech.say(file, sys.stderr)
    rows = [_model_row(spec, name.name, files) for spec in SPECS.values() for name in spec.models]
    if options.json:
        speech.say(json.dumps(rows))
        return 0
    names = [f"{row['engine']}/{row['model']}" for row in rows]
    width = max(map(len, names))
    for name, row in zip(names, rows, strict=True):
        words = f"{name:<{width}}  {row['state']:<10} {gigabytes(row['bytes']):>9}  {row['note']}"
        speech.say(words if row["free"] else f"{words} Licence: {both(row['licences'])}.")
    return 0


def _model_row(spec: EngineSpec, name: str, files: Any) -> dict[str, Any]:
    model = spec.model(name)
    state = files.state(spec.name, model)
    return {
        "engine": spec.name,
        "model": name,
        "title": model.title,
        "note": model.about,
        "state": state.state,
        "bytes": state.total_bytes,
        "missing": list(state.missing),
        "device_bytes": model.device_bytes,
        "licences": models.licences(model),
        "free": models.is_free(model),
    }
