"""A declared field, or two that belong together, as it stands on the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.types import ModelSpec
from studio.page import first_frame, force_tool, slots

Read = Callable[[Sequence[Any]], dict[str, Any]]
Show = Callable[[Mapping[str, Any], ModelSpec], list[Any]]


@dataclass(frozen=True)
class Control:
    """One or two fields of a request on the page.

    Attributes:
        components: what holds its values, in the order that `read` and `show` use.
        follows_model: whether another model brings other choices or another default.
        board: the slots or the one picture, where the field holds pictures.
        newest: the button that takes the clip made last, where the field holds a clip.
        strip: what shows which of its frames are used, where the engine uses some.
        tool: what a force is drawn with.
    """

    names: tuple[str, ...]
    components: list[Component]
    read: Read
    show: Show
    follows_model: bool = True
    board: slots.Board | first_frame.FirstFrame | None = None
    newest: gr.Button | None = None
    strip: gr.HTML | None = None
    tool: force_tool.ForceTool | None = None
