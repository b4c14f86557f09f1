"""Reference pictures on the page: numbered slots to fill, empty and reorder, each showing what the model will see.

What is cut out of a picture is mended with a brush, in a window that mend.js opens; its strokes are a text of the slot.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
from gradio.components import Component
from PIL import Image

from engines.errors import MediaError
from engines.inputs import Media, Reference
from engines.media.framing import WHITE, Setting, as_seen, silhouette
from engines.media.pictures import open_picture
from engines.types import Size
from studio.page import markup
from studio.page.plumbing import HIDDEN, PRIVATE, script
from studio.page.uploads import received, served

_PREVIEW_SIDE = 192
_MOST_SIDE = 2048  # of a canvas that is drawn here; no model makes clips as large
_MEND_SIDE = 640  # of the picture in the window where its cut-out is mended
KEEP, BRUSH = "keep_background", "brush"
# What a slot holds besides its picture, in the order of its components, and what that is without a picture.
_PARTS: dict[str, Any] = {name: Reference.model_fields[name].get_default() for name in (KEEP, BRUSH)}
_COUNT = 1 + len(_PARTS)


def render(
    elem_id: str,
    declared: Media,
    *,
    label: str,
    help_: str,
    references: Sequence[Any],
    canvas: tuple[int, int],
) -> Board:
    """Draw the slots, holding `references`; `canvas` is width and height of the clip.

    A slot can change the background and the strokes that mend the cut, where the field declares these parts.
    """
    drawn = []
    gr.HTML(markup.section(label, help_), elem_classes="section")
    with gr.Row(elem_classes="slots", elem_id=elem_id):
        for index in range(declared.most):
            reference = _reference(references[index]) if index < len(references) else None
            drawn.append(_slot(f"{elem_id}-{index + 1}", index + 1, reference, declared, canvas=canvas))
    return Board(tuple(drawn), declared)


def _slot(
    elem_id: str, number: int, reference: Mapping[str, Any] | None, declared: Media, *, canvas: tuple[int, int]
) -> Slot:
    """Draw one slot, holding `reference`."""
    held = reference or {"path": None, **_PARTS}
    path, keep = held["path"], held[KEEP]
    with gr.Column(min_width=120, elem_classes="slot"):
        image = gr.Image(
            value=path,
            label=str(number),
            type="filepath",
            image_mode=None,
            sources=["upload", "webcam", "clipboard"],
            placeholder="Drop a picture",
            buttons=[],
            height=128,
            interactive=True,
            elem_id=elem_id,
        )
        seen = preview(
            path, keep, declared.setting, width=canvas[0], height=canvas[1], as_published=False, brush=held[BRUSH]
        )
        view = gr.HTML(seen, elem_classes="model-view")
        box = gr.Checkbox(
            value=keep,
            label=Reference.model_fields[KEEP].title,
            container=False,
            visible=KEEP in declared.parts and path is not None,
            elem_id=f"{elem_id}-keep",
            elem_classes="keep",
        )
        # Hidden by the style: mend.js writes into it.
        brush = gr.Textbox(
            held[BRUSH], show_label=False, container=False, elem_id=f"{elem_id}-brush", elem_classes="brush"
        )
        mend = gr.Button(
            "Mend the cut-out", size="sm", min_width=20, elem_classes="mend", elem_id=f"{elem_id}-mend",
            visible=_mendable(declared, path, keep),
        )  # fmt: skip
        with gr.Row(elem_classes="slot-buttons"):
            left, right = (
                gr.Button(f"Move {word}", size="sm", min_width=20, visible=path is not None, elem_classes=word)
                for word in ("left", "right")
            )
    return Slot(image, box, brush, view, mend, left, right)


@dataclass(frozen=True)
class Slot:
    """One numbered place for a picture, and the buttons that mend its cut-out and move it; its own ✕ empties it."""

    image: gr.Image
    keep: gr.Checkbox
    brush: gr.Textbox
    view: gr.HTML
    mend: gr.Button
    left: gr.Button
    right: gr.Button


@dataclass(frozen=True)
class Board:
    """The slots of a field.

    Attributes:
        declared: what the field declares: which parts can be changed, how the model sees its pictures.
    """

    slots: tuple[Slot, ...]
    declared: Media
    last: ClassVar[None] = None

    @property
    def images(self) -> list[gr.Image]:
        """The pictures themselves."""
        return [slot.image for slot in self.slots]

    @property
    def components(self) -> list[Component]:
        """What holds the field's value, slot by slot: picture, keep-background, strokes of the brush."""
        return [part for slot in self.slots for part in (slot.image, slot.keep, slot.brush)]

    def wire(self, framing: Sequence[Component]) -> None:
        """Moving and previewing. `framing`: the size, and whether pictures are prepared as published."""
        held = self.components
        for index, slot in enumerate(self.slots):
            gr.on(
                [part.change for part in (slot.image, slot.keep, slot.brush, *framing)],
                partial(look, self.declared),
                [slot.image, slot.keep, slot.brush, *framing],
                [slot.view, slot.left, slot.right, slot.keep, slot.mend],
                preprocess=False,
                **HIDDEN,
            )
            slot.left.click(_move(index, -1), held, held, preprocess=False, **HIDDEN)
            slot.right.click(_move(index, +1), held, held, preprocess=False, **HIDDEN)
            # Strokes belong to the picture that they were painted on.
            slot.image.input(None, None, slot.brush, js=script("constant", ""), **PRIVATE)

    def take(self, path: str, raw: Sequence[Any]) -> list[Any] | None:
        """What the slots should hold so that the first empty one has this picture too; None if all are full.

        `raw` is what they hold now, unprocessed.
        """
        empty = [index for index in range(0, len(raw), _COUNT) if not received(raw[index])]
        if not empty:
            return None
        taken = {empty[0]: path, empty[0] + _COUNT - 1: _PARTS[BRUSH]}
        return [taken.get(index, gr.skip()) for index in range(len(raw))]


