"""Values from a page, a command line or an API -> a checked request, or problems in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from engines.errors import InvalidRequest, Problem
from engines.request import Request
from engines.types import EngineSpec


def build_request(spec: EngineSpec, values: Mapping[str, Any]) -> Request:
    """The request that `values` make on top of the model's defaults; strings are read as the field's type.

    Raises:
        InvalidRequest: with every problem found, before anything is loaded.
    """
    name = values.get("model", spec.models[0].name)
    known = [model.name for model in spec.models]
    if name not in known:
        raise InvalidRequest([Problem("model", f'There is no model "{name}" here: choose {_either(known)}.')])
    try:
        request = spec.request_type(**(spec.default_values(name) | dict(values)))
    except ValidationError as error:
        raise InvalidRequest([_problem(spec, detail) for detail in error.errors()]) from None
    model = spec.model(name)
    problems = model.geometry.problems(width=request.width, height=request.height, frames=request.frames)
    problems += spec.check(request, model)
    if problems:
        raise InvalidRequest(problems)
    return request


def _problem(spec: EngineSpec, detail: Mapping[str, Any]) -> Problem:
    """One pydantic error as one sentence in the words of the field's own declaration."""
    location, context, given = detail["loc"], detail.get("ctx", {}), detail.get("input")
    name = str(location[0]) if location else ""
    fields = spec.request_type.model_fields
    if detail["type"] == "extra_forbidden" and name not in fields:
        near = get_close_matches(name, fields, n=1)
        meant = f' Did you mean "{near[0]}"?' if near else f" Settings are: {', '.join(sorted(fields))}."
        return Problem(name, f'There is no setting "{name}".{meant}')
    field = fields.get(name)
    label = (field.title if field else None) or name
    shown = given if isinstance(given, int | float) else f'"{str(given)[:60]}"'
    match detail["type"]:
        case "greater_than_equal" | "less_than_equal":
            low, high = _bounds(field)
            if low is not None and high is not None:
                sentence = f"{label} must be between {_number(low)} and {_number(high)}; you gave {shown}."
            elif "ge" in context:
                sentence = f"{label} must be at least {context['ge']:g}; you gave {shown}."
            else:
                sentence = f"{label} must be at most {context['le']:g}; you gave {shown}."
        case "string_too_long":
            sentence = (
                f"{label} is {len(str(given)):,} characters long: shorten it to at most {context['max_length']:,}."
            )
        case "int_parsing" | "int_type" | "int_from_float":
            sentence = f"{label} must be a whole number; you gave {shown}."
        case "float_parsing" | "float_type" | "finite_number":
            sentence = f"{label} must be a number; you gave {shown}."
        case "bool_parsing" | "bool_type":
            sentence = f"{label} must be true or false; you gave {shown}."
        case _:
            sentence = f"{label} cannot be {shown}."
    return Problem(name, sentence)


def _bounds(field: Any) -> tuple[float | None, float | None]:
    low = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    high = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    return low, high


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
