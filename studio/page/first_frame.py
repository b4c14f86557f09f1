"""The picture a clip begins with: one large picture, the clip's frame drawn on it, and where that frame lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw

from engines.errors import MediaError
from engines.media.pictures import crop_to_cover, open_picture
from studio.page.plumbing import HIDDEN
from studio.page.slots import figure, sides
from studio.page.uploads import received, served

_PREVIEW_SIDE = 420
_MIDDLE = 50


def render(elem_id: str, *, label: str, help_: str, reference: Any, frame: tuple[int, int]) -> FirstFrame:
    """Draw the picture, holding `reference`; `frame` is width and height of the clip."""
    path, position = _values(reference)
    gr.HTML(f"<h3>{escape(label)}</h3><p>{escape(help_)}</p>", elem_classes="section")
    with gr.Row(elem_classes="first-frame", elem_id=elem_id):
        with gr.Column(scale=1, min_width=200):
            image = gr.Image(
                value=path,
                label=label,
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                placeholder="Drop, paste or take a picture",
                buttons=[],
                height=240,
                interactive=True,
                elem_id=f"{elem_id}-1",
            )
            last = gr.Button("Use the last frame of the newest clip", size="sm", elem_id=f"{elem_id}-last")
        with gr.Column(scale=1, min_width=200):
            shown = crop_view(path, position, width=frame[0], height=frame[1], as_published=False)
            view = gr.HTML(shown, elem_classes="model-view crop-view")
            slider = gr.Slider(
                0, 100, value=position, step=1, label="Frame position (%)", elem_id=f"{elem_id}-position",
                interactive=True, visible='class="movable"' in shown,
            )  # fmt: skip
    return FirstFrame(image, slider, view, last)


class FirstFrame(list[Any]):
    """The value components, picture and position, with what else belongs to them."""

    def __init__(self, image: Any, position: Any, view: Any, last: Any) -> None:
        super().__init__([image, position])
        self.images, self.position, self.view, self.last = [image], position, view, last

    def wire(self, framing: Sequence[Any]) -> None:
        """Previewing of the crop. `framing`: the size, and whether the picture is prepared as published."""
        (image,) = self.images
        gr.on(
            [image.change, self.position.change, *(part.change for part in framing)],
            look,
            [image, self.position, *framing],
            [self.view, self.position],
            preprocess=False,
            trigger_mode="always_last",
            **HIDDEN,
        )
        image.input(lambda: _MIDDLE, None, self.position, **HIDDEN)

    def take(self, path: str, raw: Sequence[Any]) -> list[Any]:
        """What the components should hold so that the clip begins with this picture."""
        return [path, _MIDDLE]


def read(raw: Sequence[Any]) -> dict[str, Any] | None:
    """The reference that the components hold, read unprocessed; None without a picture."""
    path = received(raw[0])
    return None if path is None else {"path": path, "position": _share(raw[1])}


def show(reference: Any) -> list[Any]:
    """What the components should hold for a reference."""
    path, position = _values(reference)
    there = path is not None and Path(path).is_file()
    return [served(path) if path and there else None, position if there else _MIDDLE]


def crop_view(path: str | None, position: float, *, width: int, height: int, as_published: bool) -> str:
    """The picture with what the clip does not show darkened, or the sentence why it cannot be used.

    `position` is in percent. The text says "movable" to the page where the frame could lie elsewhere.
    """
    if path is None:
        return ""
    try:
        picture = open_picture(Path(path), as_published=as_published)
    except MediaError as error:
        return f'<p class="problem" role="alert">{escape(error.message)}</p>'
    crop = crop_to_cover(picture.size, width=width, height=height, position=position / 100)
    cut = 1 - (width * height) / (crop.width * crop.height)
    scale = _PREVIEW_SIDE / max(crop.width, crop.height)
    shown = picture.resize([max(1, round(side * scale)) for side in (crop.width, crop.height)])
    box = [round(side * scale) for side in (crop.left, crop.top, crop.left + width, crop.top + height)]
    seen = Image.blend(shown, Image.new("RGB", shown.size, "black"), 0.62)
    seen.paste(shown.crop(tuple(box)), tuple(box[:2]))
    movable = crop.width > width or crop.height > height
    if movable:
        ImageDraw.Draw(seen).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="white", width=2)
    caption = "The clip begins with the bright part" if round(100 * cut) else "The clip begins with the whole picture"
    caption += f"; {100 * cut:.0f} % of the picture is cut off, nothing is stretched." if round(100 * cut) else "."
    if picture.width < crop.width / 1.5:
        caption += f" It is enlarged from {picture.width}×{picture.height}, so it will look soft."
    alt = "The picture with the frame of the clip on it"
    mark = "movable" if movable else "whole"
    return f'<div class="{mark}">{figure(seen, alt=alt, caption=caption)}</div>'


def look(image: Any, position: Any, size: Any, as_published: Any = False) -> list[Any]:
    """What the picture shows beside itself. Outputs: the view, the slider of its position."""
    frame = sides(size)
    if frame is None:
        return [gr.skip(), gr.skip()]
    shown = crop_view(received(image), 100 * _share(position), **frame, as_published=bool(as_published))
    return [shown, gr.update(visible='class="movable"' in shown)]


def _share(percent: Any) -> float:
    """0..1 from the slider, whatever a client sends."""
    known = isinstance(percent, int | float) and 0 <= percent <= 100
    return percent / 100 if known else 0.5


def _values(reference: Any) -> tuple[str | None, float]:
    """Path and position in percent of a reference, as a mapping or an object, or of none."""
    if reference is None:
        return None, _MIDDLE
    values = reference if isinstance(reference, Mapping) else reference.model_dump()
    return str(values["path"]), round(100 * values.get("position", 0.5))
