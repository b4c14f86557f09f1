"""What the clip of the result is made of, in a few lines: its words, its pictures and its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.errors import MediaError
from engines.inputs import PICTURES, entries, media_fields
from engines.media.metadata import VIEW_SUFFIX
from engines.media.pictures import open_picture
from engines.types import EngineSpec
from studio import remaking
from studio.jobs.store import Job
from studio.page import markup
from studio.page.slots import png

_SIDE = 80
_MOST_CHARACTERS = 400


def html(spec: EngineSpec, job: Job) -> str:
    """The lines of a finished job of this engine; a picture that is gone is left out."""
    request = dict(job.result.request if job.result else job.request)
    model = {model.name: model.title.partition(" (")[0] for model in spec.models}.get(request["model"], "")
    said = remaking.words(spec, job, most=_MOST_CHARACTERS)
    made_of = markup.made_of(said, pictures(spec, request), made_by=" · ".join(filter(None, (spec.title, model))))
    return made_of + physics(job)


def physics(job: Job) -> str:
    """What the physics of a clip looked like while it was made, in a frame that opens; "" where nothing was kept."""
    views = [Path(name) for name in (job.result.beside if job.result else ()) if name.endswith(VIEW_SUFFIX)]
    if not views or not views[0].is_file():
        return ""
    size = (int(job.request["width"]), int(job.request["height"]))
    return markup.physics(views[0].read_bytes(), size)


def pictures(spec: EngineSpec, request: dict[str, Any]) -> list[bytes]:
    """The pictures that were given, small, as PNG files."""
    found = []
    for name in media_fields(spec.request_type, *PICTURES):
        for entry in entries(request.get(name)):
            try:
                picture = open_picture(Path(entry["path"]), as_published=False)
            except (MediaError, KeyError, TypeError):
                continue
            picture.thumbnail((_SIDE, _SIDE))
            found.append(png(picture))
    return found
