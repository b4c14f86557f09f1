"""The parts of a file on the page: one component each, drawn from the part's declaration."""

from __future__ import annotations

from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from engines.inputs import Media
from engines.request import bounds, control


def render(declared: Media, values: dict[str, Any], *, elem_id: str) -> dict[str, Any]:
    """Draw the parts that a field declares, holding `values`; their components by name."""
    return {name: _component(info, values[name], f"{elem_id}-{name}") for name, info in declared.part_fields().items()}


def shown(info: FieldInfo, value: Any) -> Any:
    """What the component of a part holds for `value`: shares are shown in percent."""
    return round(100 * value) if is_share(info) else value


def value_of(info: FieldInfo, held: Any) -> Any:
    """The value that a component holds, whatever a client sends: nonsense is the part's default."""
    default = info.get_default()
    if isinstance(default, bool):
        return bool(held)
    value = held / 100 if is_share(info) and _is_number(held) else held
    low, high = bounds(info)
    inside = _is_number(value) and (low is None or value >= low) and (high is None or value <= high)
    return value if inside else default


def _component(info: FieldInfo, value: Any, elem_id: str) -> Any:
    common = {"value": shown(info, value), "elem_id": elem_id, "interactive": True}
    if isinstance(info.get_default(), bool):
        return gr.Checkbox(label=info.title, container=False, elem_classes="keep", **common)
    if is_share(info):
        return gr.Slider(0, 100, step=1, label=f"{info.title} (%)", info=info.description, **common)
    low, high = bounds(info)
    return gr.Slider(low, high, step=control(info)["step"], label=info.title, **common)


def is_share(info: FieldInfo) -> bool:
    """Whether a part is a share of a whole, which is shown in percent."""
    return bounds(info) == (0, 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
