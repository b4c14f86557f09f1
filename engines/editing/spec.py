"""The edits by name, and values from anywhere -> a checked request of one. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args

from engines.editing import captions, request
from engines.editing.request import EditRequest
from engines.errors import InvalidRequest, Problem
from engines.inputs import Kind, media_fields
from engines.validation import checked, file_problems
from engines.wording import either, given

PREFIX = "edit/"
"""How the engine of an edit's job begins."""

SUFFIXES = (".mp4", *(f".{name}" for name in get_args(request.Export.model_fields["format"].annotation)))
"""How the names of clips end, made or edited."""

ABOUT = ("prompt", "seed", "width", "height", "frames", "fps")


def _nothing(_: Any) -> list[Problem]:
    return []


@dataclass(frozen=True)
class EditSpec:
    """What the studio knows of an edit.

    Attributes:
        name: as written on the command line ("trim"); its jobs name it with PREFIX.
        implementation: "module:function", imported in the worker: (request, source, session) -> Made.
        check: problems of a request beside its field bounds; cheap.
        needs_device: whether a network works on the device.
    """

    name: str
    title: str
    purpose: str
    request_type: type[EditRequest]
    implementation: str
    check: Callable[[Any], list[Problem]] = _nothing
    needs_device: bool = False

    @property
    def engine(self) -> str:
        """What its jobs say they are made by."""
        return PREFIX + self.name

    @property
    def models(self) -> tuple[()]:
        """An edit has no models of its own."""
        return ()

    def model(self, name: str) -> None:
        """None, as there are none."""

    def field_of(self, *kinds: Kind) -> str | None:
        """The first field that holds files of these kinds."""
        return next(iter(media_fields(self.request_type, *kinds)), None)

    def default_values(self, model: str = "") -> dict[str, Any]:
        """Default of every field."""
        return {name: info.get_default() for name, info in self.request_type.model_fields.items()}

    def suffix(self, asked: EditRequest) -> str:
        """How the name of the file ends that is made."""
        return f".{asked.format}" if isinstance(asked, request.Export) else ".mp4"


def _trim(asked: request.Trim) -> list[Problem]:
    if asked.end and asked.end == asked.start:
        return [Problem("end", f"Nothing lies between {asked.start:g} s and {asked.end:g} s: let the part end later.")]
    if asked.end and asked.end < asked.start:
        return [Problem("end", f"The part ends at {asked.end:g} s, before it begins at {asked.start:g} s: swap them.")]
    return []


def _captions(asked: request.Captions) -> list[Problem]:
    try:
        captions.parse(asked.text)
    except ValueError as error:
        return [Problem("text", str(error))]
    return []


EDITS: dict[str, EditSpec] = {
    spec.name: spec
    for spec in (
        EditSpec("trim", "Trim", "Keep a part of it.", request.Trim, "engines.editing.cutting:trim", _trim),
        EditSpec("join", "Join", "Put another clip behind it.", request.Join, "engines.editing.cutting:join"),
        EditSpec("reverse", "Reverse", "Play it backwards.", request.Reverse, "engines.editing.cutting:reverse"),
        EditSpec("loop", "Loop", "Play it several times.", request.Loop, "engines.editing.cutting:loop"),
        EditSpec("smooth", "Smooth", "Draw frames between its frames, along the motion.", request.Smooth,
                 "engines.editing.flow:smooth"),
        EditSpec("captions", "Captions", "Write words into it.", request.Captions, "engines.editing.captions:burn",
                 _captions),
        EditSpec("sound", "Sound", "Give it an audio track.", request.Soundtrack, "engines.editing.sound:soundtrack"),
        EditSpec("upscale", "Upscale", "Enlarge it with a network that you have.", request.Upscale,
                 "engines.editing.upscaling:upscale", needs_device=True),
        EditSpec("export", "GIF, WebP, AVIF", "Save it as a moving picture.", request.Export,
                 "engines.editing.pictures:export"),
    )
}  # fmt: skip


def find(name: object) -> EditSpec:
    """The edit of this name, with or without PREFIX; raises InvalidRequest."""
    plain = name.removeprefix(PREFIX) if isinstance(name, str) else name
    if not isinstance(plain, str) or plain not in EDITS:
        raise InvalidRequest([Problem("edit", f"There is no edit {given(plain)}: choose {either([*EDITS])}.")])
    return EDITS[plain]


def of_job(engine: str) -> EditSpec | None:
    """The edit that made a job's clip; None of a clip that an engine generated."""
    return EDITS.get(engine.removeprefix(PREFIX)) if engine.startswith(PREFIX) else None


def build(spec: EditSpec, values: Mapping[str, Any]) -> EditRequest:
    """The request that `values` make on top of the defaults; strings are read as the field's type.

    What a clip is about (ABOUT) may stand beside the settings, as it does in a job.

    Raises:
        InvalidRequest: with every problem found.
    """
    fields = spec.request_type.model_fields
    values = {name: value for name, value in values.items() if name in fields or name not in ABOUT}
    asked: Any = checked(spec.request_type, spec.default_values() | values, given=values)
    if problems := [*file_problems(asked, pixels=False), *spec.check(asked)]:
        raise InvalidRequest(problems)
    return asked  # type: ignore[no-any-return]


def implementation(spec: EditSpec) -> Callable[..., Any]:
    """The function behind an edit."""
    module, name = spec.implementation.split(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
