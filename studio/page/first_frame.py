"""The picture a clip begins with: one large picture, the clip's frame drawn on it, and where that frame lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image, ImageDraw

from engines.errors import MediaError
from engines.inputs import Media, Shape
from engines.media.framing import crop_to_cover, cut_out
from engines.media.pictures import open_picture
from studio.measures import frame_size
from studio.page import markup, parts
from studio.page.plumbing import HIDDEN
from studio.page.slots import png, sides
from studio.page.uploads import received, served

_PREVIEW_SIDE = 420


def render(
    elem_id: str, declared: Media, *, label: str, help_: str, reference: Any, frame: tuple[int, int]
) -> FirstFrame:
    """Draw the picture, holding `reference`, and its declared parts; `frame` is width and height of the clip."""
    path, values = _values(reference, declared)
    gr.HTML(markup.section(label, help_), elem_classes="section")
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
            words = "Use the last frame of the newest clip"
            last = gr.Button(words, size="sm", visible=False, elem_id=f"{elem_id}-last")
        with gr.Column(scale=1, min_width=200):
            shown = crop_view(path, width=frame[0], height=frame[1], shape=declared.shape, **values)
            view = gr.HTML(shown.html, elem_classes="model-view crop-view")
            drawn = parts.render(declared, values, elem_id=elem_id)
            for name, component in drawn.items():
                component.visible = _offered(name, path, shown)
    return FirstFrame(declared, image, drawn, view, last)


@dataclass(frozen=True)
class FirstFrame:
    """The picture with its declared parts by name, the view of its crop, and the button for the newest clip's frame."""

    declared: Media
    image: gr.Image
    parts: Mapping[str, Component]
    view: gr.HTML
    last: gr.Button

    @property
    def images(self) -> list[gr.Image]:
        """The picture itself."""
        return [self.image]

    @property
    def components(self) -> list[Component]:
        """What holds the field's value: the picture, then its parts."""
        return [self.image, *self.parts.values()]

    def wire(self, framing: Sequence[Component]) -> None:
        """Previewing of the crop. `framing`: the size, and whether the picture is prepared as published."""
        gr.on(
            [self.image.change, *(part.change for part in (*self.parts.values(), *framing))],
            partial(look, self.declared),
            [*self.components, *framing],
            [self.view, *self.parts.values()],
            preprocess=False,
            **HIDDEN,
        )
        if self.parts:
            self.image.input(
                partial(begin, self.declared), [self.image, framing[0]], [*self.parts.values()],
                preprocess=False, **HIDDEN,
            )  # fmt: skip

    def take(self, path: str, raw: Sequence[Any]) -> list[Any]:
        """What the components should hold so that the clip begins with this picture."""
        return [path, *show(None, self.declared)[1:]]


def begin(declared: Media, image: Any, size: Any) -> Any:
    """What the parts hold of a picture that was just given: as declared, but for the place of the frame."""
    values = _values(None, declared)[1]
    path, frame = received(image), sides(size)
    if "position" in values and path is not None and frame is not None:
        with suppress(MediaError):
            values["position"] = start_position(open_picture(Path(path), as_published=False).size, **frame)
    fields = declared.part_fields()
    held = [parts.shown(fields[name], value) for name, value in values.items()]
    return held if len(held) > 1 else held[0]


def start_position(picture: tuple[int, int], *, width: int, height: int) -> float:
    """Where the frame of a clip begins on a picture, 0..1: in the middle, on an upright one at its upper third.

    Portraits have their faces there.
    """
    crop = crop_to_cover(picture, width=width, height=height, position=0.5)
    room = crop.height - height
    if picture[1] <= picture[0] or room <= 0:
        return 0.5
    return round(min(1.0, max(0.0, (crop.height / 3 - height / 2) / room)), 2)


def read(raw: Sequence[Any], declared: Media) -> dict[str, Any] | None:
    """The reference that the components hold, read unprocessed; None without a picture."""
    path = received(raw[0])
    return None if path is None else {"path": path} | _held(declared, raw[1:])


def show(reference: Any, declared: Media) -> list[Any]:
    """What the components should hold for a reference."""
    path, values = _values(reference, declared)
    if path is None or not Path(path).is_file():
        path, values = None, _values(None, declared)[1]
    fields = declared.part_fields()
    return [served(path) if path else None, *(parts.shown(fields[name], value) for name, value in values.items())]


