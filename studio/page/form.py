"""The form of one engine's tab: what its controls hold, as request values, and request values as what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.types import EngineSpec
from studio.page.form_control import Control
from studio.page.plumbing import Updates


@dataclass
class Form:
    """The controls of one engine's tab, in the order their components are given to events."""

    spec: EngineSpec
    controls: list[Control] = field(default_factory=list)

    @property
    def components(self) -> list[Component]:
        """Every component that holds a value."""
        return [component for control in self.controls for component in control.components]

    def read(self, raw: Sequence[Any], *, names: set[str] | None = None) -> dict[str, Any]:
        """Request values from what the components hold, only of the controls of `names` if given.

        Raises:
            InvalidRequest: what a control holds cannot be read.
        """
        values: dict[str, Any] = {}
        position = 0
        for control in self.controls:
            count = len(control.components)
            if names is None or not names.isdisjoint(control.names):
                values |= control.read(raw[position : position + count])
            position += count
        return values

    def show(self, values: Mapping[str, Any], *, only_model: bool = False, names: set[str] | None = None) -> Updates:
        """What the components should hold for `values`.

        `only_model` leaves alone what no model decides, `names` everything but the controls of these fields.
        """
        model = self.spec.model(values["model"])
        updates: Updates = {}
        for control in self.controls:
            wanted = names is None or not names.isdisjoint(control.names)
            if wanted and (control.follows_model or not only_model):
                shown = zip(control.components, control.show(values, model), strict=True)
                updates |= {component: value for component, value in shown if value != gr.skip()}
        return updates

    @property
    def picture(self) -> Control | None:
        """The control that holds pictures, None where the engine takes none."""
        return next((control for control in self.controls if control.board is not None), None)

    @property
    def newest(self) -> list[gr.Button]:
        """The buttons for the clip made last: its last frame as a picture, the whole to go on from."""
        boards = [control.board.last for control in self.controls if control.board is not None]
        return [button for button in (*boards, *(control.newest for control in self.controls)) if button is not None]

    def control(self, name: str) -> Control:
        """The control that holds field `name`."""
        return next(control for control in self.controls if name in control.names)

    def component(self, name: str) -> Component:
        """The first component of the control that holds field `name`."""
        return self.control(name).components[0]
