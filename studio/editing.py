"""Edits of finished clips as jobs like any other: what is asked is checked, kept and queued; the clip stays as it is.

A job of an edit holds, beside what is asked, what its clip is about and how large it is, as every other job does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.editing import spec as edits
from engines.editing.request import EditRequest
from engines.editing.spec import EditSpec
from engines.errors import MediaError
from engines.inputs import media_fields
from engines.media import metadata
from engines.media.clips import look_at
from engines.media.output import check_room, media_error
from studio import continuing, kept_files
from studio.jobs.store import Job

if TYPE_CHECKING:
    from studio.service import Studio

UPSCALERS = "upscalers"
"""The folder in the models folder where the page looks for networks that enlarge."""


def submit(studio: Studio, edit: str, values: Mapping[str, Any], *, owner: str = "", connection: str = "") -> Job:
    """Queue an edit and return at once. A clip is named by the id of its job, which must be this owner's, or is a file.

    Raises:
        InvalidRequest: with every problem; nothing was queued.
        StudioError: the disk is full, or there are too many jobs.
    """
    spec = edits.find(edit)
    studio.check_limits(1, owner=owner, connection=connection)
    asked = prepared(studio, spec, continuing.resolved(studio, spec, values, owner=owner))
    request = about(asked) | asked.model_dump(mode="json")
    parents = continuing.parents(studio, spec, values, owner=owner)
    return studio.queue_values(spec.engine, [request], parents=parents, owner=owner, connection=connection)[0]


def prepared(studio: Studio, spec: EditSpec, values: Mapping[str, Any]) -> EditRequest:
    """The checked request; uploads are kept, clips of the studio's own are named where they are."""
    asked = edits.build(spec, values)
    check_room(studio.settings.outputs)
    try:
        changes = {name: kept_files.kept(item, studio.settings.pictures) for name, item in _given(asked)
                   if not _ours(studio, item.path)}  # fmt: skip
    except OSError as error:
        raise media_error(error) from error
    return asked.model_copy(update=changes)


def about(asked: EditRequest) -> dict[str, Any]:
    """What the clip that is edited is about, and its size."""
    if asked.clip is None:
        return {}
    told = metadata.read(asked.clip.path)
    try:
        facts = look_at(asked.clip.path)
    except MediaError:
        return {}
    fps = round(facts.fps, 3)
    said = {"prompt": told.prompt, "seed": told.seed} if told else {"prompt": asked.clip.path.name, "seed": -1}
    whole = int(fps) if fps == int(fps) else fps
    return said | {"width": facts.width, "height": facts.height, "frames": facts.frames, "fps": whole}


def upscalers(studio: Studio) -> list[Path]:
    """The networks that enlarge in the models folder."""
    folder = (studio.settings.models or Path("models")) / UPSCALERS
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in (".pth", ".safetensors", ".pt")]
    except OSError:
        return []
    return sorted(found)


def _given(asked: EditRequest) -> Iterator[tuple[str, Any]]:
    """The files of an edit that are not its network, which stays where its owner has it."""
    for name in media_fields(type(asked), "clip", "sound"):
        if (item := getattr(asked, name)) is not None:
            yield name, item


def _ours(studio: Studio, path: Path) -> bool:
    """Whether a file lies in the outputs folder itself, where the clips are."""
    return path.parent == studio.settings.outputs
