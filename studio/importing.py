"""The settings that a video tells, or a preset, as values for a form: each checked alone; what does not fit is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.editing.spec import PREFIX
from engines.errors import InvalidRequest
from engines.inputs import media_fields
from engines.media.foreign import Told
from engines.media.metadata import Metadata
from engines.request import Request
from engines.types import EngineSpec
from engines.validation import checked, text_problem
from engines.wording import both

_OF_NO_USE = ("model", "written_prompt", "refined_by")


@dataclass(frozen=True)
class Imported:
    """What a form can take.

    Attributes:
        engine: whose form it is; "" where any will do.
        values: checked values of its fields.
        left: the titles of what was told and cannot be taken.
    """

    engine: str
    values: dict[str, Any]
    left: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was left out, for people; "" for nothing."""
        return f"Not taken, for this model has no such value: {both(self.left)}." if self.left else ""


def engine_of(told: Told, specs: Mapping[str, EngineSpec]) -> str:
    """The engine that a video names, if it is part of this studio; of an edited clip, the one behind it."""
    own = _origin(told.own) if told.own else None
    return own.engine if own is not None and own.engine in specs else ""


def values(told: Told, spec: EngineSpec) -> Imported:
    """What the form of an engine can take of what a video tells. Files are not among it, nor any path."""
    own = _origin(told.own) if told.own else None
    said: dict[str, Any] = dict(own.parameters) if own else dict(told.settings)
    if own:
        said |= {"prompt": own.prompt, "negative_prompt": own.negative_prompt, "seed": own.seed}
    known = [model.name for model in spec.models]
    model = own.model if own and own.engine == spec.name and own.model in known else known[0]
    files, fields = media_fields(spec.request_type), spec.request_type.model_fields
    of_use = {name: value for name, value in said.items() if name in fields and name not in (*files, *_OF_NO_USE)}
    return fitting(spec, model, of_use)


def fitting(spec: EngineSpec, model: str, said: Mapping[str, Any]) -> Imported:
    """What of these values of an engine's fields can be taken for a model, each checked alone."""
    fields = spec.request_type.model_fields
    found: dict[str, Any] = {}
    left = []
    for name, value in said.items():
        if (fit := _checked(spec, model, name, value)) is not None:
            found[name] = fit
        elif value not in (None, "", -1):
            left.append(fields[name].title or name)
    if len({"width", "height"} & set(found)) == 1:  # half a size is none
        left += [fields[name].title or name for name in ("width", "height") if found.pop(name, None) is not None]
    found, wrong = _possible(spec, model, found)
    return Imported(spec.name, {"model": model} | found, tuple(dict.fromkeys([*left, *wrong])))


def _checked(spec: EngineSpec, model: str, name: str, value: Any) -> Any:
    """A value of one field, None where it is none."""
    try:
        given = {name: value}
        asked = checked(spec.request_type, spec.default_values(model) | given, given=given)
        if isinstance(value, str) and text_problem(spec.request_type, name, value):
            return None
    except InvalidRequest:
        return None
    return getattr(asked, name)


def _possible(spec: EngineSpec, model: str, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Without a size or a length that the model cannot make; a length is the nearest that it can."""
    geometry, defaults = spec.model(model).geometry, spec.default_values(model)
    fields: Mapping[str, Any] = Request.model_fields
    left = []
    if "frames" in found:
        found["frames"] = min(geometry.lengths, key=lambda length: abs(length - found["frames"]))
    size = {name: found.get(name, defaults[name]) for name in ("width", "height")}
    if geometry.problems(**size, frames=geometry.lengths[0]):
        left = [fields[name].title for name in ("width", "height") if found.pop(name, None) is not None]
    return found, left


def _origin(own: Metadata) -> Metadata:
    """What the clip before all edits said of itself."""
    for _ in range(20):
        if not own.engine.startswith(PREFIX) or not own.made_from:
            return own
        try:
            own = Metadata.model_validate({"parameters": {}, "model": "", "seed": -1} | own.made_from[0])
        except ValueError:
            return own
    return own
