"""One tab of the page for all engines of one title: which of them is shown, and what stays when that changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from engines.errors import InvalidRequest
from engines.inputs import PICTURES, media_fields
from engines.types import EngineSpec, Geometry
from studio.page import tab
from studio.page.form import Form
from studio.page.plumbing import HIDDEN, Updates, changed, page, seen_when
from studio.page.tab import Tab
from studio.service import Studio

# What a person says of a clip whatever makes it, beside pictures that are the same to both engines.
KEPT = ("prompt", "written_prompt", "refined_by", "seed", "width", "height")


@dataclass(frozen=True)
class EngineTab:
    """A tab and its engines.

    Attributes:
        id: what the tab is selected by: the name of its first engine.
        tabs: engine name -> what is drawn for it, in `areas`.
        choice: which engine is shown; None for a tab of one.
        shown: its name, as events know it.
    """

    id: str
    title: str
    tabs: Mapping[str, Tab]
    areas: Mapping[str, gr.Column]
    choice: gr.Radio | None
    shown: gr.State

    @property
    def components(self) -> list[Any]:
        """What changes when another engine is shown, its form aside."""
        return [] if self.choice is None else [self.choice, self.shown, *self.areas.values()]

    def show(self, engine: str) -> Updates:
        """Show one of the engines."""
        if self.choice is None:
            return {}
        areas: Updates = {area: gr.update(visible=name == engine) for name, area in self.areas.items()}
        return {self.choice: engine, self.shown: engine} | areas

    def switch(self, engine: Any, shown: Any, *raw: Any) -> Any:
        """Show another engine, with what was said of the clip so far. `raw` is what the forms of all hold."""
        if engine not in self.tabs or engine == shown:
            return gr.skip()
        held: dict[str, Sequence[Any]] = {}
        for name, drawn in self.tabs.items():
            count = len(drawn.form.components)
            held[name], raw = raw[:count], raw[count:]
        updates = self.show(engine)
        if shown in self.tabs:
            updates |= taken_over(self.tabs[shown].form, held[shown], self.tabs[engine].form, held[engine])
        return changed(updates)


def render(studio: Studio, title: str, specs: Sequence[EngineSpec], *, browser: gr.BrowserState) -> EngineTab:
    """Draw the tab of engines that share a title, the first of them shown, and wire the choice."""
    first = specs[0].name
    with gr.Tab(title, id=first) as opened:
        shown = gr.State(first)
        choice = None
        if len(specs) > 1:
            choice = gr.Radio(
                [(spec.title, spec.name) for spec in specs],
                value=first,
                label="Engine",
                container=False,
                elem_id=f"{first}-engine",
                elem_classes="engines",
            )
        tabs, areas = {}, {}
        for spec in specs:
            # The page opens with its first tab; what another holds is asked for once it is opened.
            seen = [opened.select] if spec.name == first or choice is None else [choice.change]
            seen += [page().load] if spec is next(iter(studio.specs.values())) else []
            with (
                gr.Column(visible=spec.name == first, elem_id=f"{spec.name}-area") as areas[spec.name],
                seen_when(*seen),
            ):
                tabs[spec.name] = tab.render(studio, spec, browser=browser)
    drawn = EngineTab(first, title, tabs, areas, choice, shown)
    if choice is not None:
        forms = [component for one in tabs.values() for component in one.form.components]
        # The forms are read as the page holds them: pictures are files of the browser there.
        choice.input(drawn.switch, [choice, shown, *forms], [*drawn.components, *forms], preprocess=False, **HIDDEN)
    return drawn


def by_title(specs: Iterable[EngineSpec]) -> dict[str, list[EngineSpec]]:
    """Title of a tab -> its engines, both in the order of the registry."""
    found: dict[str, list[EngineSpec]] = {}
    for spec in specs:
        found.setdefault(spec.tab, []).append(spec)
    return found


def taken_over(source: Form, held: Sequence[Any], target: Form, has: Sequence[Any]) -> Updates:
    """What one form should hold of another: what is the same to both, as far as the target's model can do it."""
    names = kept(source.spec, target.spec)
    values: dict[str, Any] = target.read(has, names={"model"})
    for name in names:  # one by one: what cannot be read is left as it is
        try:
            values |= source.read(held, names={name})
        except InvalidRequest:
            continue
    if {"width", "height"} <= values.keys():
        model = source.read(held, names={"model"})["model"]
        size = (values["width"], values["height"])
        if not _suits(size, source.spec.model(model).geometry, target.spec.model(values["model"]).geometry):
            del values["width"], values["height"]
    return target.show(values, names=names & values.keys())


def _suits(size: tuple[int, int], there: Geometry, here: Geometry) -> bool:
    """Whether a size goes along: a choice of here, or one that somebody typed there and that can be made here."""
    if size in here.sizes:
        return True
    width, height = size
    return size not in there.sizes and not here.problems(width=width, height=height, frames=here.lengths[0])


def kept(source: EngineSpec, target: EngineSpec) -> set[str]:
    """Fields of two engines that mean the same to a person."""
    ours, theirs = (media_fields(spec.request_type, *PICTURES, "clip") for spec in (source, target))
    pictures = {name for name, declared in ours.items() if name in theirs and theirs[name].kind == declared.kind}
    return pictures | {name for name in KEPT if name in target.request_type.model_fields}


@dataclass(frozen=True)
class Places:
    """Where each engine stands on the page."""

    tabs: gr.Tabs
    engine_tabs: Sequence[EngineTab] = ()

    @property
    def components(self) -> list[Component | gr.Tabs]:
        """Everything that changes when the page goes to an engine, its form aside."""
        return [self.tabs, *(part for one in self.engine_tabs for part in one.components)]

    @property
    def drawn(self) -> dict[str, Tab]:
        """Engine name -> what is drawn for it."""
        return {name: one for place in self.engine_tabs for name, one in place.tabs.items()}

    def go(self, engine: str) -> Updates:
        """Bring an engine into view."""
        for place in self.engine_tabs:
            if engine in place.tabs:
                return {self.tabs: gr.update(selected=place.id)} | place.show(engine)
        return {}
