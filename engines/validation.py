"""Values from a page, a command line or an API -> a checked request, or problems in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engines.adapters.files import adapter_problem
from engines.errors import InvalidRequest, Problem
from engines.inputs import Adapter, Media, Reference, entries, files, media_fields, media_of, starts, with_parts
from engines.loading.store import Store
from engines.media import brush
from engines.media.clips import clip_problem
from engines.media.files import file_problem, shown_name
from engines.media.pictures import picture_problem
from engines.request import Declared, Request, bounds, control
from engines.sampling import caches
from engines.types import EngineSpec, ModelSpec
from engines.wording import either, given, number, printable

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "the name of a file"}
# Text is refused, not mended, where it holds what no keyboard types: it would end in a file's metadata.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


def build_request(spec: EngineSpec, values: Mapping[str, Any], *, pixels: bool = True) -> Request:
    """The request that `values` make on top of the model's defaults; strings are read as the field's type.

    A part of a file may stand in its value or have an entry of its own, "picture.position": see `inputs.with_parts`.

    Args:
        pixels: whether pictures are decoded to see that they are whole; who will decode them next looks at headers.

    Raises:
        InvalidRequest: with every problem found, before anything is loaded.
    """
    values = with_parts(spec.request_type, values)
    name = values.get("model", spec.models[0].name)
    known = [model.name for model in spec.models]
    if name not in known:
        raise InvalidRequest([Problem("model", f"Model must be {either(known)}; you gave {given(name)}.")])
    request: Any = checked(spec.request_type, spec.default_values(name) | dict(values), given=values)
    model = spec.model(name)
    problems = _unprintable_texts(request)
    problems += model.geometry.problems(width=request.width, height=request.height, frames=request.frames)
    problems += [*file_problems(request, pixels=pixels), *spec.check(request, model)]
    if problems:
        raise InvalidRequest(list(dict.fromkeys(problems)))
    return request


def checked(request_type: type[Declared], values: Mapping[str, Any], *, given: Mapping[str, Any]) -> Declared:
    """`values` as a request of this type, each field alone within its bounds; strings are read as the field's type.

    Args:
        given: those of the values that somebody gave.

    Raises:
        InvalidRequest: with every problem found.
    """
    problems = _switches_for_numbers(request_type, given)
    try:
        request = request_type.model_validate(dict(values))
    except ValidationError as error:
        problems += [_problem(request_type, detail) for detail in error.errors()]
    if problems:
        raise InvalidRequest(list(dict.fromkeys(problems)))
    return request


def check_file_choices(spec: EngineSpec, request: Request, files_of: Callable[[str], Sequence[Path]]) -> None:
    """Refuse choices that the model's checkpoint does not have: see FileChoice.

    Args:
        files_of: (role) -> its files; () for a role that the model does not have.

    Raises:
        InvalidRequest: with every problem found, before anything is loaded.
    """
    problems = []
    for name, rule in spec.file_choices.items():
        value = getattr(request, name)
        if value != spec.request_type.model_fields[name].get_default() and value not in rule.taken(files_of(rule.role)):
            problems.append(Problem(name, rule.refusal.format(choice=value)))
    if problems:
        raise InvalidRequest(problems)


def usable_files(spec: EngineSpec, request: Request, store: Store) -> None:
    """All files of a request's model are here, whole, and have what the request chooses.

    Raises:
        MissingWeights, IncompatibleCheckpoint: as Store.require.
        InvalidRequest: as check_file_choices.
        NotCalibrated: as engines.sampling.caches.chosen.
    """
    found = store.require(spec.name, spec.model(request.model))
    if (files := found.get("transformer")) and caches.FIELD in spec.request_type.model_fields:
        caches.chosen(getattr(request, caches.FIELD), steps=1, files=files)
    check_file_choices(spec, request, lambda role: found.get(role, ()))


def prompt_problems(request: Request, model: ModelSpec | None = None) -> list[Problem]:
    """What to say where there is no prompt: the `check` of engines that ask for nothing more, of any model."""
    if request.prompt.strip():
        return []
    return [Problem("prompt", "Write a prompt that says what happens in the clip.")]


def file_problems(request: Declared, *, pixels: bool) -> Iterator[Problem]:
    """Files that are missing, that cannot be used, or that are given parts which the engine does not obey."""
    fields = type(request).model_fields
    for name, declared in media_fields(type(request)).items():
        if declared.needed and not entries(getattr(request, name)):
            yield Problem(name, declared.needed)
    begun = [name for name in starts(type(request)) if entries(getattr(request, name))]
    if len(begun) > 1:
        words = either([media_fields(type(request))[name].start for name in begun])
        yield Problem(begun[0], f"A clip starts from one thing, {words}: remove the rest.")
    for name, info in fields.items():
        owner = str(control(info).get("of") or "")
        if owner and not entries(getattr(request, owner)) and getattr(request, name) != info.get_default():
            said = f'{_label(name, info)} is said of "{_label(owner, fields[owner])}": give that too, or leave it out.'
            yield Problem(name, said)
    for name, declared, item in files(request):
        label = _label(name, fields[name])
        unheeded = [part for part in _changed_parts(item) if part not in declared.parts]
        if unheeded:
            yield Problem(name, f'{label} has no setting "{unheeded[0]}" in this engine: leave it out.')
        elif problem := _file_problem(declared, item, request, pixels=pixels):
            yield Problem(name, problem)


def _changed_parts(item: Any) -> list[str]:
    """The parts of a file that are not as they are where nobody says anything."""
    parts = {} if isinstance(item, Path) else type(item).model_fields
    return [part for part, info in parts.items() if part != "path" and getattr(item, part) != info.get_default()]


def _file_problem(declared: Media, item: Any, request: Request, *, pixels: bool) -> str | None:
    """Why a file cannot be used as what its field says it is. The file of an earlier job is its engine's own affair."""
    if declared.is_picture:
        as_published = bool(declared.as_published) and getattr(request, declared.as_published)
        return picture_problem(item.path, as_published=as_published, pixels=pixels) or _brush_problem(item)
    match declared.kind:
        case "clip":
            return clip_problem(item.path)
        case "adapter":
            return adapter_problem(item.path) or _span_problem(item)
        case "sound" | "upscaler":
            return file_problem(item.path, "file")
    return None


