"""The flags of commands that are told a clip, and what they ask for as request values; files are named wholly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, Problem
from engines.inputs import media_fields
from engines.loading.store import parse_override
from engines.registry import SPECS
from engines.types import EngineSpec, Size
from engines.wording import either
from studio import kept_files, presets, speech
from studio.adapters import file_of, name_of
from studio.commands.options import named_value, settings_of
from studio.paths import absolute


def clip_flags(command: argparse.ArgumentParser) -> None:
    """The flags that say which clip is meant."""
    command.add_argument("engine", help=", ".join(SPECS))
    command.add_argument("--preset", metavar="NAME", help="settings kept on the page by this name; flags go before")
    command.add_argument("--model", help="which checkpoint makes the clip (see: python -m studio models)")
    command.add_argument("--prompt", metavar="TEXT", help="what happens in the clip")
    for flag, keep, words in (("--ref", True, ""), ("--ref-cut", False, " whose background is removed")):
        command.add_argument(
            flag,
            dest="references",
            action="append",
            default=[],
            metavar="PICTURE",
            type=partial(reference, keep_background=keep),
            help=f"a reference picture{words}; may be given several times",
        )
    command.add_argument(
        "--adapter",
        dest="adapter_files",
        action="append",
        nargs="+",
        default=[],
        metavar=("FILE", "STRENGTH"),
        help="a LoRA, its strength (such as 0.8, else 1) and over which share of the steps (such as 0-0.5, else all); "
        "may be given several times",
    )
    command.add_argument("--seed", metavar="N", help="the same seed and settings give the same clip")
    command.add_argument("--size", metavar="WxH", help="width and height of the clip in pixels")
    command.add_argument("--frames", metavar="N", help="length of the clip in frames")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_settings_help())
    command.add_argument("--weights", action="append", default=[], metavar="ROLE=PATH", help="another checkpoint file")


def values_of(spec: EngineSpec, options: argparse.Namespace) -> dict[str, Any]:
    """Request values from the flags; --set reaches every field, the other flags are shorthands."""
    values: dict[str, Any] = {}
    if options.preset is not None:
        kept = presets.of(settings_of(options)).for_request(spec, options.preset)
        values = dict(kept.values)
        if kept.sentence:
            speech.say(f"Note: {kept.sentence}", sys.stderr)
    for text in options.set:
        name, value = named_value(text)
        declared = media_fields(spec.request_type).get(name)
        if declared is None or not value:
            values[name] = value
            continue
        theirs = _elsewhere(options) and declared.kind in ("earlier job", "adapter")  # named as the other studio does
        path = value if theirs else str(absolute(value))
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


def _elsewhere(options: argparse.Namespace) -> bool:
    """Whether another studio makes the clip, with its own adapters and earlier clips."""
    return bool(getattr(options, "server", None))


def _adapter(options: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """An adapter from FILE, its strength and its share of the steps; a name in the folder of adapters is a file too."""
    file, *rest = words
    folder = settings_of(options).adapter_folder
    path = file_of(absolute(file), file, folder)
    given: dict[str, Any] = {"path": str(path)}
    if _elsewhere(options):
        given["path"] = name_of(path, folder) if path.is_file() else file
    for word in rest:
        begin, dash, end = word.partition("-") if "-" in word[1:] else (word, "", "")
        given |= {"begin": begin, "end": end} if dash else {"strength": word}
    return given


def override(spec: EngineSpec, model: str, text: str) -> str:
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


def reference(path: str, *, keep_background: bool) -> dict[str, Any]:
    """A picture that --ref or --ref-cut names."""
    return {"path": str(absolute(path)), "keep_background": keep_background}


def _settings_help() -> str:
    """Every setting of every engine, the parts of files included."""
    names: dict[str, None] = {}
    for spec in SPECS.values():
        files = media_fields(spec.request_type)
        for name in spec.request_type.model_fields:
            names |= {name: None} | {f"{name}.{part}": None for part in (files[name].parts if name in files else ())}
    return f"any setting: {', '.join(names)}; of several files, one is named as references.2.keep_background"
