"""One seed with physics and without, on a tiny model of the real classes: queued together, shown in step."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from engines import registry
from engines.media.video import read_frames
from studio.jobs.local import LocalExecutor
from studio.jobs.store import Job
from studio.page import about_clip, compare, panel, tab, with_and_without
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.engines.tiny_models import TINY
from tests.studio.conftest import LOOPS_LEFT_OPEN, wait_for

NAME = "phantom-physics"
SPEC = TINY[NAME].spec
pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """Requests are checked against the tiny model, whichever of these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, NAME, SPEC)
        yield


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio whose worker process has the tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    files = TINY[NAME].write(folder)
    overrides = tuple(f"{NAME}/tiny/{role}={paths[0]}" for role, paths in files.items())
    settings = Settings(outputs=folder / "outputs", devices=("cpu",), overrides=overrides)
    studio = open_studio(settings, LocalExecutor, command=(sys.executable, "-m", "tests.studio.tiny_physics"))
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


def page(studio: Studio) -> tuple[gr.Blocks, tab.Tab]:
    with gr.Blocks(analytics_enabled=False) as blocks:
        return blocks, tab.render(studio, SPEC, browser=gr.BrowserState({}))


def button(blocks: gr.Blocks) -> gr.Button:
    (found,) = (one for one in blocks.blocks.values() if getattr(one, "elem_id", "") == f"{NAME}-pair")
    return found


def pressed(blocks: gr.Blocks, rendered: tab.Tab, **given: Any) -> list[dict[Any, Any]]:
    """What a click on the button brings to the page, with these fields set to something else."""
    held = {component: component.value for component in rendered.form.components}
    held |= {rendered.form.component(name): value for name, value in given.items()}
    (event,) = (one for one in blocks.fns.values() if (button(blocks)._id, "click") in one.targets)
    return list(event.fn(None, {}, *held.values()))


def test_one_seed_is_made_twice_and_played_in_step(studio: Studio) -> None:
    blocks, rendered = page(studio)
    told = pressed(blocks, rendered, physics_scale=1.5, frames=5, steps=1, surprise=True)
    known = told[0][rendered.events.browser]
    assert told[0][rendered.controls.problems] == ""
    jobs = [wait_for(studio, job, "done", "failed") for job in studio.store.batch(known[NAME])]
    assert [job.state for job in jobs] == ["done", "done"], [job.failure for job in jobs]
    assert [job.request["physics_scale"] for job in jobs] == [1.5, 0.0]
    assert len({json.dumps(job.request | {"physics_scale": None}) for job in jobs}) == 1
    with_, without = (np.stack(list(read_frames(job.result.video))) for job in jobs)
    assert with_.shape == without.shape and not np.array_equal(with_, without)

    column, now = rendered.result, rendered.events.tick(known, told[0][rendered.result.seen])
    assert now[column.compare]["visible"] and now[column.compare]["open"]
    shown = json.loads(unescape(re.search('data-shown="(.*?)"', now[column.compared])[1]))
    figures = [f"{job.result.figures['surprise']:.3f}" for job in jobs]
    labels = [f"physics {scale}, surprise {figure}" for scale, figure in zip(("1.5", "0"), figures, strict=True)]
    assert [clip["label"] for clip in shown["clips"]] == labels
    assert shown["differing"][0] == {"label": "Physics", "values": ["1.5", "0"]}
    strip = now[column.strip]["value"]
    ranked = sorted(zip(figures, labels, strict=True))
    assert [label for _, label in strip] == [label for _, label in ranked], "one seed stands below neither"

    modes = ("Pictures and physics were denoised together", "base model alone: the physics branch did not run")
    for job, mode in zip(jobs, modes, strict=True):
        inside = json.loads(Path(job.result.sidecar).read_text(encoding="utf-8"))
        of_history = [row.value for row in panel.facts(SPEC, job) if row.label == "Note"]
        for place in (inside["notes"], panel.finished(SPEC, job).notes, of_history):
            assert sum(mode in note for note in place) == 1
        assert inside["figures"]["surprise"] == pytest.approx(job.result.figures["surprise"])
    assert [bool(about_clip.physics(job)) for job in jobs] == [True, False]


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ([{"physics_scale": 1.5}, {"physics_scale": 0.0}], True),
        ([{"physics_scale": 0.0}, {"physics_scale": 1.5}], True),
        ([{"physics_scale": 0.5}, {"physics_scale": 1.0}], False),
        ([{"seed": 1}, {"seed": 2}], False),
        ([{"seed": 1, "physics_scale": 0.0}, {"seed": 2}], False),
        ([{"physics_scale": 0.0}, {}, {"physics_scale": 0.5}], False),
        ([{"physics_scale": 0.0}], False),
    ],
)
def test_nothing_else_is_played_in_step_by_itself(changes: list[dict[str, Any]], opens: bool) -> None:
    """Variations and grids over other numbers can be compared, but wait to be asked."""
    jobs = [Job(engine=NAME, request=SPEC.default_values("tiny") | {"seed": 3} | one) for one in changes]
    assert compare.with_and_without(SPEC, jobs) == opens


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"physics_scale": 0}, "raise Physics"), ({"prompt": ""}, "prompt"), ({"model": "5B"}, "no physics branch")],
)
def test_nothing_is_queued_of_what_cannot_be_compared(idle: Studio, given: dict[str, Any], sentence: str) -> None:
    blocks, rendered = page(idle)
    (told,) = pressed(blocks, rendered, **given)
    assert sentence in told[rendered.controls.problems] and not idle.store.active()


def test_only_models_with_the_branch_offer_it(idle: Studio) -> None:
    blocks, rendered = page(idle)
    assert button(blocks).visible and {one.name: with_and_without.offered(SPEC, one.name) for one in SPEC.models} == {
        one.name: any(weights.role == "physics" for weights in one.weights) for one in SPEC.models
    }
    assert not with_and_without.offered(SPEC, "5B") and not with_and_without.offered(SPEC, ["nonsense"])
    chosen = rendered.controls.models.chosen
    (follow,) = (
        one.fn for one in blocks.fns.values() if (chosen._id, "change") in one.targets and button(blocks) in one.outputs
    )
    assert follow("5B")["visible"] is False and follow("5B-physics")["visible"] is True


@pytest.mark.parametrize("name", [name for name, spec in registry.SPECS.items() if spec.branch is None])
def test_an_engine_without_a_branch_has_no_button(name: str) -> None:
    assert with_and_without.render(registry.SPECS[name], registry.SPECS[name].models[0].name) is None