def _brush_problem(picture: Reference) -> str | None:
    try:
        strokes = brush.parse(picture.brush)
    except ValueError as error:
        return str(error)
    if strokes and picture.keep_background:
        return f"The brush mends what is cut out of {shown_name(picture.path)}, which keeps its background: let it go."
    return None


def _span_problem(adapter: Adapter) -> str | None:
    if adapter.begin < adapter.end:
        return None
    return (
        f"{shown_name(adapter.path)} would count in no step: it counts from {adapter.begin:g} to {adapter.end:g}. "
        "Let it end after it begins."
    )


def _switches_for_numbers(request_type: type[Declared], values: Mapping[str, Any]) -> list[Problem]:
    """True is no number here, though Python says it is 1."""
    fields = request_type.model_fields
    return [
        _wrong_kind(name, fields[name], value)
        for name, value in values.items()
        if isinstance(value, bool) and name in fields and fields[name].annotation in (int, float)
    ]


def _unprintable_texts(request: Declared) -> list[Problem]:
    return [
        _no_text(name, field)
        for name, field in type(request).model_fields.items()
        if isinstance(text := getattr(request, name), str) and _NOT_TEXT.search(text)
    ]


def _problem(request_type: type[Declared], detail: Mapping[str, Any]) -> Problem:
    """One pydantic error as one sentence in the words of the field's own declaration."""
    location, context, value = detail["loc"], detail.get("ctx", {}), detail.get("input")
    name = str(location[0]) if location else ""
    fields = request_type.model_fields
    field = fields.get(name)
    if field is None:
        owner = fields.get(name.partition(".")[0])
        if owner is not None and media_of(owner):
            sentence = f'There is no file for "{printable(name)}": give it as "{name.partition(".")[0]}" first.'
            return Problem(name.partition(".")[0], sentence)
        near = get_close_matches(name, fields, n=1)
        meant = f'did you mean "{near[0]}"?' if near else f"settings are {', '.join(sorted(fields))}."
        return Problem(name, f'There is no setting "{printable(name)}": {meant}')
    label = _label(name, field)
    if len(location) > 1:
        return Problem(name, _part_sentence(label, *location[1:], kind=detail["type"], value=value))
    match detail["type"]:
        case "greater_than_equal" | "less_than_equal":
            return Problem(name, f"{label} must be {_range(field)}; you gave {given(value)}.")
        case "string_too_long":
            return _too_long(name, field, len(value), context["max_length"])
        case "too_long" if media_of(field):
            return Problem(name, f"Use at most {context['max_length']} {label.lower()}; you gave {len(value)}.")
        case "string_unicode":
            return _no_text(name, field)
        case "literal_error" | "enum":
            return Problem(name, f"{label} must be {context['expected']}; you gave {given(value)}.")
        case _:
            return _wrong_kind(name, field, value)


def _part_sentence(label: str, *place: int | str, kind: str, value: Any) -> str:
    """What is wrong with one entry of a list, with one part of that entry, or with one part of a single object."""
    index = place[0] if isinstance(place[0], int) else None
    part = next((name for name in place if isinstance(name, str)), "")
    entry = label if index is None else f"{label}: number {index + 1}"
    if kind == "extra_forbidden":
        return f'{entry} has no setting "{printable(str(part))}".'
    if kind == "missing" or not part:
        return f'{entry} must be an object with a "path".'
    return f'{entry} has a "{part}" that cannot be {given(value)}.'


def _wrong_kind(name: str, field: FieldInfo, value: Any) -> Problem:
    kinds = [_KINDS[kind] for kind in (field.annotation, *get_args(field.annotation)) if kind in _KINDS]
    declared = media_of(field)
    single = declared is not None and declared.most == 1
    must = kinds[0] if kinds else 'an object with a "path"' if single else "a list"
    return Problem(name, f"{_label(name, field)} must be {must}; you gave {given(value)}.")


def text_problem(request_type: type[Request], name: str, text: Any) -> Problem | None:
    """What a request would be refused for because of this text alone; None for nothing.

    For events that work on a text before it is part of a request.
    """
    field = request_type.model_fields[name]
    most = next((bound.max_length for bound in field.metadata if hasattr(bound, "max_length")), None)
    if not isinstance(text, str):
        return _wrong_kind(name, field, text)
    if most is not None and len(text) > most:
        return _too_long(name, field, len(text), most)
    return _no_text(name, field) if _NOT_TEXT.search(text) else None


def _too_long(name: str, field: FieldInfo, length: int, most: int) -> Problem:
    sentence = f"{_label(name, field)} is {number(length)} characters long: shorten it to at most {number(most)}."
    return Problem(name, sentence)


def _no_text(name: str, field: FieldInfo) -> Problem:
    return Problem(
        name, f"{_label(name, field)} holds control characters or broken text: remove them or type it again."
    )


def _range(field: FieldInfo) -> str:
    low, high = bounds(field)
    if low is None or high is None:
        return f"at least {number(low)}" if high is None else f"at most {number(high)}"
    return f"between {number(low)} and {number(high)}"


def _label(name: str, field: FieldInfo) -> str:
    return field.title or name
