"""Files that people give: what each is to its engine, and which of its parts the engine obeys. Declared once.

A field made with `media(...)` is drawn on the page, read from the command line and the API, checked and described by
what its declaration says. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from engines.media import brush
from engines.media.framing import Setting
from engines.request import Declared, Group, Request, control, parameter

Kind = Literal["subject", "first frame", "mask", "clip", "earlier job", "adapter", "sound", "upscaler"]
# (width and height of a picture, those asked for) -> those of the clip.
Shape = Callable[[tuple[int, int], tuple[int, int]], tuple[int, int]]
PICTURES: tuple[Kind, ...] = ("subject", "first frame", "mask")


class _Given(BaseModel):
    """A file on this machine, and how it is to be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path


class Reference(_Given):
    """One picture."""

    keep_background: bool = parameter(
        True,
        label="Keep background",
        help="Whether the background belongs to the picture; without it, the subject is cut out and set on white.",
        group="picture",
    )
    position: float = parameter(
        0.5,
        label="Place of the frame",
        help="Where the clip's frame lies on the side that is cut: least is left or top, most is right or bottom.",
        group="picture",
        minimum=0,
        maximum=1,
        step=0.01,
    )
    brush: str = parameter(
        "",
        label="Brush",
        help="Strokes that mend the cut-out, all in percent: +3 40,10 42,12; -8 90,90 adds and takes away.",
        group="picture",
        max_length=brush.MAX_CHARACTERS,
    )


class GivenClip(_Given):
    """One video."""

    moment: float = parameter(
        1.0,
        label="Part of the clip",
        help="Which of its frames are used, where there are more: those at its beginning, or those at its end.",
        group="picture",
        minimum=0,
        maximum=1,
        step=0.01,
    )
    frames: int = parameter(
        45,
        label="Frames used",
        help="How many of its frames the engine goes on from, at most: 1, 5, 9 and so on.",
        group="picture",
        minimum=1,
        maximum=45,
        step=4,
    )


class Adapter(_Given):
    """A file that changes a network's weights, such as a LoRA, and over which share of the steps it does."""

    strength: float = parameter(
        1.0,
        label="Strength",
        help="How much it changes: 0 nothing, 1 as it was trained.",
        group="quality",
        minimum=-2,
        maximum=2,
        step=0.05,
    )
    begin: float = parameter(
        0.0,
        label="From",
        help="From which share of the steps on it counts: 0 the first step.",
        group="quality",
        minimum=0,
        maximum=1,
        step=0.01,
    )
    end: float = parameter(
        1.0,
        label="To",
        help="Up to which share of the steps it counts: 1 the last step.",
        group="quality",
        minimum=0,
        maximum=1,
        step=0.01,
    )


class SoundFile(_Given):
    """One recording, or the sound of a video."""


class UpscalerFile(_Given):
    """The weights of a network that enlarges pictures."""


# What holds one file of a kind. A file beside an earlier clip has no parts.
TYPES: dict[Kind, type] = {
    "subject": Reference,
    "first frame": Reference,
    "mask": Reference,
    "clip": GivenClip,
    "earlier job": Path,
    "adapter": Adapter,
    "sound": SoundFile,
    "upscaler": UpscalerFile,
}


@dataclass(frozen=True)
class Media:
    """What a field of files declares.

    Attributes:
        kind: what a file is to the engine: a "subject" set on the clip's canvas, the "first frame" it begins with, a
            "mask", a "clip" to go on from, the file beside the clip of an "earlier job", an "adapter",
            the "sound" of a clip, the weights of an "upscaler".
        parts: what the engine obeys of a file besides its path, by name: see the classes above.
        most: files the field takes; a field of one holds it or None, any other a tuple.
        needed: the sentence for a request without one; "" where it may be left out.
        suffix: of an "earlier job": how the name of the file beside its clip ends.
        as_published: the field that switches to the published preparation of pictures, "" if there is none.
        setting: how a "subject" is set on the clip's canvas: see media.framing.as_seen.
        start: what a clip starts from with this file, in words, "a picture"; a request gives one of such fields.
        shape: of a "first frame" whose shape the clip keeps: (its size, the size asked for) -> the clip's; None for one
            that is cut to the size asked for.
    """

    kind: Kind
    parts: tuple[str, ...] = ()
    most: int = 1
    needed: str = ""
    suffix: str = ""
    as_published: str = ""
    setting: Setting = "fitted"
    start: str = ""
    shape: Shape | None = None

    @property
    def is_picture(self) -> bool:
        """Whether its files are pictures."""
        return self.kind in PICTURES

    def part_fields(self) -> dict[str, FieldInfo]:
        """The declaration of every part, by name."""
        return {name: TYPES[self.kind].model_fields[name] for name in self.parts}


