"""A grid of clips that differ in one or two numbers: what people write, checked and made into requests, all or none."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engines.errors import InvalidRequest, Problem
from engines.request import RANDOM_SEED, seeds
from engines.types import EngineSpec
from engines.wording import given
from studio import continuing
from studio.jobs.store import Job
from studio.service import Studio

MOST = 36
"""Clips of one sweep."""
_RANGE = re.compile(r"(-?[\d.]+)\s*(?:\.\.|…|to)\s*(-?[\d.]+)(?:\s*by\s*([\d.]+))?")


@dataclass(frozen=True)
class Axis:
    """One number that differs, and its values in their order."""

    field: str
    values: tuple[int | float, ...]


def fields(spec: EngineSpec) -> list[tuple[str, str]]:
    """The number fields of an engine's request: (title, name), the seed first."""
    declared = spec.request_type.model_fields
    numbers = [name for name, info in declared.items() if info.annotation in (int, float)]
    return [(str(declared[name].title or name), name) for name in sorted(numbers, key=lambda name: name != "seed")]


def axis(spec: EngineSpec, name: str, text: str) -> Axis:
    """What "10, 20, 30" or "1..9 by 2" means for a number field; raises InvalidRequest."""
    known = {field: title for title, field in fields(spec)}
    if name not in known:
        raise InvalidRequest([Problem(name, "Choose which number should differ.")])
    whole = spec.request_type.model_fields[name].annotation is int
    values: list[int | float] = []
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        values += _part(name, known[name], part, whole=whole)
        if len(values) > MOST:
            raise InvalidRequest([_too_many(name)])
    if not values:
        words = f'Write values of "{known[name]}" with commas between them, such as 1, 2, 3 or 1..9 by 2.'
        raise InvalidRequest([Problem(name, words)])
    return Axis(name, tuple(dict.fromkeys(values)))


def submit(
    studio: Studio,
    engine: str,
    values: Mapping[str, Any],
    axes: Sequence[Axis],
    *,
    owner: str = "",
    connection: str = "",
) -> list[Job]:
    """Queue a clip for each combination of the axes' values; a random seed is drawn once and stays the same over all.

    Raises:
        InvalidRequest: with every problem; nothing was queued.
        StudioError: there are too many, or the disk is full.
    """
    spec = studio.spec(engine)
    axes = [one for one in axes if one.values]
    if len({one.field for one in axes}) < len(axes):
        raise InvalidRequest([Problem(axes[-1].field, "Choose two different numbers, or one.")])
    grid = [
        dict(zip([one.field for one in axes], point, strict=True))
        for point in itertools.product(*(one.values for one in axes))
    ]
    if len(grid) > MOST:
        raise InvalidRequest([_too_many(axes[-1].field)])
    studio.check_limits(len(grid), owner=owner, connection=connection)
    first = continuing.resolved(studio, spec, values, owner=owner)
    if "seed" not in grid[0] and first.get("seed", RANDOM_SEED) == RANDOM_SEED:
        first["seed"] = seeds(RANDOM_SEED)[0]
    base = dict(first)
    requests = []
    for point in grid:
        request = studio.prepared(engine, base | point)
        request = request.model_copy(update={"seed": seeds(request.seed)[0]})
        base = request.model_dump(mode="json") | {name: base.get(name, request.seed) for name in ("seed",)}
        requests.append(request)
    parents = continuing.parents(studio, spec, values, owner=owner)
    return studio.queue(engine, requests, parents=parents, owner=owner, connection=connection)


def _part(name: str, title: str, part: str, *, whole: bool) -> list[int | float]:
    """One value, or those of a range."""
    try:
        found = _RANGE.fullmatch(part)
        if found is None:
            return [_number(part, whole=whole)]
        first, last = (_number(text, whole=whole) for text in found.group(1, 2))
        step = _number(found.group(3) or "1", whole=whole)
        if step <= 0 or last < first:
            raise ValueError
        count = int((last - first) / step + 1e-9) + 1
        if count > MOST:
            raise InvalidRequest([_too_many(name)])
        return [first + index * step if whole else round(first + index * step, 6) for index in range(count)]
    except (ValueError, OverflowError):
        kind = "a whole number" if whole else "a number"
        words = f'"{title}" takes {kind} or a range such as 1..9 by 2, not {given(part)}.'
        raise InvalidRequest([Problem(name, words)]) from None


def _number(text: str, *, whole: bool) -> int | float:
    return int(text) if whole else float(text)


def _too_many(name: str) -> Problem:
    return Problem(name, f"A sweep makes at most {MOST} clips: write fewer values.")
