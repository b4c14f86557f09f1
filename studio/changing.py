"""Settings changed on the page: checked as at a start, written to the settings file, told to those who ask at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.errors import InvalidRequest, Problem, StudioError
from engines.wording import both, given, printable
from studio import settings_file, settings_table
from studio.jobs.worker_process import require_devices
from studio.paths import absolute
from studio.service import Studio
from studio.settings import SOURCES, BadSetting, Given, Settings, Source, check_computing, check_models_folder, in_file

_writing = threading.Lock()
_WHEN = {
    "now": "from the next clip on",
    "reload": "once the page is loaded again",
    "restart": "once Kinora is started again",
}


@dataclass(frozen=True)
class Choice:
    """A setting that the page may change.

    Attributes:
        value: what the file says, as text, or a switch as bool; where it says nothing the default, "" of a text.
        origin: the name of the file, or that it is the default.
        fixed_by: the flag or variable that goes before the file, and then holds; "" if there is none.
        later: that value is not what holds now: it does from the next start on.
    """

    source: Source
    value: str | bool
    origin: str = ""
    fixed_by: str = ""
    later: bool = False


def place(settings: Settings) -> Path:
    """The settings file, also before there is one."""
    return settings.config or absolute(settings_file.NAME)


def choices(settings: Settings) -> list[Choice]:
    """What may be changed on the page, with what the file says now.

    Strangers change nothing, and folders only who sits at this machine.

    Raises:
        BadSetting: the file cannot be used as it is.
    """
    if settings.public:
        return []
    file = place(settings)
    known = in_file(file) if settings.config is not None or file.exists() else {}
    possible = [source for source in SOURCES if source.page and (source.read is not Path or settings.owned)]
    return [_choice(source, settings, known) for source in possible]


def _choice(source: Source, settings: Settings, known: Mapping[str, Given]) -> Choice:
    origin = settings.origins.get(source.setting, "")
    if origin in (source.flag, *source.variables) and origin:
        return Choice(source, _shown(source, getattr(settings, source.setting)), fixed_by=origin)
    written = known.get(source.setting)
    value = written.value if written is not None else None
    return Choice(
        source,
        _shown(source, value),
        origin=written.origin if written is not None else settings_table.DEFAULT,
        later=source.page == "restart" and _differs(source, settings, value),
    )


def change(studio: Studio, values: Mapping[str, Any]) -> list[str]:
    """Write what is new of `values`, setting -> text or switch, into the settings file; returns what is to be said.

    All of it is written, or nothing.

    Raises:
        InvalidRequest: with every value that a studio could not be started with.
        StudioError: the file cannot be used or written, or nothing may be changed here.
    """
    settings = studio.settings
    with _writing:
        possible = {choice.source.setting: choice for choice in choices(settings) if not choice.fixed_by}
        if not possible:
            raise StudioError("Strangers share this studio: its settings cannot be changed here.")
        new = {name: values[name] for name in values if name in possible and values[name] != possible[name].value}
        read = _read(settings, {name: (possible[name].source, value) for name, value in new.items()})
        if not read:
            return ["Nothing was changed."]
        sources = {name: possible[name].source for name in read}
        try:
            settings_file.change(
                place(settings), {name: _written(sources[name], new[name], read[name]) for name in read}
            )
        except ValueError as error:
            raise BadSetting(str(error)) from None
    if "memory_gb" in read:
        studio.executor.allow(read["memory_gb"])
    if "metadata" in read:
        studio.executor.describe(read["metadata"])
    if "language" in read:
        studio.language.setting = read["language"]
    said = [f'Saved in "{printable(place(settings).name)}".']
    for counts, when in _WHEN.items():
        if titles := [source.title for source in sources.values() if source.page == counts]:
            said.append(f"{both(titles)}: {when}.")
    return said


def default(source: Source) -> Any:
    """What a setting is where nobody says anything."""
    return {"memory_gb": {}}.get(source.setting, getattr(Settings, source.setting, None))


def _read(settings: Settings, given_: Mapping[str, tuple[Source, Any]]) -> dict[str, Any]:
    """The values as a start would read them."""
    read: dict[str, Any] = {}
    problems = []
    for name, (source, value) in given_.items():
        try:
            read[name] = _value(settings, source, value)
        except ValueError as error:
            problems.append(Problem(name, f"{source.title} must be {error}; you gave {given(value)}."))
        except StudioError as error:
            problems.append(Problem(name, f"{source.title}: {error}"))
    if problems:
        raise InvalidRequest(problems)
    return read


def _value(settings: Settings, source: Source, value: Any) -> Any:
    if isinstance(default(source), bool):
        if not isinstance(value, bool):
            raise ValueError("on or off")
        return value
    if not isinstance(value, str):
        raise ValueError("a text")
    text = value.strip()
    if not text:
        return default(source)
    if source.read is Path:
        text = str(absolute(text) if text.startswith("~") else place(settings).parent / text)
    found = source.read(text)
    trial = replace(settings, **{source.setting: found})
    match source.setting:
        case "models":
            check_models_folder(trial)
        case "attention" | "precision" | "compile":
            check_computing(trial)
        case "devices":
            require_devices(found)
        case "outputs" | "adapters" if found.exists() and not found.is_dir():
            raise StudioError(f'"{printable(found.name)}" is a file, not a folder.')
    return found


def _written(source: Source, given_: Any, read: Any) -> Any:
    """What goes into the file, None for the default; folders as they were written."""
    if read == default(source):
        return None
    return given_.strip() if source.read is Path else settings_file.as_written(read)


def _shown(source: Source, value: Any) -> str | bool:
    if isinstance(default(source), bool):
        return default(source) if value is None else value
    text = settings_table.text(value)
    return text or (source.default if source.choices else "")


def _differs(source: Source, settings: Settings, written: Any) -> bool:
    """Whether the next start would have another value than this one."""
    wanted = default(source) if written is None else written
    held = getattr(settings, source.setting)
    if source.read is Path:
        return (Path(wanted).resolve() if wanted is not None else None) != held
    return bool(wanted != held)
