"""Presets: the settings of an engine's form under a name, in a JSON file of the outputs folder; for page and commands.

A file is written whole, and read like anything from outside: bounded, and each value checked alone when it is used.
Pictures and clips are not among a preset's values; adapters are, by their names in the folder of them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from engines.errors import InvalidRequest, Problem, StudioError
from engines.inputs import media_fields
from engines.media.output import whole_file
from engines.request import control
from engines.types import EngineSpec
from engines.validation import checked
from engines.wording import printable, some
from studio import adapters, importing
from studio.importing import Imported
from studio.paths import reason
from studio.settings import PRESETS, Settings

OWN = "presets.json"
MOST, MOST_CHARACTERS = 100, 60
"""Presets of one engine; characters of a name."""
MOST_BYTES, MOST_BYTES_OF_VISITOR, MOST_VISITORS = 2_000_000, 100_000, 500
"""What a file may take; where strangers share the studio, what each of how many may."""
_UNUSED = ("written_prompt", "refined_by")
_UNTOLD = 5  # names of another version that are told

_Name = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]


class _File(BaseModel):
    """What the file holds: engine -> name -> values of its request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = 1
    presets: dict[str, dict[_Name, dict[str, Any]]] = {}


def fields(spec: EngineSpec) -> list[str]:
    """What a preset of an engine holds: every field but files, what is said of files, and how a prompt came about."""
    files, kept = media_fields(spec.request_type), media_fields(spec.request_type, "adapter")
    return [
        name
        for name, info in spec.request_type.model_fields.items()
        if name not in _UNUSED and (name in kept or not (name in files or control(info).get("of")))
    ]


def texts(spec: EngineSpec) -> set[str]:
    """Those of `fields` that say what happens in the clip: a preset may do without."""
    extras = {name: control(spec.request_type.model_fields[name]) for name in fields(spec)}
    return {name for name, extra in extras.items() if extra.get("group") == "prompt" and not extra.get("advanced")}


