"""Reference pictures on the page: numbered slots to fill, empty and reorder, each showing what the model will see."""

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
from engines.media.framing import Setting, as_seen
from engines.media.pictures import open_picture
from engines.types import Size
from studio.page import markup
from studio.page.plumbing import HIDDEN, PRIVATE, script
from studio.page.uploads import received, served

_PREVIEW_SIDE = 192
_MOST_SIDE = 2048  # of a canvas that is drawn here; no model makes clips as large
KEEP = "keep_background"


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

    The part that a slot can change is the background's, where the field declares it.
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
    path, keep = (reference["path"], reference[KEEP]) if reference else (None, True)
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
        seen = preview(path, keep, declared.setting, width=canvas[0], height=canvas[1], as_published=False)
        view = gr.HTML(seen, elem_classes="model-view")
        box = gr.Checkbox(
            value=keep,
            label=Reference.model_fields[KEEP].title,
            container=False,
            visible=KEEP in declared.parts and path is not None,
            elem_id=f"{elem_id}-keep",
            elem_classes="keep",
        )
        with gr.Row(elem_classes="slot-buttons"):
            left, right, clear = (
                gr.Button(word, size="sm", min_width=20, visible=path is not None, elem_classes=word.lower())
                for word in ("Left", "Right", "Clear")
            )
    return Slot(image, box, view, left, right, clear)


@dataclass(frozen=True)
class Slot:
    """One numbered place for a picture, and the buttons that move it left and right and empty it."""

    image: gr.Image
    keep: gr.Checkbox
    view: gr.HTML
    left: gr.Button
    right: gr.Button
    clear: gr.Button


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
        """What holds the field's value, slot by slot: picture, keep-background."""
        return [part for slot in self.slots for part in (slot.image, slot.keep)]

    def wire(self, framing: Sequence[Component]) -> None:
        """Moving, emptying and previewing. `framing`: the size, and whether pictures are prepared as published."""
        held = self.components
        for index, slot in enumerate(self.slots):
            gr.on(
                [part.change for part in (slot.image, slot.keep, *framing)],
                partial(look, self.declared),
                [slot.image, slot.keep, *framing],
                [slot.view, slot.left, slot.right, slot.clear, slot.keep],
                preprocess=False,
                **HIDDEN,
            )
            slot.left.click(_move(index, -1), held, held, preprocess=False, **HIDDEN)
            slot.right.click(_move(index, +1), held, held, preprocess=False, **HIDDEN)
            slot.clear.click(None, None, slot.image, js=script("constant", None), **PRIVATE)

    def take(self, path: str, raw: Sequence[Any]) -> list[Any] | None:
        """What the slots should hold so that the first empty one has this picture too; None if all are full.

        `raw` is what they hold now, unprocessed.
        """
        empty = [index for index in range(0, len(raw), 2) if not received(raw[index])]
        if not empty:
            return None
        return [path if index == empty[0] else gr.skip() for index in range(len(raw))]


def read(raw: Sequence[Any], declared: Media) -> list[dict[str, Any]]:
    """References from what the slots hold, empty slots left out. Slots are read unprocessed: see `received`."""
    pairs = zip(raw[0::2], raw[1::2], strict=True)
    given = [{"path": received(image), KEEP: bool(keep)} for image, keep in pairs if received(image)]
    return [{name: value for name, value in one.items() if name == "path" or name in declared.parts} for one in given]


def show(references: Sequence[Any], declared: Media) -> list[Any]:
    """What the slots should hold for these references."""
    shown: list[Any] = []
    for index in range(declared.most):
        reference = _reference(references[index]) if index < len(references) else None
        there = reference is not None and Path(reference["path"]).is_file()
        shown += [served(reference["path"]) if there else None, reference[KEEP] if there else True]
    return shown


def preview(
    path: str | None, keep_background: bool, setting: Setting = "fitted", *, width: int, height: int, as_published: bool
) -> str:
    """The picture as the model will see it, or the sentence why it cannot be used."""
    if path is None:
        return ""
    try:
        picture = open_picture(Path(path), as_published=as_published)
        canvas, found = as_seen(picture, setting, cut=not keep_background, width=width, height=height)
    except MediaError as error:
        return markup.lines([markup.Line(error.message, "problem")])
    canvas.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    note = "The model sees" if found else "No background found to remove"
    return markup.figure(png(canvas), alt="The picture on the canvas of the clip", caption=note)


def look(declared: Media, image: Any, keep_background: Any, size: Any, as_published: Any = False) -> list[Any]:
    """What one slot shows besides its picture. Outputs: preview, its three buttons, keep-background."""
    path, canvas = received(image), sides(size)
    there = path is not None
    shown: Any = gr.skip()
    if canvas is not None:
        shown = preview(path, bool(keep_background), declared.setting, **canvas, as_published=bool(as_published))
    return [shown, *(gr.update(visible=there) for _ in range(3)), gr.update(visible=there and KEEP in declared.parts)]


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
        pairs = [[received(raw[place]), raw[place + 1]] for place in range(0, len(raw), 2)]
        other = index + by
        if 0 <= other < len(pairs):
            pairs[index], pairs[other] = pairs[other], pairs[index]
        return [value for pair in pairs for value in pair]

    return move


def _reference(value: Any) -> dict[str, Any]:
    """A reference as a mapping, whether it is one or an object."""
    values = value if isinstance(value, Mapping) else value.model_dump()
    return {"path": str(values["path"]), KEEP: values.get(KEEP, True)}