def read(raw: Sequence[Any], declared: Media) -> list[dict[str, Any]]:
    """References from what the slots hold, empty slots left out. Slots are read unprocessed: see `received`."""
    given = []
    for place in range(0, len(raw), _COUNT):
        image, keep, brush = raw[place : place + _COUNT]
        if path := received(image):
            # Strokes wait where the background is kept: they count when it is let go again.
            one = {"path": path, KEEP: bool(keep), BRUSH: str(brush or "") if not keep else _PARTS[BRUSH]}
            given.append({name: value for name, value in one.items() if name == "path" or name in declared.parts})
    return given


def show(references: Sequence[Any], declared: Media) -> list[Any]:
    """What the slots should hold for these references."""
    shown: list[Any] = []
    for index in range(declared.most):
        reference = _reference(references[index]) if index < len(references) else None
        there = reference is not None and Path(reference["path"]).is_file()
        held = reference if there and reference is not None else {"path": None, **_PARTS}
        shown += [served(held["path"]) if there else None, *(held[name] for name in _PARTS)]
    return shown


def preview(
    path: str | None,
    keep_background: bool,
    setting: Setting = "fitted",
    *,
    width: int,
    height: int,
    as_published: bool,
    brush: str = "",
) -> str:
    """The picture as the model will see it, or the sentence why it cannot be used; and what mend.js paints on."""
    if path is None:
        return ""
    cut = not keep_background
    try:
        picture = open_picture(Path(path), as_published=as_published)
        canvas, found = as_seen(picture, setting, cut=cut, width=width, height=height, brush=brush)
        below = markup.below_the_brush(_below_the_brush(picture, brush), brush) if cut else ""
    except (MediaError, ValueError) as error:
        return markup.lines([markup.Line(str(error), "problem")])
    canvas.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    note = "The model sees" if found else "No background found to remove"
    return markup.figure(png(canvas), alt="The picture on the canvas of the clip", caption=note) + below


def _below_the_brush(picture: Image.Image, brush: str) -> bytes:
    """The whole picture as a WebP file, what is cut off faint."""
    mask = silhouette(picture, brush)
    shown = picture.copy()
    shown.thumbnail((_MEND_SIDE, _MEND_SIDE))
    faint = Image.blend(shown, Image.new("RGB", shown.size, WHITE), 0.75)
    seen = shown if mask is None else Image.composite(shown, faint, mask.resize(shown.size))
    data = io.BytesIO()
    seen.save(data, "WEBP", quality=80)
    return data.getvalue()


def _mendable(declared: Media, path: str | None, keep_background: Any) -> bool:
    return BRUSH in declared.parts and path is not None and not keep_background


def look(
    declared: Media, image: Any, keep_background: Any, brush: Any, size: Any, as_published: Any = False
) -> list[Any]:
    """What one slot shows besides its picture. Outputs: preview, its two buttons, keep-background, mending."""
    path, canvas = received(image), sides(size)
    there = path is not None
    shown: Any = gr.skip()
    if canvas is not None:
        shown = preview(
            path, bool(keep_background), declared.setting, **canvas, as_published=bool(as_published),
            brush=str(brush or ""),
        )  # fmt: skip
    mend = gr.update(visible=_mendable(declared, path, keep_background))
    keep = gr.update(visible=there and KEEP in declared.parts)
    return [shown, *(gr.update(visible=there) for _ in range(2)), keep, mend]


def sides(size: Any) -> dict[str, int] | None:
    """Width and height from "96x64", within what can be drawn; None while somebody types."""
    try:
        width, height = Size.parse(size)
    except ValueError:
        return None
    return {"width": min(width, _MOST_SIDE), "height": min(height, _MOST_SIDE)} if width and height else None


def png(picture: Image.Image) -> bytes:
    """A small picture as a file."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def _move(index: int, by: int) -> Any:
    """An event that lets two neighbouring slots change places. Takes and gives all slots."""

    def move(*raw: Any) -> list[Any]:
        held = [[received(raw[place]), *raw[place + 1 : place + _COUNT]] for place in range(0, len(raw), _COUNT)]
        other = index + by
        if 0 <= other < len(held):
            held[index], held[other] = held[other], held[index]
        return [value for slot in held for value in slot]

    return move


def _reference(value: Any) -> dict[str, Any]:
    """A reference as a mapping, whether it is one or an object."""
    values = value if isinstance(value, Mapping) else value.model_dump()
    return {"path": str(values["path"])} | {name: values.get(name, default) for name, default in _PARTS.items()}
