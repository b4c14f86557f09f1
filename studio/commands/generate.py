"""generate: one clip, made here or by another studio, or what it would take."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, Problem, StudioError
from engines.registry import find
from engines.request import Request
from engines.types import EngineSpec
from engines.validation import build_request, usable_files
from studio import estimating, kept_files, one_clip, remote, speech
from studio.commands.answers import FAILED, say_clip
from studio.commands.asked import clip_flags, override, values_of
from studio.commands.options import MAKING, Commands, setting_flags, settings_of
from studio.jobs.store import JobStore
from studio.jobs.worker_process import require_devices
from studio.settings import Settings, check_certificate, check_computing, check_models_folder


def add(commands: Commands) -> None:
    """The command and its flags."""
    command = commands.add_parser("generate", help="make one clip", description=run.__doc__)
    command.set_defaults(run=run)
    clip_flags(command)
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE.mp4",
        help="the clip to be made; an earlier one of this name is replaced",
    )
    command.add_argument("--dry-run", action="store_true", help="say what the clip would take, and make none")
    command.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    command.add_argument("--server", metavar="URL", help="the studio that makes it, instead of this machine")
    setting_flags(command, *MAKING)


def run(options: argparse.Namespace) -> int:
    """Make one clip."""
    spec = find(options.engine)
    values = values_of(spec, options)
    if options.out is None and not options.dry_run:
        raise InvalidRequest([Problem("out", "Say where the clip is to be: --out FILE.mp4, or --dry-run for none.")])
    if options.dry_run and options.server:
        raise InvalidRequest([Problem("server", "What a clip takes is said of this machine: leave out --server.")])
    if options.server:
        return _elsewhere(spec, values, options)
    request = build_request(spec, values)
    overrides = tuple(override(spec, request.model, text) for text in options.weights)
    settings = settings_of(options, overrides=overrides)
    check_models_folder(settings)
    check_computing(settings)
    check_certificate(settings)
    if options.dry_run:
        return _say_estimate(spec, request, settings, as_json=options.json)
    with one_clip.Target(options.out, inputs=kept_files.given(request)) as target:
        usable_files(spec, request, settings.files())
        devices = require_devices(settings.devices)
        result = one_clip.make(spec, request, target=target, settings=settings, devices=devices, quiet=options.json)
    return say_clip(result, as_json=options.json)


def _elsewhere(spec: EngineSpec, values: dict[str, Any], options: argparse.Namespace) -> int:
    """Make one clip in the studio at --server, with that machine's models."""
    if options.weights:
        raise InvalidRequest([Problem("weights", "Files for --weights cannot be sent: leave it out, or --server.")])
    with one_clip.Target(options.out, inputs=kept_files.paths(values)) as target:
        studio = remote.Studio(options.server, login=settings_of(options).auth)
        try:
            result = studio.make(spec, values, target=target, quiet=options.json)
        finally:
            studio.close()
    return say_clip(result, as_json=options.json)


def _say_estimate(spec: EngineSpec, request: Request, settings: Settings, *, as_json: bool) -> int:
    """What a clip would take on this machine; fails where it does not fit."""
    devices = require_devices(settings.devices)
    store = None
    if settings.database.is_file():
        with suppress(StudioError, OSError):  # a studio is at work there: its own page says more
            store = JobStore(settings.database)
    try:
        device, files, limits = devices[0], settings.files(), settings.memory_gb
        sharing = estimating.sharing(spec, request, device, devices, split=settings.split, files=files, limits=limits)
        told = {"files": files, "limits": limits, "workers": len(devices), "store": store}
        found = estimating.outlook(spec, request, device, **told, sharing=sharing, wanted=settings.precision)
    finally:
        if store is not None:
            store.close()
    sentence = found.sentence or "Nothing is known of what this model takes."
    if found.offer:
        sentence = f"{sentence} What fits better: {found.offer}."
    speech.say(json.dumps(found.as_values()) if as_json else sentence)
    return FAILED if found.estimate.verdict == "refused" else 0