def media(
    kind: Kind,
    *,
    label: str,
    help: str,
    parts: tuple[str, ...] = (),
    most: int = 1,
    needed: str = "",
    suffix: str = "",
    as_published: str = "",
    setting: Setting = "fitted",
    start: str = "",
    shape: Shape | None = None,
    group: Group = "picture",
    advanced: bool = False,
) -> Any:
    """A request field of files: `x: Reference | None = media(...)`, and with `most` above 1 `tuple[Reference, ...]`.

    The arguments are those of `Media` and `parameter`.
    """
    declared = Media(kind, parts, most, needed, suffix, as_published, setting, start, shape)
    declared.part_fields()  # a part that its kind does not have is a mistake of the declaration
    return Field(
        None if most == 1 else (),
        title=label,
        description=help if most == 1 else f"{help} At most {most}.",
        max_length=None if most == 1 else most,
        json_schema_extra={"group": group, "advanced": advanced, "media": declared},  # type: ignore[dict-item]
    )


def media_of(info: FieldInfo) -> Media | None:
    """What a field declares of its files; None for a field that holds none."""
    found = control(info).get("media")
    return found if isinstance(found, Media) else None


def media_fields(request_type: type[Declared], *kinds: Kind) -> dict[str, Media]:
    """The fields that hold files (of these kinds), by name, in the order of their declaration."""
    declared = {name: media_of(info) for name, info in request_type.model_fields.items()}
    return {name: found for name, found in declared.items() if found and (not kinds or found.kind in kinds)}


def starts(request_type: type[Declared]) -> dict[str, Media]:
    """The fields of which a request gives one, since a clip starts from one thing; none where there is no choice."""
    found = {name: declared for name, declared in media_fields(request_type).items() if declared.start}
    return found if len(found) > 1 else {}


def files(request: Declared) -> Iterator[tuple[str, Media, Any]]:
    """Every file of a request with its field: a Reference, GivenClip, Adapter, or the path of an earlier job's file."""
    for name, declared in media_fields(type(request)).items():
        value = getattr(request, name)
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None:
                yield name, declared, item


def entries(value: Any) -> list[Any]:
    """The files in a field's value, as it stands in a request or in JSON: one, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def with_files(
    request_type: type[Declared],
    values: Mapping[str, Any],
    change: Callable[[str, Media, Any], Any],
    *,
    leave: Collection[Kind] = ("earlier job",),
) -> dict[str, Any]:
    """`values` with every entry of the fields that hold files replaced by `change(field, its declaration, entry)`.

    Args:
        leave: kinds whose fields stay as they are.
    """
    found = dict(values)
    for name, declared in media_fields(request_type).items():
        if declared.kind not in leave and found.get(name):
            made = [change(name, declared, entry) for entry in entries(found[name])]
            found[name] = made if declared.most > 1 else made[0]
    return found


def with_parts(request_type: type[Declared], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with entries such as "picture.position" or "references.2.keep_background" put where they belong.

    A name without a number is of every file of its field. What belongs to no file stays, for validation to refuse.
    """
    declared = media_fields(request_type)
    plain = dict(values)
    for name in values:
        field, dot, place = name.partition(".") if isinstance(name, str) else ("", "", "")
        if not dot or field not in declared:
            continue
        number, _, part = place.rpartition(".")
        if part == "path":  # files come through their own doors
            continue
        held = [dict(entry) if isinstance(entry, Mapping) else entry for entry in entries(plain.get(field))]
        chosen = [entry for index, entry in enumerate(held, start=1) if number in ("", str(index))]
        if not chosen or not all(isinstance(entry, dict) for entry in chosen):
            continue
        for entry in chosen:
            entry[part] = values[name]
        plain[field] = held[0] if declared[field].most == 1 else held
        del plain[name]
    return plain


MAX_ADAPTERS = 8


class AdaptableRequest(Request):
    """What every engine whose network takes adapters is asked with."""

    adapters: tuple[Adapter, ...] = media(
        "adapter",
        label="Adapters",
        help=(
            "LoRA files that change the model: a style, a subject, fewer steps. Several add up; "
            "a file may be given twice, to count differently in other steps."
        ),
        parts=("strength", "begin", "end"),
        most=MAX_ADAPTERS,
        group="quality",
        advanced=True,
    )
