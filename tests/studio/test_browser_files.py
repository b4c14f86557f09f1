"""Uploads and second names of clips: no copies, no growth, nothing left of what was deleted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder

from studio import browser_files
from studio.page.gate import Gate
from studio.service import Studio
from tests.studio.conftest import values


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "outputs" / "20260101-000000-0123456789abcdef.mp4"
    path.parent.mkdir()
    path.write_bytes(b"\1" * 5000)
    return path


def test_a_clip_is_given_without_a_copy_and_taken_back(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "browser"
    before = clip.stat()
    first, second = browser_files.give(clip, folder), browser_files.give(clip, folder)
    assert first == second and first.name == clip.name and first.samefile(clip)
    assert (clip.stat().st_mtime_ns, clip.stat().st_nlink) == (before.st_mtime_ns, 2), "and the clip is as it was"
    browser_files.take_back(clip, folder)
    assert list(folder.iterdir()) == [] and clip.read_bytes() == b"\1" * 5000
    browser_files.take_back(clip, folder)
    clip.unlink()
    browser_files.take_back(clip, folder)
    with pytest.raises(OSError):
        browser_files.give(clip, folder)


def test_where_there_are_no_links_it_is_copied(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    given = browser_files.give(clip, tmp_path / "browser")
    assert given.read_bytes() == clip.read_bytes() and not given.samefile(clip)
    assert [path.name for path in given.parent.iterdir()] == [clip.name]


def test_another_file_under_the_same_name_is_another_one(clip: Path, tmp_path: Path) -> None:
    first = browser_files.give(clip, tmp_path / "browser")
    clip.unlink()
    clip.write_bytes(b"\2" * 10)
    second = browser_files.give(clip, tmp_path / "browser")
    assert first != second and second.read_bytes() == b"\2" * 10


def test_old_uploads_make_room_for_new_ones(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "browser"
    for name in ("first", "second", "third"):
        (folder / name).mkdir(parents=True)
        (folder / name / "upload.png").write_bytes(b"\0" * 1000)
    browser_files.give(clip, folder)  # takes no room
    assert browser_files.make_room(folder, incoming=1000, most_bytes=4000)
    assert not browser_files.make_room(folder, incoming=1001, most_bytes=4000), "those may still be on a form"
    assert len(list(folder.rglob("*.png"))) == 3
    monkeypatch.setattr(browser_files, "YOUNG_S", -1.0)
    assert browser_files.make_room(folder, incoming=1001, most_bytes=4000)
    assert len(list(folder.rglob("*.png"))) == 2 and len(list(folder.rglob("*.mp4"))) == 1
    assert browser_files.make_room(tmp_path / "nowhere", incoming=1, most_bytes=4000)


def test_the_oldest_uploads_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_files, "YOUNG_S", -1.0)
    for name in ("first", "second", "third"):
        (tmp_path / name).write_bytes(b"\0" * 1000)
        time.sleep(0.02)  # a file system's clock is not that fine
    assert browser_files.make_room(tmp_path, incoming=1000, most_bytes=3000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "third"]


def test_an_upload_too_many_is_refused_in_a_sentence(
    idle: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.responses import PlainTextResponse
    from starlette.testclient import TestClient

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    client = TestClient(Gate(PlainTextResponse("taken"), settings=idle.settings), base_url="http://127.0.0.1:7860")
    assert client.post("/gradio_api/upload", content=b"x" * 100).text == "taken"
    (tmp_path / "filler").write_bytes(b"")
    os.truncate(tmp_path / "filler", idle.settings.most_upload_bytes)  # sparse
    answer = client.post("/gradio_api/upload", content=b"x" * 100)
    assert answer.status_code == 507 and "as many uploads as it may" in answer.text
    assert client.get("/gradio_api/upload").text == "taken"
    client.close()


def test_gradio_is_told_a_path_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    folder = tmp_path / "home" / "somebody" / "outputs" / ".browser"
    with browser_files.gradios_folder(folder):
        told = Path(get_upload_folder())
        assert str(tmp_path) not in str(told) and told.samefile(folder)
    assert "GRADIO_TEMP_DIR" not in os.environ and not told.parent.exists() and folder.is_dir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with browser_files.gradios_folder(folder):
        assert get_upload_folder() == str(tmp_path)
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)


def test_what_is_deleted_is_gone_for_browsers_too(idle: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = picture.parent / "browser"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    (job,) = idle.submit("phantom-wan", values(picture))
    idle.cancel(job.id)
    kept = Path(job.request["references"][0]["path"])
    browser_files.give(kept, folder)
    idle.delete(job.id)
    assert not kept.exists() and list(folder.iterdir()) == []
