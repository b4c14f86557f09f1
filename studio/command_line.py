"""The command line: serve the page, make one clip, list the models. Built from the same declarations as the page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from engines.errors import IncompatibleCheckpoint, InvalidRequest, MissingWeights, Problem, StudioError
from engines.inputs import media_fields
from engines.loading.store import parse_override
from engines.registry import SPECS
from engines.types import EngineSpec
from engines.validation import build_request
from engines.wording import either, gigabytes
from studio import kept_files, models, one_clip
from studio.jobs.worker_process import find_devices
from studio.settings import Settings, from_environment

FAILED, BAD_REQUEST, CANCELLED = 1, 2, 130
_REQUESTS_FAULT = (InvalidRequest, MissingWeights, IncompatibleCheckpoint)


class Parser(argparse.ArgumentParser):
    """argparse that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InvalidRequest([Problem("", f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 bad request, 130 cancelled."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(given)
        return int(options.run(options))
    except KeyboardInterrupt:
        return _report("Cancelled", "Cancelled.", as_json="--json" in given, code=CANCELLED)
    except StudioError as error:
        problems = [vars(problem) for problem in getattr(error, "problems", ())]
        kind = getattr(error, "kind", type(error).__name__)
        fault = isinstance(error, _REQUESTS_FAULT) or kind in {known.__name__ for known in _REQUESTS_FAULT}
        code = BAD_REQUEST if fault or isinstance(error, one_clip.BadOutput) else FAILED
        return _report(kind, str(error), as_json="--json" in given, code=code, problems=problems)


def generate(options: argparse.Namespace) -> int:
    """Make one clip."""
    if options.engine not in SPECS:
        raise InvalidRequest([Problem("engine", f'There is no engine "{options.engine}": choose {either([*SPECS])}.')])
    spec = SPECS[options.engine]
    values = _values(spec, options)
    request = build_request(spec, values)
    overrides = tuple(_override(spec, request.model, text) for text in options.weights)
    settings = _settings(options, overrides=overrides)
    with one_clip.Target(options.out) as target:
        models.store(settings).require(spec.name, spec.model(request.model))
        device = find_devices(settings.devices)[0]
        result = one_clip.make(spec, request, target=target, settings=settings, device=device, quiet=options.json)
    if options.json:
        print(result.model_dump_json(exclude={"poster"}))
    else:
        print(f"{options.out} (seed {result.request['seed']}, {result.seconds.get('total', 0):.1f} s)")
    return 0


def list_models(options: argparse.Namespace) -> int:
    """List every engine's models, or download one."""
    settings = _settings(options)
    files = models.store(settings)
    if options.download:
        name, _, model = options.download.partition("/")
        if name not in SPECS or model not in [known.name for known in SPECS[name].models]:
            known = [f"{spec.name}/{one.name}" for spec in SPECS.values() for one in spec.models]
            raise InvalidRequest([Problem("download", f"There is no such model: choose {either(known)}.")])
        for file in files.download(name, SPECS[name].model(model)):
            print(file, file=sys.stderr)
    rows = [_model_row(spec, name.name, files) for spec in SPECS.values() for name in spec.models]
    if options.json:
        print(json.dumps(rows))
        return 0
    names = [f"{row['engine']}/{row['model']}" for row in rows]
    width = max(map(len, names))
    for name, row in zip(names, rows, strict=True):
        print(f"{name:<{width}}  {row['state']:<10} {gigabytes(row['bytes']):>9}  {row['note']}")
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve the page until it is stopped."""
    from studio.serving import run

    run(_settings(options, host=options.host, port=options.port, open_browser=options.open or None))
    return 0


def _model_row(spec: EngineSpec, name: str, files: Any) -> dict[str, Any]:
    model = spec.model(name)
    state = files.state(spec.name, model)
    return {
        "engine": spec.name,
        "model": name,
        "title": model.title,
        "note": model.note,
        "state": state.state,
        "bytes": state.total_bytes,
        "missing": list(state.missing),
        "device_bytes": model.device_bytes,
    }


def _values(spec: EngineSpec, options: argparse.Namespace) -> dict[str, Any]:
    """Request values from the flags; --set reaches every field, the other flags are shorthands."""
    values: dict[str, Any] = {}
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidRequest([Problem("set", f'Write --set as name=value; you gave "{text}".')])
        name = name.strip().replace("-", "_")
        declared = media_fields(spec.request_type).get(name)
        if declared is None or not value:
            values[name] = value
            continue
        path = str(Path(value).expanduser().absolute())
        given: Any = path if declared.kind == "earlier job" else {"path": path}
        values[name] = given if declared.most == 1 else [*values.get(name, ()), given]
    for name in ("model", "prompt", "seed", "frames"):
        if (value := getattr(options, name)) is not None:
            values[name] = value
    if options.size is not None:
        width, cross, height = options.size.lower().replace("×", "x").partition("x")
        if not (cross and width.isdigit() and height.isdigit()):
            raise InvalidRequest([Problem("width", f'Write --size as WxH, for example 96x64; not "{options.size}".')])
        values |= {"width": width, "height": height}
    if options.references:
        values |= kept_files.as_values(spec, options.references)
    return values


def _override(spec: EngineSpec, model: str, text: str) -> str:
    """ "role=PATH" for the store."""
    role, equals, path = text.partition("=")
    roles = [weights.role for weights in spec.model(model).weights]
    if not equals or role not in roles:
        raise InvalidRequest([Problem("weights", f"Write --weights as role=PATH, where the role is {either(roles)}.")])
    if not Path(path).expanduser().exists():
        raise InvalidRequest([Problem("weights", f'There is no file or folder "{Path(path).name}" for the {role}.')])
    entry = f"{spec.name}/{model}/{role}={Path(path).expanduser().resolve()}"
    parse_override(entry)
    return entry


def _settings(options: argparse.Namespace, **more: Any) -> Settings:
    devices = (options.device,) if getattr(options, "device", None) else None
    flags = {name: getattr(options, name, None) for name in ("outputs", "models", "memory_gb")}
    return from_environment(devices=devices, **flags, **more)


def _report(kind: str, text: str, *, as_json: bool, code: int, problems: Sequence[dict[str, Any]] = ()) -> int:
    """Say in one sentence why there is no clip: on stderr, and as JSON on stdout where that was asked for."""
    print(text, file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"kind": kind, "message": text, "problems": list(problems)}}))
    return code


def _parser() -> Parser:
    parser = Parser(prog="python -m studio", description="Kinora: a studio for controllable video generation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve the page", description=serve.__doc__)
    command.set_defaults(run=serve)
    command.add_argument("--host", help="address to listen on (default 127.0.0.1; others need KINORA_PASSWORD)")
    command.add_argument("--port", type=int, help="default 7860")
    command.add_argument("--outputs", type=Path, metavar="DIR", help="folder of the clips (default outputs)")
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    _machine_flags(command)

    command = commands.add_parser("generate", help="make one clip", description=generate.__doc__)
    command.set_defaults(run=generate)
    command.add_argument("engine", help=", ".join(SPECS))
    command.add_argument("--model", help="which checkpoint makes the clip (see: python -m studio models)")
    command.add_argument("--prompt", metavar="TEXT")
    for flag, keep, words in (("--ref", True, ""), ("--ref-cut", False, " whose background is removed")):
        command.add_argument(
            flag,
            dest="references",
            action="append",
            default=[],
            metavar="PICTURE",
            type=partial(_reference, keep_background=keep),
            help=f"a reference picture{words}; may be given several times",
        )
    command.add_argument("--seed", metavar="N", help="the same seed and settings give the same clip")
    command.add_argument("--size", metavar="WxH")
    command.add_argument("--frames", metavar="N")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_settings_help())
    command.add_argument("--weights", action="append", default=[], metavar="ROLE=PATH", help="another checkpoint file")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.mp4")
    command.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    _machine_flags(command)

    command = commands.add_parser("models", help="list the models", description=list_models.__doc__)
    command.set_defaults(run=list_models)
    command.add_argument("--json", action="store_true")
    command.add_argument("--download", metavar="ENGINE/MODEL", help="fetch a model's missing files from its hub")
    command.add_argument("--models", type=Path, metavar="DIR", help="folder with downloaded checkpoints")
    return parser


def _reference(path: str, *, keep_background: bool) -> dict[str, Any]:
    return {"path": str(Path(path).expanduser().absolute()), "keep_background": keep_background}


def _machine_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--models", type=Path, metavar="DIR", help="folder with downloaded checkpoints")
    command.add_argument("--device", metavar="NAME", help="cpu, mps, cuda:0, ... (default: the best there is)")
    command.add_argument("--memory-gb", type=float, metavar="X", help="use at most X GB of the device")


def _settings_help() -> str:
    """Every setting of every engine, the parts of files included."""
    names: dict[str, None] = {}
    for spec in SPECS.values():
        files = media_fields(spec.request_type)
        for name in spec.request_type.model_fields:
            names |= {name: None} | {f"{name}.{part}": None for part in (files[name].parts if name in files else ())}
    return f"any setting: {', '.join(names)}; of several files, one is named as references.2.keep_background"
