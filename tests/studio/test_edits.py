"""Edits as jobs: from the page, the API and the command line; what they leave of the clips they were made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engines.errors import InvalidRequest, StudioError
from engines.media import metadata
from studio import command_line, editing, library, queue
from studio.jobs.local import LocalExecutor
from studio.jobs.store import Job
from studio.page import history_edit
from studio.page.api import Calls
from studio.page.history_edit import Editing
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN, wait_for
from tests.studio.kept_clips import keep, moving, write_clip

pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio with the true worker, which needs no torch for these edits."""
    settings = Settings(outputs=tmp_path_factory.mktemp("edits") / "outputs", devices=("cpu",), preload=False)
    studio = open_studio(settings, LocalExecutor)
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


@pytest.fixture(scope="module")
def clip(studio: Studio) -> Job:
    return keep(studio.store, studio.settings.outputs, "a red star bounces")


@pytest.fixture(scope="module")
def editor(studio: Studio) -> history_edit.Editor:
    with gr.Blocks(analytics_enabled=False):
        return history_edit.render(studio)


def test_an_edit_is_a_clip_of_its_own_with_its_parent(studio: Studio, clip: Job) -> None:
    job = editing.submit(studio, "trim", {"clip": clip.id, "start": 0.5})
    assert job.engine == "edit/trim" and job.request["prompt"] == "a red star bounces" and job.request["width"] == 96
    made = wait_for(studio, job, "done", "failed")
    assert made.state == "done" and made.frames == 11
    assert [other.id for other in library.family(studio, made)[0]] == [clip.id]
    assert metadata.read(Path(made.result.video)).made_from[0]["prompt"] == "a red star bounces"
    studio.delete(made.id)
    assert Path(clip.result.video).is_file() and Path(clip.result.sidecar).is_file(), "the parent keeps its files"
    assert not Path(made.result.video).exists()


def test_an_edit_can_be_edited_found_and_tried_again(studio: Studio, clip: Job) -> None:
    first = wait_for(studio, editing.submit(studio, "reverse", {"clip": clip.id}), "done")
    second = wait_for(studio, editing.submit(studio, "join", {"clip": first.id, "then": clip.id}), "done")
    assert {job.id for job in library.family(studio, second)[0]} == {first.id, clip.id}
    groups, _ = library.search(studio, library.Query("star bounces", library.texts(studio)), owner="")
    assert {first.id, second.id} <= {job.id for group in groups for job in group}
    wrong = wait_for(studio, editing.submit(studio, "trim", {"clip": clip.id, "start": 60}), "failed")
    assert "begin earlier" in wrong.failure.text
    queue.retry(studio, wrong.id)
    assert wait_for(studio, wrong, "failed").starts == 1
    with pytest.raises(StudioError, match="no seed"):
        queue.duplicate(studio, first.id)


def test_nobody_edits_anothers_clip(studio: Studio, clip: Job) -> None:
    for values in ({"clip": clip.id}, {"clip": "no-such-job"}, {}):
        with pytest.raises(InvalidRequest, match=r"not there any more|Choose the clip"):
            editing.submit(studio, "reverse", values, owner="another")
    with pytest.raises(InvalidRequest, match="There is no edit"):
        editing.submit(studio, "sing", {"clip": clip.id})


def test_the_page_draws_every_setting_of_every_edit(studio: Studio, editor: history_edit.Editor, clip: Job) -> None:
    from engines.editing.spec import EDITS

    for name, form in editor.forms.items():
        assert [field for field, _ in form] == [
            name for name in EDITS[name].request_type.model_fields if name != "clip"
        ]
    events = Editing(studio, editor)
    shown = events.choose({}, "join", clip.id)
    assert [area for area in editor.areas.values() if shown[area]["visible"]] == [editor.areas["join"]]
    assert clip.id not in [value for _, value in shown[editor.others[0]]["choices"]]
    values = {name: component.value for form in editor.forms.values() for name, component in form}
    raw = [component.value for component in editor.components]
    assert events.values("loop", raw) == {"times": 2, "way": "again"}
    assert values["factor"] == 2

    made = events.make(None, {}, clip.id, "loop", *raw)
    job = wait_for(studio, studio.store.get(made[editor.job]), "done")
    assert job.frames == 34
    looked = events.look({}, job.id)
    assert "Done" in looked[editor.status] and looked[editor.job] == ""
    refused = events.make(None, {}, clip.id, "captions", *raw)
    assert "Write a caption" in refused[editor.status] and editor.job not in refused
    assert "Choose the clip" in events.make(None, {}, "", "reverse", *raw)[editor.status]


def test_programs_edit_clips_of_their_own(studio: Studio, clip: Job) -> None:
    calls = Calls(studio)
    made = calls.edit("export", clip.id, {"format": "webp"})
    job = wait_for(studio, studio.store.get(made), "done")
    assert Path(job.result.video).suffix == ".webp"
    with pytest.raises(gr.Error, match="network"):
        calls.edit("upscale", clip.id, {"network": {"path": "x.pth"}})
    with pytest.raises(gr.Error, match="no job"):
        calls.edit("reverse", "nobody", {})


def test_the_command_line_edits_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(tmp_path / "a.mp4", moving(17, 96, 64))

    def run(*words: str) -> tuple[int, Any]:
        code = command_line.main(["edit", *words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    code, made = run("smooth", "--clip", str(tmp_path / "a.mp4"), "--set", "factor=3", "--out", str(tmp_path / "b.mp4"))
    assert (code, made["frames"], made["request"]["fps"]) == (0, 49, 36)
    assert (tmp_path / "b.json").is_file() and {path.name for path in tmp_path.iterdir()} == {
        "a.mp4",
        "b.mp4",
        "b.json",
    }
    for words, said in (
        (["export", "--clip", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "c.mp4")], "end the name"),
        (["trim", "--clip", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "c.mp4")], "There is no video"),
        (["trim", "--clip", str(tmp_path / "a.mp4"), "--set", "start", "--out", str(tmp_path / "c.mp4")], "name=value"),
        (["hum", "--clip", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "c.mp4")], "There is no edit"),
    ):
        code, answer = run(*words)
        assert code == command_line.BAD_REQUEST and said in answer["error"]["message"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "b.mp4", "b.json"}


def test_networks_that_enlarge_are_found_in_the_models_folder(studio: Studio, tmp_path: Path) -> None:
    from dataclasses import replace

    there = replace(studio, settings=replace(studio.settings, models=tmp_path))
    assert editing.upscalers(there) == []
    (tmp_path / editing.UPSCALERS).mkdir()
    for name in ("b.pth", "a.safetensors", "notes.txt"):
        (tmp_path / editing.UPSCALERS / name).write_bytes(b"x")
    assert [path.name for path in editing.upscalers(there)] == ["a.safetensors", "b.pth"]
    with gr.Blocks(analytics_enabled=False):
        assert "upscale" in history_edit.render(there).forms
    shutil.rmtree(tmp_path / editing.UPSCALERS)
