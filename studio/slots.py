"""Reference pictures on the page: numbered slots to fill, empty and reorder, each showing what the model will see."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from engines.errors import MediaError
from engines.pictures import cut_out, fit_on_canvas, open_picture
from studio.served import received, served

_PREVIEW_SIDE = 192


def render(
    elem_id: str, *, label: str, help_: str, count: int, references: Sequence[Any], canvas: tuple[int, int]
) -> Board:
    """Draw the slots, holding `references`; `canvas` is width and height of the clip."""
    images, keeps, previews, buttons = [], [], [], []
    gr.HTML(f"<h3>{escape(label)}</h3><p>{escape(help_)}</p>", elem_classes="section")
    with gr.Row(elem_classes="slots", elem_id=elem_id):
        for index in range(count):
            reference = _reference(references[index]) if index < len(references) else None
            path, keep = (reference["path"], reference["keep_background"]) if reference else (None, True)
            with gr.Column(min_width=120, elem_classes="slot"):
                image = gr.Image(
                    value=path,
                    label=str(index + 1),
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    placeholder="Drop a picture",
                    buttons=[],
                    height=128,
                    interactive=True,
                    elem_id=f"{elem_id}-{index + 1}",
                )
                seen = preview(path, keep, width=canvas[0], height=canvas[1], as_published=False)
                previews.append(gr.HTML(seen, elem_classes="model-view"))
                keeps.append(
                    gr.Checkbox(
                        value=keep,
                        label="Keep background",
                        container=False,
                        visible=path is not None,
                        elem_id=f"{elem_id}-{index + 1}-keep",
                        elem_classes="keep",
                    )
                )
                images.append(image)
                with gr.Row(elem_classes="slot-buttons"):
                    buttons.append(
                        [
                            gr.Button(
                                word, size="sm", min_width=20, visible=path is not None, elem_classes=word.lower()
                            )
                            for word in ("Left", "Right", "Clear")
                        ]
                    )
    return Board(images, keeps, previews, buttons)


class Board(list[Any]):
    """The value components of the slots, with what else belongs to them."""

    def __init__(self, images: list[Any], keeps: list[Any], previews: list[Any], buttons: list[list[Any]]) -> None:
        super().__init__(part for pair in zip(images, keeps, strict=True) for part in pair)
        self.images, self.keeps, self.previews, self.buttons = images, keeps, previews, buttons


def read(raw: Sequence[Any]) -> list[dict[str, Any]]:
    """References from what the slots hold, empty slots left out. Slots are read unprocessed: see `received`."""
    pairs = zip(raw[0::2], raw[1::2], strict=True)
    return [{"path": received(image), "keep_background": bool(keep)} for image, keep in pairs if received(image)]


def show(references: Sequence[Any], *, count: int) -> list[Any]:
    """What the slots should hold for these references."""
    shown: list[Any] = []
    for index in range(count):
        reference = _reference(references[index]) if index < len(references) else None
        there = reference is not None and Path(reference["path"]).is_file()
        shown += [served(reference["path"]) if there else None, reference["keep_background"] if there else True]
    return shown


def preview(path: str | None, keep_background: bool, *, width: int, height: int, as_published: bool) -> str:
    """The picture as the model will see it, or the sentence why it cannot be used."""
    if path is None:
        return ""
    try:
        picture = open_picture(Path(path), as_published=as_published)
        cut = None if keep_background or as_published else cut_out(picture)
        canvas = fit_on_canvas(cut.image if cut else picture, width=width, height=height)
    except MediaError as error:
        return f'<p class="problem" role="alert">{escape(error.message)}</p>'
    canvas.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    data = io.BytesIO()
    canvas.save(data, "PNG")
    note = "No background found to remove" if cut and not cut.found else "The model sees"
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    alt = "The picture on the canvas of the clip"
    return f'<figure><img src="{source}" alt="{alt}"><figcaption>{note}</figcaption></figure>'


def look(image: Any, keep_background: Any, size: Any, as_published: Any = False) -> list[Any]:
    """What one slot shows besides its picture. Outputs: preview, its three buttons, keep-background."""
    width, _, height = str(size).partition("x")
    path = received(image)
    there = path is not None
    shown = gr.skip()
    if width.isdigit() and height.isdigit():
        sides = {"width": min(int(width), 4096), "height": min(int(height), 4096)}
        shown = preview(path, bool(keep_background), **sides, as_published=bool(as_published))
    return [shown, *(gr.update(visible=there) for _ in range(3)), gr.update(visible=there)]


def _reference(value: Any) -> dict[str, Any]:
    """A reference as a mapping, whether it is one or an object."""
    values = value if isinstance(value, Mapping) else value.model_dump()
    return {"path": str(values["path"]), "keep_background": values.get("keep_background", True)}
