"""batch: the clips of a file of JSON lines, all checked before the first is made."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.errors import InvalidRequest, Problem, StudioError
from engines.loading.store import Store
from engines.validation import usable_files
from studio import batch, kept_files, one_clip, presets, speech
from studio.commands.answers import FAILED, report, say_clip
from studio.commands.options import MAKING, Commands, setting_flags, settings_of
from studio.jobs.worker_process import require_devices
from studio.paths import absolute
from studio.settings import Settings, check_certificate, check_computing, check_models_folder


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("batch", help="make the clips of a file", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("file", type=Path, metavar="FILE.jsonl", help="a JSON object of settings in each line")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder for the clips")
    command.add_argument("--dry-run", action="store_true", help="check every line and say what would be made")
    command.add_argument("--json", action="store_true", help="print every result, or error, as JSON")
    setting_flags(command, *MAKING)


def run(options: argparse.Namespace) -> int:
    """Make the clips of a file of JSON lines; those that are there already are left as they are."""
    settings, folder = settings_of(options), absolute(options.out)
    check_models_folder(settings)
    check_computing(settings)
    check_certificate(settings)
    lines = batch.read(absolute(options.file), folder, presets.of(settings))
    for line in lines:
        if line.note:
            speech.say(f"Note: line {line.number}: {line.note}", sys.stderr)
    _check_files(lines, settings.files())
    left = [line for line in lines if not line.out.exists()]
    if options.dry_run:
        for line in lines:
            _say_planned(line, to_make=line in left, as_json=options.json)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    return _make_lines(left, settings=settings, folder=folder, as_json=options.json)


def _check_files(lines: Sequence[batch.Line], files: Store) -> None:
    """Raise InvalidRequest with one problem for every line whose model or adapters cannot be used."""
    problems = []
    for line in lines:
        try:
            usable_files(line.spec, line.request, files)
        except StudioError as error:
            problems.append(Problem("", f"Line {line.number}: {error}"))
    if problems:
        raise InvalidRequest(problems)


def _say_planned(line: batch.Line, *, to_make: bool, as_json: bool) -> None:
    if as_json:
        told = {"line": line.number, "out": str(line.out), "to_make": to_make, "engine": line.spec.name}
        speech.say(json.dumps(told | {"request": line.request.model_dump(mode="json")}))
    else:
        speech.say(f"{line.out.name} {'is to be made' if to_make else 'is there'}: {line.summary}")


def _make_lines(lines: Sequence[batch.Line], *, settings: Settings, folder: Path, as_json: bool) -> int:
    """One after the other by the same workers; a clip that fails is said, and the others are made all the same."""
    devices, failed = require_devices(settings.devices), 0
    with (
        one_clip.Target(folder / "batch.mp4") as place,  # for its hidden folder alone
        one_clip.Workshop(settings, devices, folder=place.as_text(str(place.folder)), log=place.log) as workshop,
    ):
        for line in lines:
            try:
                with one_clip.Target(line.out, inputs=kept_files.given(line.request)) as target:
                    made = workshop.make(line.spec, line.request, target=target, quiet=as_json)
                say_clip(made, as_json=as_json)
            except StudioError as error:
                failed += 1
                kind = getattr(error, "kind", type(error).__name__)
                report(kind, f"Line {line.number}: {error}", as_json=as_json, code=FAILED)
    return FAILED if failed else 0