@dataclass(frozen=True)
class CropView:
    """What stands beside the picture, as HTML, and whether the clip's frame could lie elsewhere on it."""

    html: str
    movable: bool = False


def crop_view(
    path: str | None,
    *,
    width: int,
    height: int,
    position: float = 0.5,
    keep_background: bool = True,
    as_published: bool = False,
    shape: Shape | None = None,
) -> CropView:
    """The picture with what the clip does not show darkened, or the sentence why it cannot be used.

    With a `shape`, which the clip keeps, it is what the clip begins with: see engines.inputs.Media.
    """
    if path is None:
        return CropView("")
    try:
        picture = open_picture(Path(path), as_published=as_published)
    except MediaError as error:
        return CropView(markup.lines([markup.Line(error.message, "problem")]))
    found = True
    if not keep_background:
        picture, found = cut_out(picture)
    if shape is not None:
        width, height = shape(picture.size, (width, height))
    crop = crop_to_cover(picture.size, width=width, height=height, position=position)
    cut = 1 - (width * height) / (crop.width * crop.height)
    scale = _PREVIEW_SIDE / max(crop.width, crop.height)
    shown = picture.resize([max(1, round(side * scale)) for side in (crop.width, crop.height)])
    box = [round(side * scale) for side in (crop.left, crop.top, crop.left + width, crop.top + height)]
    if shape is not None:
        caption = f"The clip begins with this picture, and is {frame_size(width, height)}"
        caption += f"; {100 * cut:.0f} % at its edges is cut off." if round(100 * cut) else "."
        return CropView(markup.figure(png(shown.crop(tuple(box))), alt="What the clip begins with", caption=caption))
    seen = Image.blend(shown, Image.new("RGB", shown.size, "black"), 0.62)
    seen.paste(shown.crop(tuple(box)), tuple(box[:2]))
    movable = crop.width > width or crop.height > height
    if movable:
        ImageDraw.Draw(seen).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="white", width=2)
    caption = "The clip begins with the bright part" if round(100 * cut) else "The clip begins with the whole picture"
    caption += f"; {100 * cut:.0f} % of the picture is cut off, nothing is stretched." if round(100 * cut) else "."
    if picture.width < crop.width / 1.5:
        caption += f" It is enlarged from {frame_size(*picture.size)}, so it will look soft."
    if not found:
        caption += " No background was found to remove."
    alt = "The picture with the frame of the clip on it"
    frame = (width / crop.width, height / crop.height) if movable else None
    if movable:
        caption += " Drag the bright part to where it should lie."
    return CropView(markup.figure(png(seen), alt=alt, caption=caption, frame=frame), movable)


def look(declared: Media, image: Any, *raw: Any) -> list[Any]:
    """What the picture shows beside itself. `raw`: its parts, the size, and whether it is prepared as published.

    Outputs: the view, then the parts, each offered where it changes something.
    """
    count = len(declared.parts)
    held, (size, *published) = raw[:count], raw[count:]
    frame, path = sides(size), received(image)
    if frame is None:
        return [gr.skip() for _ in range(1 + count)]
    told: dict[str, Any] = {"as_published": bool(published and published[0]), "shape": declared.shape}
    shown = crop_view(path, **frame, **_held(declared, held), **told)
    return [shown.html, *(gr.update(visible=_offered(name, path, shown)) for name in declared.parts)]


def _offered(part: str, path: str | None, view: CropView) -> bool:
    return view.movable if part == "position" else path is not None


def _held(declared: Media, raw: Sequence[Any]) -> dict[str, Any]:
    """The values of the parts from what their components hold."""
    fields = declared.part_fields()
    return {name: parts.value_of(info, held) for (name, info), held in zip(fields.items(), raw, strict=True)}


def _values(reference: Any, declared: Media) -> tuple[str | None, dict[str, Any]]:
    """Path and declared parts of a reference, as a mapping or an object, or of none."""
    defaults = {name: info.get_default() for name, info in declared.part_fields().items()}
    if reference is None:
        return None, defaults
    values = reference if isinstance(reference, Mapping) else reference.model_dump()
    return str(values["path"]), {name: values.get(name, default) for name, default in defaults.items()}
