"""edit: a finished clip into a new one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engines.editing import spec as editing
from engines.editing.spec import EDITS
from engines.inputs import media_fields
from studio import kept_files, one_clip
from studio.commands.answers import say_clip
from studio.commands.options import Commands, named_value, setting_flags, settings_of
from studio.jobs.worker_process import require_devices
from studio.paths import absolute
from studio.settings import check_certificate


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("edit", help="edit a finished clip", description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument("edit", help=", ".join(EDITS))
    command.add_argument("--clip", type=Path, required=True, metavar="VIDEO", help="the clip; it stays as it is")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_edits_help())
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new clip")
    command.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    setting_flags(command, "devices", "memory_gb", "certificate")


def run(options: argparse.Namespace) -> int:
    """Edit a finished clip into a new one."""
    spec = editing.find(options.edit)
    values: dict[str, Any] = {"clip": {"path": str(absolute(options.clip))}}
    files = media_fields(spec.request_type)
    for text in options.set:
        name, value = named_value(text)
        values[name] = {"path": str(absolute(value))} if name in files else value
    request = editing.build(spec, values)
    settings = settings_of(options)
    check_certificate(settings)
    inputs = kept_files.given(request)
    with one_clip.Target(options.out, suffix=spec.suffix(request), inputs=inputs) as target:
        devices = require_devices(settings.devices if spec.needs_device else ("cpu",))[:1]
        made = one_clip.make(spec, request, target=target, settings=settings, devices=devices, quiet=options.json)
    return say_clip(made, f"{made.frames} frames", as_json=options.json)


def _edits_help() -> str:
    """Every edit's settings."""
    named = (f"{spec.name}: {', '.join(name for name in spec.request_type.model_fields if name != 'clip') or 'none'}"
             for spec in EDITS.values())  # fmt: skip
    return f"a setting of the edit; may be given several times. {'; '.join(named)}"
