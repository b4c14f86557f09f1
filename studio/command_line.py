"""The command line: serve the page, make one clip, list the models. Built from the same declarations as the page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from engines.editing import spec as editing
from engines.editing.spec import EDITS
from engines.errors import IncompatibleCheckpoint, InvalidRequest, MissingWeights, Problem, StudioError
from engines.events import Clip
from engines.inputs import media_fields
from engines.loading.store import parse_override
from engines.registry import SPECS, find
from engines.request import Request
from engines.types import EngineSpec, Size
from engines.validation import build_request
from engines.wording import both, either, gigabytes, printable
from studio import batch, estimating, kept_files, models, one_answer, one_clip, refining, remote, speech
from studio.jobs.store import JobStore
from studio.jobs.worker_process import require_devices
from studio.paths import absolute, reason
from studio.settings import SOURCES, BadSetting, Settings, check_attention, check_models_folder, from_environment

FAILED, BAD_REQUEST, CANCELLED = 1, 2, 130
_MAKING = ("models", "adapters", "devices", "split", "memory_gb", "attention")  # settings of commands that make clips
_REQUESTS_FAULT = (InvalidRequest, MissingWeights, IncompatibleCheckpoint, BadSetting, one_clip.BadOutput)


class Parser(argparse.ArgumentParser):
    """argparse that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise InvalidRequest([Problem("", f"{message[:1].upper()}{message[1:]}. See {self.prog} --help.")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 bad request, 130 cancelled."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    speech.prepare()
    try:
        return _run(given)
    finally:
        speech.finish()


def _run(given: list[str]) -> int:
    answer = partial(_report, as_json="--json" in given)
    try:
        options = _parser().parse_args(given)
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


def generate(options: argparse.Namespace) -> int:
    """Make one clip."""
    spec = find(options.engine)
    values = _values(spec, options)
    if options.out is None and not options.dry_run:
        raise InvalidRequest([Problem("out", "Say where the clip is to be: --out FILE.mp4, or --dry-run for none.")])
    if options.dry_run and options.server:
        raise InvalidRequest([Problem("server", "What a clip takes is said of this machine: leave out --server.")])
    if options.server:
        return _elsewhere(spec, values, options)
    request = build_request(spec, values)
    overrides = tuple(_override(spec, request.model, text) for text in options.weights)
    settings = _settings(options, overrides=overrides)
    check_models_folder(settings)
    check_attention(settings)
    if options.dry_run:
        return _say_estimate(spec, request, settings, as_json=options.json)
    with one_clip.Target(options.out) as target:
        settings.files().require(spec.name, spec.model(request.model))
        devices = require_devices(settings.devices)
        result = one_clip.make(spec, request, target=target, settings=settings, devices=devices, quiet=options.json)
    return _say_clip(result, as_json=options.json)


def _elsewhere(spec: EngineSpec, values: dict[str, Any], options: argparse.Namespace) -> int:
    """Make one clip in the studio at --server, with that machine's models."""
    if options.weights:
        raise InvalidRequest([Problem("weights", "Files for --weights cannot be sent: leave it out, or --server.")])
    with one_clip.Target(options.out) as target:
        studio = remote.Studio(options.server, login=_settings(options).auth)
        try:
            result = studio.make(spec, values, target=target, quiet=options.json)
        finally:
            studio.close()
    return _say_clip(result, as_json=options.json)


def _say_estimate(spec: EngineSpec, request: Request, settings: Settings, *, as_json: bool) -> int:
    """What a clip would take on this machine; fails where it does not fit."""
    devices = require_devices(settings.devices)
    store = None
    if settings.database.is_file():
        with suppress(StudioError, OSError):  # a studio is at work there: its own page says more
            store = JobStore(settings.database)
    try:
        told = {"files": settings.files(), "limits": settings.memory_gb, "workers": len(devices), "store": store}
        found = estimating.outlook(spec, request, devices[0], **told)
    finally:
        if store is not None:
            store.close()
    sentence = found.sentence or "Nothing is known of what this model takes."
    if found.offer:
        sentence = f"{sentence} What fits better: {found.offer}."
    speech.say(json.dumps(found.as_values()) if as_json else sentence)
    return FAILED if found.estimate.verdict == "refused" else 0


def edit(options: argparse.Namespace) -> int:
    """Edit a finished clip into a new one."""
    spec = editing.find(options.edit)
    values: dict[str, Any] = {"clip": {"path": str(absolute(options.clip))}}
    files = media_fields(spec.request_type)
    for text in options.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidRequest([Problem("set", f'Write --set as name=value; you gave "{text}".')])
        name = name.strip().replace("-", "_")
        values[name] = {"path": str(absolute(value))} if name in files else value
    request = editing.build(spec, values)
    settings = _settings(options)
    with one_clip.Target(options.out, suffix=spec.suffix(request)) as target:
        devices = require_devices(settings.devices if spec.needs_device else ("cpu",))[:1]
        made = one_clip.make(spec, request, target=target, settings=settings, devices=devices, quiet=options.json)
    if options.json:
        speech.say(json.dumps(made.model_dump(mode="json", exclude={"poster"})))
    else:
        speech.say(f"{made.video} ({made.frames} frames, {made.seconds.get('total', 0):.1f} s)")
    return 0


def _say_clip(made: Clip, *, as_json: bool) -> int:
    if as_json:
        speech.say(json.dumps(made.model_dump(mode="json", exclude={"poster"})))
    else:
        speech.say(f"{made.video} (seed {made.request['seed']}, {made.seconds.get('total', 0):.1f} s)")
    return 0


def make_batch(options: argparse.Namespace) -> int:
    """Make the clips of a file of JSON lines; those that are there already are left as they are."""
    settings, folder = _settings(options), absolute(options.out)
    check_models_folder(settings)
    check_attention(settings)
    lines = batch.read(absolute(options.file), folder)
    files = settings.files()
    for line in lines:
        files.require(line.spec.name, line.spec.model(line.request.model))
    left = [line for line in lines if not line.out.exists()]
    if options.dry_run:
        for line in lines:
            speech.say(f"{line.out.name} {'is to be made' if line in left else 'is there'}: {line.summary}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    return _make_lines(left, settings=settings, folder=folder, as_json=options.json)


def _make_lines(lines: Sequence[batch.Line], *, settings: Settings, folder: Path, as_json: bool) -> int:
    """One after the other by the same workers; a clip that fails is said, and the others are made all the same."""
    devices, failed = require_devices(settings.devices), 0
    with (
        one_clip.Target(folder / "batch.mp4") as place,  # for its hidden folder alone
        one_clip.Workshop(settings, devices, folder=place.as_text(str(place.folder)), log=place.log) as workshop,
    ):
        for line in lines:
            try:
                with one_clip.Target(line.out) as target:
                    made = workshop.make(line.spec, line.request, target=target, quiet=as_json)
                _say_clip(made, as_json=as_json)
            except StudioError as error:
                failed += 1
                kind = getattr(error, "kind", type(error).__name__)
                _report(kind, f"Line {line.number}: {error}", as_json=as_json, code=FAILED)
    return FAILED if failed else 0


def refine(options: argparse.Namespace) -> int:
    """Suggest a better prompt, with the reasons for what was changed."""
    spec = find(options.engine)
    if not options.prompt.strip():
        raise InvalidRequest([Problem("prompt", "There is no prompt to refine: write what the subject does.")])
    settings = _settings(options)
    check_models_folder(settings)
    pictures = [absolute(path) for path in options.pictures]
    question = refining.question(
        spec, options.prompt, model=options.model or "", pictures=pictures, refiner=settings.refiner
    )
    found = refining.whole(one_answer.ask(question, settings=settings))
    if options.json:
        speech.say(json.dumps({"prompt": found.text, "reasons": found.reasons, "by": found.by}))
        return 0
    for reason_ in found.reasons:
        speech.say(reason_, sys.stderr)
    speech.say(found.text)
    return 0


def list_models(options: argparse.Namespace) -> int:
    """List every engine's models, or download one."""
    settings = _settings(options)
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


def serve(options: argparse.Namespace) -> int:
    """Serve the page until it is stopped."""
    from studio.serving import run

    run(_settings(options, open_browser=options.open or None))
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
        path = str(absolute(value))
        given: Any = path if declared.kind == "earlier job" else {"path": path}
        values[name] = given if declared.most == 1 else [*values.get(name, ()), given]
    for name in ("model", "prompt", "seed", "frames"):
        if (value := getattr(options, name)) is not None:
            values[name] = value
    if options.size is not None:
        try:
            values |= Size.parse(options.size)._asdict()
        except ValueError as error:
            raise InvalidRequest([Problem("width", str(error))]) from None
    if options.adapter_files:
        given_ = [_adapter(options, words) for words in options.adapter_files]
        values["adapters"] = [*values.get("adapters", ()), *given_]
    if options.references:
        values |= kept_files.as_values(spec, options.references)
    return values


def _adapter(options: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """An adapter from FILE, its strength and its share of the steps; a name in the folder of adapters is a file too."""
    file, *rest = words
    path, folder = absolute(file), _settings(options).adapter_folder
    if not path.is_file() and folder is not None and (folder / file).is_file():
        path = folder / file
    given: dict[str, Any] = {"path": str(path)}
    for word in rest:
        begin, dash, end = word.partition("-") if "-" in word[1:] else (word, "", "")
        given |= {"begin": begin, "end": end} if dash else {"strength": word}
    return given


def _override(spec: EngineSpec, model: str, text: str) -> str:
    """ "role=PATH" for the store."""
    role, equals, path = text.partition("=")
    roles = [weights.role for weights in spec.model(model).weights]
    if not equals or role not in roles:
        raise InvalidRequest([Problem("weights", f"Write --weights as role=PATH, where the role is {either(roles)}.")])
    if not absolute(path).exists():
        raise InvalidRequest([Problem("weights", f'There is no file or folder "{Path(path).name}" for the {role}.')])
    entry = f"{spec.name}/{model}/{role}={absolute(path)}"
    parse_override(entry)
    return entry


def _settings(options: argparse.Namespace, **more: Any) -> Settings:
    flags = {source.setting: getattr(options, source.setting, None) for source in SOURCES}
    return from_environment(**flags, **more)


def _report(kind: str, text: str, *, as_json: bool, code: int, problems: Sequence[dict[str, Any]] = ()) -> int:
    """Say in one sentence why there is no clip: on stderr, and as JSON on stdout where that was asked for."""
    speech.say(text, sys.stderr)
    if as_json:
        speech.say(json.dumps({"error": {"kind": kind, "message": text, "problems": list(problems)}}))
    return code


def _parser() -> Parser:
    parser = Parser(prog="python -m studio", description="Kinora: a studio for controllable video generation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("serve", help="serve the page", description=serve.__doc__)
    command.set_defaults(run=serve)
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    _setting_flags(command, *(source.setting for source in SOURCES if source.flag))

    command = commands.add_parser("generate", help="make one clip", description=generate.__doc__)
    command.set_defaults(run=generate)
    command.add_argument("engine", help=", ".join(SPECS))
    command.add_argument("--model", help="which checkpoint makes the clip (see: python -m studio models)")
    command.add_argument("--prompt", metavar="TEXT", help="what happens in the clip")
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
    command.add_argument(
        "--adapter",
        dest="adapter_files",
        action="append",
        nargs="+",
        default=[],
        metavar=("FILE", "STRENGTH"),
        help="a LoRA, its strength (0.8) and over which share of the steps (0-0.5); may be given several times",
    )
    command.add_argument("--seed", metavar="N", help="the same seed and settings give the same clip")
    command.add_argument("--size", metavar="WxH", help="width and height of the clip in pixels")
    command.add_argument("--frames", metavar="N", help="length of the clip in frames")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_settings_help())
    command.add_argument("--weights", action="append", default=[], metavar="ROLE=PATH", help="another checkpoint file")
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE.mp4",
        help="the clip to be made; an earlier one of this name is replaced",
    )
    command.add_argument("--dry-run", action="store_true", help="say what the clip would take, and make none")
    command.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    command.add_argument("--server", metavar="URL", help="the studio that makes it, instead of this machine")
    _setting_flags(command, *_MAKING)

    command = commands.add_parser("batch", help="make the clips of a file", description=make_batch.__doc__)
    command.set_defaults(run=make_batch)
    command.add_argument("file", type=Path, metavar="FILE.jsonl", help="a JSON object of settings in each line")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder for the clips")
    command.add_argument("--dry-run", action="store_true", help="check every line and say what would be made")
    command.add_argument("--json", action="store_true", help="print every result, or error, as JSON")
    _setting_flags(command, *_MAKING)

    command = commands.add_parser("edit", help="edit a finished clip", description=edit.__doc__)
    command.set_defaults(run=edit)
    command.add_argument("edit", help=", ".join(EDITS))
    command.add_argument("--clip", type=Path, required=True, metavar="VIDEO", help="the clip; it stays as it is")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_edits_help())
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the new clip")
    command.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    _setting_flags(command, "devices", "memory_gb")

    command = commands.add_parser("refine", help="suggest a better prompt", description=refine.__doc__)
    command.set_defaults(run=refine)
    command.add_argument("prompt", metavar="TEXT", help="the prompt as it is")
    command.add_argument("--engine", required=True, metavar="NAME", help=", ".join(SPECS))
    command.add_argument("--model", help="which of the engine's models the prompt is for (default: its first)")
    command.add_argument(
        "--ref", dest="pictures", action="append", default=[], metavar="PICTURE", help="a picture that goes with it"
    )
    command.add_argument("--json", action="store_true", help="print the suggestion, or the error, as JSON")
    _setting_flags(command, "models", "devices", "memory_gb", "refiner")

    command = commands.add_parser("models", help="list the models", description=list_models.__doc__)
    command.set_defaults(run=list_models)
    command.add_argument("--json", action="store_true", help="print the list, or the error, as JSON")
    command.add_argument("--download", metavar="ENGINE/MODEL", help="fetch a model's missing files from its hub")
    _setting_flags(command, "models")
    return parser


def _reference(path: str, *, keep_background: bool) -> dict[str, Any]:
    return {"path": str(absolute(path)), "keep_background": keep_background}


def _setting_flags(command: argparse.ArgumentParser, *settings: str) -> None:
    for source in (source for source in SOURCES if source.setting in settings):
        help_ = f"{source.help} (default: {source.default})" if source.default else source.help
        if source.metavar:
            command.add_argument(source.flag, dest=source.setting, metavar=source.metavar, help=help_)
        else:
            command.add_argument(source.flag, dest=source.setting, action="store_const", const="1", help=help_)


def _edits_help() -> str:
    """Every edit's settings."""
    named = (f"{spec.name}: {', '.join(name for name in spec.request_type.model_fields if name != 'clip') or 'none'}"
             for spec in EDITS.values())  # fmt: skip
    return f"a setting of the edit; may be given several times. {'; '.join(named)}"


def _settings_help() -> str:
    """Every setting of every engine, the parts of files included."""
    names: dict[str, None] = {}
    for spec in SPECS.values():
        files = media_fields(spec.request_type)
        for name in spec.request_type.model_fields:
            names |= {name: None} | {f"{name}.{part}": None for part in (files[name].parts if name in files else ())}
    return f"any setting: {', '.join(names)}; of several files, one is named as references.2.keep_background"
