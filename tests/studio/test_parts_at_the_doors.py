"""Every declared part of every file is reached from the page, the API and the command line, and no path is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from engines.events import Clip
from engines.inputs import PICTURES, entries, media_fields
from engines.media import metadata
from engines.registry import SPECS
from engines.request import bounds
from engines.validation import build_request
from studio import command_line
from studio.commands import asked
from studio.jobs.store import Job
from studio.models import built_in
from studio.page import clip_quality, slots
from studio.page.api import Calls
from studio.page.uploads import served
from studio.service import Studio
from tests.engines.test_inputs import write_video
from tests.engines.test_pictures import counted_loads
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.server import ROOT
from tests.studio.test_fields import rendered

pytestmark = LOOPS_LEFT_OPEN
HERE = str(ROOT / "assets" / "examples" / "red_star.png")  # a picture of this machine
MADE_BY: dict[str, Any] = {"device": "CPU", "precisions": {"transformer": "float32"}}
PARTS = [
    (name, field, part)
    for name, spec in SPECS.items()
    for field, declared in media_fields(spec.request_type, *PICTURES).items()
    for part in declared.parts
]
CLIP_PARTS = [
    (name, field, part)
    for name, spec in SPECS.items()
    for field, declared in media_fields(spec.request_type, "clip").items()
    for part in declared.parts
]


def other(engine: str, field: str, part: str) -> Any:
    """A value that the part does not have by itself."""
    info = media_fields(SPECS[engine].request_type)[field].part_fields()[part]
    if isinstance(info.get_default(), str):
        return "+3 40,10 42,12; -8 90,90"
    return (not info.get_default()) if isinstance(info.get_default(), bool) else bounds(info)[0]


def needs(part: str) -> dict[str, Any]:
    """The other parts without which a part says nothing: strokes mend what is cut out."""
    return {"keep_background": False} if part == "brush" else {}


def base(engine: str, path: str) -> dict[str, Any]:
    """The pictures that the engine cannot do without."""
    needed = {name: files for name, files in media_fields(SPECS[engine].request_type).items() if files.needed}
    return {name: [{"path": path}] if files.most > 1 else {"path": path} for name, files in needed.items()}


@pytest.mark.parametrize(("engine", "field", "part"), PARTS)
def test_the_api_reaches_every_part(idle: Studio, picture: Path, engine: str, field: str, part: str) -> None:
    if not any(built_in(model) for model in SPECS[engine].models):
        pytest.skip("it has no model that runs here")
    upload, value = {"path": served(picture), "meta": {"_type": "gradio.FileData"}}, other(engine, field, part)
    many = media_fields(SPECS[engine].request_type)[field].most > 1
    inside = {"path": upload, part: value} | needs(part)
    beside = {f"{field}.1.{name}" if many else f"{field}.{name}": given
              for name, given in ({part: value} | needs(part)).items()}  # fmt: skip
    beside[field] = [upload] if many else upload
    for settings in ({field: [inside] if many else inside}, beside):
        (job,) = Calls(idle).generate(engine, "a star", [], base(engine, served(picture)) | settings)
        (stored,) = entries(idle.job(job).request[field])
        assert stored[part] == value
        assert stored["path"].startswith(str(idle.settings.pictures))


@pytest.mark.parametrize(("engine", "field", "part"), PARTS)
def test_the_command_line_reaches_every_part(picture: Path, engine: str, field: str, part: str) -> None:
    many = media_fields(SPECS[engine].request_type)[field].most > 1
    name, value = f"{field}.1.{part}" if many else f"{field}.{part}", other(engine, field, part)
    for given in (f"--ref={picture}", f"--set={field}={picture}"):
        words = ["generate", engine, "--prompt=a star", given, f"--set={name}={value}", "--out=clip.mp4"]
        words += [f"--set={field}.1.{needed}={other_}" for needed, other_ in needs(part).items()]
        values = asked.values_of(SPECS[engine], command_line.parser().parse_args(words))
        (made,) = entries(getattr(build_request(SPECS[engine], values), field))
        assert getattr(made, part) == value and made.path == picture


@pytest.mark.parametrize(("engine", "field", "part"), CLIP_PARTS)
def test_the_command_line_and_the_page_reach_every_part_of_a_clip(
    idle: Studio, tmp_path: Path, engine: str, field: str, part: str
) -> None:
    clip, spec, value = write_video(tmp_path / "clip.mp4", frames=30), SPECS[engine], other(engine, field, part)
    words = ["generate", engine, "--prompt=a star", f"--set={field}={clip}", f"--set={field}.{part}={value}"]
    values = asked.values_of(spec, command_line.parser().parse_args([*words, "--out=clip.mp4"]))
    made = getattr(build_request(spec, values), field)
    assert getattr(made, part) == value and made.path == clip
    control = next(control for control in rendered(idle, spec).controls if field in control.names)
    values = spec.default_values(spec.models[0].name) | {field: {"path": str(clip), part: value}}
    video, *held = control.show(values, spec.models[0])
    assert control.read([{"video": {"path": video}}, *held])[field][part] == value


@pytest.mark.parametrize(("engine", "field", "part"), PARTS)
def test_the_page_offers_every_part_and_no_other(
    idle: Studio, picture: Path, engine: str, field: str, part: str
) -> None:
    form, value = rendered(idle, SPECS[engine]), other(engine, field, part)
    control = next(control for control in form.controls if field in control.names)
    many = media_fields(SPECS[engine].request_type)[field].most > 1
    one = {"path": str(picture), part: value} | needs(part)
    model = SPECS[engine].models[0]
    shown = control.show(SPECS[engine].default_values(model.name) | {field: [one] if many else one}, model)
    raw = [{"path": item} if isinstance(item, str) and item.endswith(".png") else item for item in shown]
    (back,) = entries(control.read(raw)[field])
    assert back[part] == value
    assert set(back) - {"path"} == set(media_fields(SPECS[engine].request_type)[field].parts)


@pytest.mark.parametrize(
    ("engine", "references", "given"),
    [
        ("flashi2v", [], {"picture": {"path": HERE}}),
        ("flashi2v", [], {"picture": HERE}),
        ("flashi2v", [], {"picture": {"path": {"path": HERE}}}),
        ("flashi2v", [], {"picture": None, "picture.path": HERE}),
        ("phantom-wan", [], {"references": [{"path": HERE}]}),
        ("phantom-wan", [{"path": HERE}], {}),
        ("phantom-wan", [{"path": HERE, "meta": {"_type": "gradio.FileData"}}], {}),
    ],
)
def test_a_picture_of_this_machine_is_no_upload(
    idle: Studio, engine: str, references: list[Any], given: dict[str, Any]
) -> None:
    with pytest.raises(gr.Error) as refused:
        Calls(idle).generate(engine, "a star", references, given)
    assert HERE not in str(refused.value) or "you gave" in str(refused.value)
    assert idle.store.active() == []


def test_a_path_is_no_part_of_an_upload(idle: Studio, picture: Path) -> None:
    upload = {"path": served(picture)}
    with pytest.raises(gr.Error, match="There is no file for"):
        Calls(idle).generate("flashi2v", "a star", [], {"picture": upload, "picture.path": HERE})


@pytest.mark.parametrize(("engine", "field"), [("flashi2v", "picture"), ("pyramid-flow", "first_picture")])
@pytest.mark.parametrize("position", [0.0, 1.0])
def test_quality_compares_with_the_crop_that_was_asked_for(
    tmp_path: Path, engine: str, field: str, position: float
) -> None:
    """The clip begins black, as the picture's right end does; its left end is a ramp."""
    wide = Image.new("L", (400, 40), 0)
    wide.paste(Image.linear_gradient("L").resize((200, 40)), (0, 0))
    wide.save(tmp_path / "wide.png")
    clip = write_video(tmp_path / "clip.mp4")
    request = {"width": 64, "height": 48, "fps": 8, field: {"path": str(tmp_path / "wide.png"), "position": position}}
    result = Clip(video=str(clip), sidecar="", poster="", request=request, seconds={}, peak_bytes=0, frames=7)
    found = clip_quality._measured(SPECS[engine], Job(engine=engine, request=request, id="a", result=result))
    assert (found.first_frame_psnr > 25) == (position == 1.0)


def test_from_the_page_to_the_queue_a_picture_is_decoded_once_and_hashed_once(
    idle: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, path = counted_loads(monkeypatch), served(picture)
    slots.preview(path, True, width=96, height=64, as_published=False)
    values = {"prompt": "a star", "references": [{"path": path}], "seed": 1}
    jobs = [*idle.submit("phantom-wan", values, variations=2), *idle.submit("phantom-wan", values)]
    assert decoded == ["PNG"]
    (kept,) = {entry["path"] for job in jobs for entry in job.request["references"]}
    request = build_request(SPECS["phantom-wan"], jobs[0].request, pixels=False)  # as a worker does
    assert decoded == ["PNG"]
    content = picture.read_bytes()
    Path(kept).write_bytes(b"never read again")
    told = metadata.describe("phantom-wan", request, model=SPECS["phantom-wan"].models[0], files={}, **MADE_BY)
    assert told.inputs[0]["sha256"] == hashlib.sha256(content).hexdigest()
