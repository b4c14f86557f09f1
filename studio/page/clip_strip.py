"""What is used of a given clip: a strip of its frames below the upload, kept as the form stands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from engines.errors import MediaError
from engines.inputs import GivenClip, media_fields
from engines.media.strip import strip
from engines.types import EngineSpec
from studio.page import markup, parts
from studio.page.form import Form
from studio.page.plumbing import HIDDEN
from studio.page.slots import png
from studio.page.uploads import received

_ALT = "Frames of the clip; those that are used are bright, above a line"


def wire(form: Form) -> None:
    """Follow the clip, its parts, and the length and rate of the new one."""
    for control in form.controls:
        if control.strip is None:
            continue
        given = [*control.components, form.component("frames"), form.component("fps")]
        changes = [component.change for component in given]
        seen = partial(look, form.spec, control.names[0])
        gr.on(changes, seen, given, control.strip, preprocess=False, **HIDDEN)


def look(spec: EngineSpec, name: str, file: Any, *raw: Any) -> str:
    """HTML that shows which frames of a clip are used. `raw`: its parts, then length and frame rate of the new clip.

    A clip that cannot be used has its sentence; "" without a clip, and while a number is being typed.
    """
    path = received(file.get("video", file) if isinstance(file, dict) else file)
    declared = media_fields(spec.request_type)[name]
    *held, frames, fps = raw
    longest = max(model.geometry.max_frames for model in spec.models)
    if path is None or spec.excerpt_rules is None or not (_is_number(frames, longest) and _is_number(fps, 1000)):
        return ""
    fields = declared.part_fields()
    values = {part: parts.value_of(info, value) for (part, info), value in zip(fields.items(), held, strict=True)}
    rules = spec.excerpt_rules(GivenClip(path=path, **values), frames=int(frames), fps=int(fps))
    if rules["most"] < 1:
        return ""
    try:
        picture, told = strip(Path(path), **rules)
    except MediaError as error:
        return markup.lines([markup.Line(error.message, "problem")])
    if picture is None:
        return markup.lines([markup.Line(told)])
    return markup.figure(png(picture), alt=_ALT, caption=told)


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= most
