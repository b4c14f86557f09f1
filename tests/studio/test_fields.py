"""Every field of every engine's request has a control, and values pass through it unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gradio as gr
import pytest

from engines.errors import InvalidRequest
from engines.inputs import Adapter, GivenClip, Reference, media
from engines.registry import SPECS
from engines.request import Request, bounds, parameter
from engines.types import EngineSpec, Geometry, ModelSpec
from engines.validation import build_request
from studio.page import controls, tab
from studio.page.form import Form
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN


class Everything(Request):
    """One field of every kind."""

    subjects: tuple[Reference, ...] = media("subject", label="Subjects", help="Who acts.", most=2)
    start: Reference | None = media("first frame", label="First frame", help="Where it begins.", parts=("position",))
    mask: Reference | None = media("mask", label="Mask", help="What stays.")
    clip: GivenClip | None = media("clip", label="Clip", help="What goes on.", parts=("moment",))
    adapter: Adapter | None = media("adapter", label="Adapter", help="How it looks.", parts=("strength",))
    style: Literal["still", "lively"] = parameter("still", label="Style", help="How it moves.", group="clip")
    amount: float = parameter(0.5, label="Amount", help="How much.", group="guidance", minimum=0)
    loop: bool = parameter(False, label="Loop", help="Ends where it began.", group="clip", advanced=True)


GEOMETRY = Geometry(sizes=((64, 48),), multiple=16, max_pixels=10**6, frame_stride=4, max_frames=49, min_side=16)
EVERYTHING = EngineSpec(
    name="everything",
    title="Everything",
    purpose="For tests.",
    tab="Everything",
    request_type=Everything,
    models=(
        ModelSpec(
            "only",
            "Only",
            "",
            (),
            GEOMETRY,
            {"width": 64, "height": 48, "frames": 9, "steps": 4},
            {"Draft": {"steps": 4}},
        ),
    ),
    implementation="no:where",
    check=lambda request, model: [],
)


def rendered(studio: Studio, spec: EngineSpec) -> Form:
    """The form of the engine's tab, drawn without its examples."""
    with gr.Blocks(analytics_enabled=False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls.examples, "of", lambda spec: [])
        return tab.render(studio, spec, browser=gr.BrowserState({})).form


def raw(form: Form) -> list[object]:
    return [component.value for component in form.components]


@pytest.mark.parametrize("spec", [*SPECS.values(), EVERYTHING], ids=lambda spec: spec.name)
def test_every_field_is_on_the_page_and_holds_its_default(idle: Studio, spec: EngineSpec) -> None:
    form = rendered(idle, spec)
    names = [name for control in form.controls if control.names[0] in spec.request_type.model_fields
             for name in control.names]  # fmt: skip
    assert sorted(names) == sorted(spec.request_type.model_fields)
    values = form.read(raw(form))
    expected = spec.default_values(values["model"])
    assert {name: value or None for name, value in values.items()} == {
        name: (list(value) if isinstance(value, tuple) else value) or None for name, value in expected.items()
    }


def test_another_model_brings_its_own_defaults_and_choices(idle: Studio) -> None:
    form = rendered(idle, SPECS["phantom-wan"])
    shown = form.show(form.spec.default_values("14B"), only_model=True)
    frames = shown[form.component("frames")]
    assert (frames["value"], frames["maximum"], frames["step"]) == (121, 241, 4)
    assert shown[form.component("width")]["value"] == "832x480"
    assert not {form.component("prompt"), form.component("seed")} & shown.keys(), "no model decides them"


def test_a_size_may_be_typed_and_a_typing_error_is_told(idle: Studio) -> None:
    form = rendered(idle, EVERYTHING)
    size = next(control for control in form.controls if control.names == ("width", "height"))
    assert size.read(["80 × 64"]) == {"width": 80, "height": 64}
    with pytest.raises(InvalidRequest, match="width x height"):
        size.read(["large"])


def test_what_the_page_holds_makes_a_request(idle: Studio) -> None:
    form = rendered(idle, EVERYTHING)
    request = build_request(EVERYTHING, form.read(raw(form)) | {"prompt": "x"})
    assert (request.width, request.height, request.frames, request.start) == (64, 48, 9, None)


def test_settings_put_back_come_out_again(idle: Studio, picture: Path) -> None:
    form = rendered(idle, SPECS["phantom-wan"])
    values = form.spec.default_values("starter") | {
        "prompt": "a star",
        "seed": 9,
        "width": 64,
        "frames": 13,
        "references": [{"path": str(picture), "keep_background": False}],
    }
    updates = form.show(values)
    shown = [updates.get(component) for component in form.components]
    shown = [update["value"] if isinstance(update, dict) else update for update in shown]
    shown = [{"path": item} if isinstance(item, str) and item.endswith(".png") else item for item in shown]
    back = form.read(shown)
    reference = back.pop("references")[0]
    assert not reference["keep_background"]
    assert Path(reference["path"]).read_bytes() == picture.read_bytes()
    assert back == {name: value for name, value in values.items() if name != "references"}


def test_kinds_are_told_apart() -> None:
    info = Everything.model_fields
    assert bounds(info["amount"]) == (0, None)
    assert bounds(info["steps"]) == (1, 200)
