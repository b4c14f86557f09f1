"""Events of an engine's tab. They read the page, submit to the studio and read back; none of them makes a clip."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from engines.errors import InvalidRequest, Problem, StudioError
from engines.types import EngineSpec
from studio import panel, slots
from studio.fields import Control
from studio.served import served
from studio.service import Studio


@dataclass
class Form:
    """The controls of one engine's tab, in the order their components are given to events."""

    spec: EngineSpec
    controls: list[Control] = field(default_factory=list)

    @property
    def components(self) -> list[Any]:
        """Every component that holds a value."""
        return [component for control in self.controls for component in control.components]

    def read(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Request values from what the components hold; raises InvalidRequest."""
        values: dict[str, Any] = {}
        position = 0
        for control in self.controls:
            count = len(control.components)
            values |= control.read(raw[position : position + count])
            position += count
        return values

    def show(self, values: Mapping[str, Any], *, only_model: bool = False) -> list[Any]:
        """What the components should hold for `values`; `only_model` leaves alone what no model decides."""
        model = self.spec.model(values["model"])
        shown: list[Any] = []
        for control in self.controls:
            if only_model and not control.follows_model:
                shown += [gr.skip() for _ in control.components]
            else:
                shown += control.show(values, model)
        return shown

    def component(self, name: str) -> Any:
        """The first component of the control that holds field `name`."""
        return next(control.components[0] for control in self.controls if name in control.names)


def visitor(studio: Studio, browser: Any) -> dict[str, Any]:
    """What this browser remembers, with a name for its owner where strangers share the studio."""
    known = dict(browser) if isinstance(browser, Mapping) else {}
    if not studio.settings.public:
        known["owner"] = ""
    elif not isinstance(known.get("owner"), str) or len(known["owner"]) < 32:
        known["owner"] = secrets.token_hex(16)
    return known


class Panel:
    """The events of one tab's result panel. `outputs` of show and tick: see `render`."""

    def __init__(self, studio: Studio, form: Form) -> None:
        self.studio, self.form, self.spec = studio, form, form.spec

    def generate(self, browser: Any, variations: float, *raw: Any) -> Iterator[list[Any]]:
        """Queue the clip that the form describes and show it waiting.

        Outputs: problems, browser memory, then those of `render`.
        """
        known = visitor(self.studio, browser)
        try:
            values = self.form.read(raw)
            jobs = self.studio.submit(self.spec.name, values, owner=known["owner"], variations=int(variations))
        except InvalidRequest as error:
            gr.Warning(error.problems[0].message, title="Please change this first")
            yield [panel.problems(error.problems), gr.skip(), *self.unchanged()]
            return
        except StudioError as error:
            gr.Warning(str(error), title="Not queued")
            yield [panel.problems([Problem("", str(error))]), gr.skip(), *self.unchanged()]
            return
        known[self.spec.name] = jobs[0].batch
        yield ["", known, *self.render(known, {})]
        for _ in self.studio.executor.attend(jobs):
            yield [gr.skip(), gr.skip(), *self.render(known, {})]

    def load(self, browser: Any) -> list[Any]:
        """Find the clip that this browser, or the studio, is at. Outputs: browser memory, then those of `render`."""
        known = visitor(self.studio, browser)
        batch = str(known.get(self.spec.name, ""))
        active = [job for job in self.studio.store.active(owner=known["owner"]) if job.engine == self.spec.name]
        if active and not any(job.batch == batch for job in active):
            known[self.spec.name] = active[0].batch
        return [known, *self.render(known, {})]

    def tick(self, browser: Any, seen: Any) -> list[Any]:
        """What changed since the last look. Outputs: those of `render`."""
        return self.render(visitor(self.studio, browser), seen or {})

    def cancel(self, browser: Any, seen: Any) -> list[Any]:
        """End the jobs shown. Outputs: those of `render`."""
        known = visitor(self.studio, browser)
        for job in reversed(self.studio.store.batch(str(known.get(self.spec.name, "")))):
            if job.active:
                self.studio.cancel(job.id, owner=known["owner"])
        return self.render(known, seen or {})

    def render(self, known: Mapping[str, Any], seen: Mapping[str, Any]) -> list[Any]:
        """Status, preview, video, download, cancel button, timer, what has been seen; gr.skip() where unchanged."""
        now = panel.view(self.studio, self.spec, str(known.get(self.spec.name, "")), owner=known["owner"])
        clip = now.clip.id if now.clip else ""
        fresh = {"status": now.status, "preview": str(hash(now.preview)), "clip": clip, "active": now.active}
        changed = {name for name, value in fresh.items() if seen.get(name) != value}
        shown: list[Any] = [gr.skip() for _ in range(7)]
        if "status" in changed:
            shown[0] = now.status
        if "preview" in changed:
            shown[1] = gr.update(value=now.preview, visible=bool(now.preview))
        if changed & {"clip", "active"}:
            path = served(now.clip.result.video) if now.clip and now.clip.result else None
            shown[2] = gr.update(value=path, visible=path is not None)
            shown[3] = gr.update(value=path, visible=path is not None)
        if "active" in changed:
            word = "Cancel" if now.active < 2 else f"Cancel all {now.active}"
            shown[4] = gr.update(value=word, visible=now.active > 0)
            shown[5] = gr.Timer(active=now.active > 0)
        if changed:
            shown[6] = fresh
        return shown

    def unchanged(self) -> list[Any]:
        """The outputs of `render` when nothing is to change."""
        return [gr.skip() for _ in range(7)]

    def last_seed(self, browser: Any) -> Any:
        """The seed of the clip made last."""
        known = visitor(self.studio, browser)
        jobs = self.studio.store.batch(str(known.get(self.spec.name, ""))) or self.studio.store.finished(
            owner=known["owner"], limit=1
        )
        return jobs[-1].request["seed"] if jobs else gr.skip()

    def model_chosen(self, model: str) -> list[Any]:
        """The model's own choices and defaults. Outputs: note, then the form's components."""
        if model not in {known.name for known in self.spec.models}:
            return [gr.skip() for _ in range(1 + len(self.form.components))]
        return [self.model_note(model), *self.form.show(self.spec.default_values(model), only_model=True)]

    def model_note(self, model: str) -> str:
        """What a person should know of a model, as text."""
        found = self.studio.availability(self.spec, model)
        return " ".join(part for part in (found.reason or self.spec.model(model).note, found.warning) if part)


def move_slot(index: int, by: int) -> Any:
    """An event that lets two neighbouring slots change places. Takes and gives all slots."""

    def move(*raw: Any) -> list[Any]:
        pairs = [[slots.uploaded(raw[place]), raw[place + 1]] for place in range(0, len(raw), 2)]
        other = index + by
        if 0 <= other < len(pairs):
            pairs[index], pairs[other] = pairs[other], pairs[index]
        return [value for pair in pairs for value in pair]

    return move
