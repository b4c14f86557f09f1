"""Values from a page, a command line or an API -> a checked request, or problems in plain sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from engines.errors import InvalidRequest, Problem
from engines.request import Reference, Request
from engines.types import EngineSpec
from engines.wording import either, given, number, printable

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "the name of a file"}
# Text is refused, not mended, where it holds what no keyboard types: it would end in a file's metadata.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def build_request(spec: EngineSpec, values: Mapping[str, Any]) -> Request:
    """The request that `values` make on top of the model's defaults; strings are read as the field's type.

    Raises:
        InvalidRequest: with every problem found, before anything is loaded.
    """
    name = values.get("model", spec.models[0].name)
    known = [model.name for model in spec.models]
    if name not in known:
        raise InvalidRequest([Problem("model", f"Model must be {either(known)}; you gave {given(name)}.")])
    problems = _switches_for_numbers(spec, values)
    try:
        request = spec.request_type.model_validate(spec.default_values(name) | dict(values))
    except ValidationError as error:
        problems += [_problem(spec, detail) for detail in error.errors()]
    if problems:
        raise InvalidRequest(list(dict.fromkeys(problems)))
    model = spec.model(name)
    problems = _unprintable_texts(request)
    problems += model.geometry.problems(width=request.width, height=request.height, frames=request.frames)
    problems += spec.check(request, model)
    if problems:
        raise InvalidRequest(problems)
    return request


def _switches_for_numbers(spec: EngineSpec, values: Mapping[str, Any]) -> list[Problem]:
    """True is no number here, though Python says it is 1."""
    fields = spec.request_type.model_fields
    return [
        _wrong_kind(name, fields[name], value)
        for name, value in values.items()
        if isinstance(value, bool) and name in fields and fields[name].annotation in (int, float)
    ]


def _unprintable_texts(request: Request) -> list[Problem]:
    return [
        _no_text(name, field)
        for name, field in type(request).model_fields.items()
        if isinstance(text := getattr(request, name), str) and _NOT_TEXT.search(text)
    ]


def _problem(spec: EngineSpec, detail: Mapping[str, Any]) -> Problem:
    """One pydantic error as one sentence in the words of the field's own declaration."""
    location, context, value = detail["loc"], detail.get("ctx", {}), detail.get("input")
    name = str(location[0]) if location else ""
    fields = spec.request_type.model_fields
    field = fields.get(name)
    if field is None:
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
            length, most = number(len(value)), number(context["max_length"])
            return Problem(name, f"{label} is {length} characters long: shorten it to at most {most}.")
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
    single = get_origin(field.annotation) is not tuple and Reference in get_args(field.annotation)
    must = kinds[0] if kinds else 'an object with a "path"' if single else "a list"
    return Problem(name, f"{_label(name, field)} must be {must}; you gave {given(value)}.")


def _no_text(name: str, field: FieldInfo) -> Problem:
    return Problem(
        name, f"{_label(name, field)} holds control characters or broken text: remove them or type it again."
    )


def _range(field: FieldInfo) -> str:
    low = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    high = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    if low is None or high is None:
        return f"at least {number(low)}" if high is None else f"at most {number(high)}"
    return f"between {number(low)} and {number(high)}"


def _label(name: str, field: FieldInfo) -> str:
    return field.title or name