@dataclass(frozen=True)
class Presets:
    """The presets of one visitor. A name is one whatever its letters' case.

    Every method raises StudioError with the sentence for a file that cannot be read or written; nothing was changed.

    Attributes:
        path: the file.
        adapters: the folder in which adapters are named.
        most_bytes: what the file may take.
        most_files: how many such files its folder may have; 0 for any number.
    """

    path: Path
    adapters: Path | None = None
    most_bytes: int = MOST_BYTES
    most_files: int = 0

    def names(self, engine: str) -> list[str]:
        """The presets of an engine, in the order of letters."""
        return sorted(self._read().get(engine, {}), key=str.casefold)

    def find(self, engine: str, name: str) -> str | None:
        """The name under which there is such a preset, None for none."""
        wanted = _plain(name).casefold()
        return next((known for known in self.names(engine) if known.casefold() == wanted), None)

    def taken(self, spec: EngineSpec, name: str) -> Imported:
        """The values of a preset that its engine can take, its model's own where it says nothing; and what is left out.

        Raises:
            InvalidRequest: there is no such preset.
        """
        known = self.find(spec.name, name)
        if known is None:
            raise self._unknown(spec, name)
        held = self._read()[spec.name][known]
        models, allowed = [model.name for model in spec.models], fields(spec)
        model = held.get("model")
        left = [] if model in models else [str(spec.request_type.model_fields["model"].title)]
        model = model if model in models else models[0]
        said = {field: value for field, value in held.items() if field in allowed and field != "model"}
        found = importing.fitting(spec, model, said)
        left += [printable(field) for field in held if field not in allowed][:_UNTOLD]
        for field in media_fields(spec.request_type, "adapter"):
            if field in found.values:
                found.values[field] = [one.model_dump(mode="json") for one in found.values[field]]
        given = {field: value for field, value in spec.default_values(model).items() if field in allowed}
        said_nothing = texts(spec) - found.values.keys()
        values = {field: value for field, value in (given | found.values).items() if field not in said_nothing}
        return replace(found, values=values, left=(*left, *found.left))

    def for_request(self, spec: EngineSpec, name: str) -> Imported:
        """The same with adapters as files; raises InvalidRequest for one that is not there, too."""
        found = self.taken(spec, name)
        return replace(found, values=adapters.resolved(self.adapters, spec, _without_empty(spec, found.values)))

    def save(self, spec: EngineSpec, name: str, values: Mapping[str, Any], *, instead: str = "") -> str:
        """Keep those of `values` that a preset holds, in place of the preset `instead`; returns the name as it is kept.

        Raises:
            InvalidRequest: a value is not possible, or there is another preset of this name.
        """
        name = _checked_name(name)
        held = {field: values[field] for field in fields(spec) if field in values}
        model = str(held.get("model", spec.models[0].name))
        asked = checked(spec.request_type, spec.default_values(model) | held, given=held)
        kept = asked.model_dump(mode="json", include=set(held))
        with _LOCK:
            everything, same = self._read(), self.find(spec.name, name)
            own = everything.setdefault(spec.name, {})
            if same is not None and same != instead:
                raise _taken(same)
            own.pop(instead, None)
            if len(own) >= MOST:
                raise StudioError(f"There are {MOST} presets of this engine:", hint="delete one first.")
            own[name] = kept
            self._write(everything)
        return name

    def rename(self, spec: EngineSpec, name: str, new: str) -> str:
        """Give a preset another name; returns it as it is kept.

        Raises:
            InvalidRequest: there is no such preset, or another one has that name.
        """
        new = _checked_name(new)
        with _LOCK:
            everything, known, same = self._read(), self.find(spec.name, name), self.find(spec.name, new)
            if known is None:
                raise self._unknown(spec, name)
            if same not in (None, known):
                raise _taken(str(same))
            everything[spec.name][new] = everything[spec.name].pop(known)
            self._write(everything)
        return new

    def delete(self, spec: EngineSpec, name: str) -> None:
        """Forget a preset; nothing where there is none."""
        with _LOCK:
            everything, known = self._read(), self.find(spec.name, name)
            if known is not None:
                del everything[spec.name][known]
                self._write(everything)

    def _read(self) -> dict[str, dict[str, dict[str, Any]]]:
        name = printable(self.path.name)
        try:
            with self.path.open("rb") as file:
                content = file.read(self.most_bytes + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StudioError(f'The presets in "{name}" cannot be read: {reason(error)}.') from None
        try:
            if len(content) > self.most_bytes:
                raise ValueError
            held = json.loads(content.decode("utf-8-sig"))
            newer = isinstance(held, dict) and isinstance(held.get("version"), int) and held["version"] > 1
        except (ValueError, RecursionError):
            raise _damaged(name) from None
        if newer:
            raise StudioError(f'The presets in "{name}" were written by a newer version:', hint="update Kinora.")
        try:
            return _File.model_validate(held).presets
        except ValidationError:
            raise _damaged(name) from None

    def _write(self, everything: dict[str, dict[str, dict[str, Any]]]) -> None:
        content = json.dumps(_File(presets=everything).model_dump(), ensure_ascii=False, indent=1).encode()
        if len(content) > self.most_bytes:
            raise StudioError("There is no room for this preset:", hint="delete another one first.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            others = len([*self.path.parent.glob("*.json")]) if self.most_files and not self.path.exists() else 0
            if others and others >= self.most_files:
                raise StudioError("This studio keeps as many presets as it may.", hint="Try again later.")
            with whole_file(self.path) as part:
                part.write_bytes(content)
        except OSError as error:
            raise StudioError(f"The preset could not be kept: {reason(error)}.") from None

    def _unknown(self, spec: EngineSpec, name: str) -> InvalidRequest:
        known = self.names(spec.name)
        shown = printable(_plain(name))
        near = get_close_matches(_plain(name), known, n=1)
        more = f'did you mean "{near[0]}"?' if near else f"there are {some(known)}." if known else "there is none yet."
        return InvalidRequest([Problem("preset", f'{spec.title} has no preset "{shown}" here: {more}')])


def of(settings: Settings, owner: str = "") -> Presets:
    """The presets of a studio, or of one of the strangers who share it."""
    if not settings.public:
        return Presets(settings.outputs / PRESETS / OWN, settings.adapter_folder)
    return Presets(
        settings.outputs / PRESETS / f"{re.sub(r'[^0-9a-z]', '_', owner)}.json", settings.adapter_folder,
        MOST_BYTES_OF_VISITOR, MOST_VISITORS,
    )  # fmt: skip


def forget_old(settings: Settings, *, before: float) -> None:
    """Remove what strangers kept and did not change since a moment, in seconds of time.time()."""
    for path in (settings.outputs / PRESETS).glob("*.json"):
        try:
            if path.name != OWN and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
        except OSError:
            continue


_LOCK = threading.RLock()


def _without_empty(spec: EngineSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Without fields of adapters that hold none, which need no folder."""
    return {name: value for name, value in values.items() if value or name not in media_fields(spec.request_type)}


def _plain(name: str) -> str:
    return " ".join(str(name).split())


def _checked_name(name: str) -> str:
    plain = _plain(name)
    if not plain:
        raise InvalidRequest([Problem("preset", "Write a name for the preset.")])
    if len(plain) > MOST_CHARACTERS:
        sentence = f"The name is {len(plain)} characters long: shorten it to at most {MOST_CHARACTERS}."
        raise InvalidRequest([Problem("preset", sentence)])
    if not plain.isprintable():
        raise InvalidRequest([Problem("preset", "The name holds characters that cannot be shown: type it again.")])
    return plain


def _taken(name: str) -> InvalidRequest:
    return InvalidRequest([Problem("preset", f'There is a preset "{name}" already: choose another name.')])


def _damaged(name: str) -> StudioError:
    sentence = f'The presets in "{name}" cannot be read: the file is damaged.'
    return StudioError(sentence, hint="Mend it, or move it away.")
