"""Every call of the page's process is answered, and none of them leaves it something that it cannot clean."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.route_utils import delete_files_created_by_app

from engines.errors import StudioError
from studio.page.guarded import Page
from studio.page.uploads import received
from tests.studio.awaited import awaited
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """gradio's folder for uploads."""
    path = tmp_path / "uploads"
    (path / "abc").mkdir(parents=True)
    (path / "abc" / "a.png").touch()
    (path / "abc" / "link.png").symlink_to("/etc/hostname")
    (path / "abc" / "circle.png").symlink_to("circle.png")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(path))
    return path


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("abc/a.png", True), ("abc/../abc/a.png", True), ("abc/gone.png", True), (".", False), ("", False),
        ("abc", False), ("../x", False), ("abc/link.png", False), ("abc/circle.png", False), ("abc/\0.png", False),
        ("x" * 9_000, False),
    ],
)  # fmt: skip
def test_only_files_of_the_folder_are_uploads(path: str, taken: bool, folder: Path) -> None:
    assert (received({"path": f"{folder}/{path}"}) is not None) is taken
    for odd in (None, 5, [], {}, {"path": None}, {"path": 5}, {"path": ["x"]}, "x"):
        assert received(odd) is None


def page_with(function: Callable[..., Any], **event: Any) -> tuple[Page, Any]:
    with Page(analytics_enabled=False) as page:
        box, image = gr.Textbox(), gr.Image(type="filepath")
        box.change(function, [box, image], box, **event)
    return page, next(iter(page.fns.values()))


def call(page: Page, event: Any, *values: Any) -> Any:
    return awaited(page.process_api(event, list(values)))


def test_a_folder_given_as_a_picture_does_not_end_the_cleaning(folder: Path) -> None:
    page, event = page_with(lambda text, picture: text, preprocess=False)
    for path in (folder, folder / "abc"):
        with pytest.raises(gr.Error, match="Files must be uploads"):
            call(page, event, "x", {"path": str(path), "meta": {"_type": "gradio.FileData"}})
    whole = {"path": str(folder / "abc" / "a.png"), "meta": {"_type": "gradio.FileData"}}
    assert call(page, event, "x", whole)["data"] == ["x"]
    delete_files_created_by_app(page, age=None)
    assert folder.is_dir() and not (folder / "abc" / "a.png").exists()


def test_a_fault_of_ours_is_logged_whole_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(text: Any, picture: Any) -> Any:
        return received.__wrapped__  # type: ignore[attr-defined]

    page, event = page_with(breaks)
    with caplog.at_level(logging.ERROR, logger="studio.page.guarded"):
        for _ in range(3):
            with pytest.raises(gr.Error, match="Something went wrong in the studio; its log has the details"):
                call(page, event, "x", None)
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False]


@pytest.mark.parametrize(("visibility", "shown"), [("private", "&lt;b&gt;"), ("public", "<b>")])
def test_a_refusal_is_shown_as_it_was_written(visibility: str, shown: str, folder: Path) -> None:
    def refuses(text: Any, picture: Any) -> Any:
        raise StudioError(f"No {text}.")

    page, event = page_with(refuses, api_visibility=visibility)
    with pytest.raises(gr.Error) as refused:
        call(page, event, "<b>", None)
    assert shown in refused.value.message


@pytest.mark.parametrize(
    "values", [[], ["x"], ["x", "no picture"], ["x", {"path": 5}], ["x", {"meta": 5, "path": "x"}]]
)
def test_values_of_another_kind_are_no_fault_of_ours(values: list[Any], folder: Path) -> None:
    page, event = page_with(lambda text, picture: text)
    with pytest.raises(gr.Error, match="not what this call takes"):
        call(page, event, *values)
