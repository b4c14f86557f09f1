"""Files from and for the browser.

Only names in gradio's folder are handed out, and only uploads to it are taken: no other folder is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder

from engines.errors import StudioError
from studio import browser_files

DATA_URL = "data:"


def served(path: str | Path) -> str:
    """A second name of the file that the page may show; gradio deletes it when it has grown old."""
    return str(browser_files.give(Path(path), Path(get_upload_folder())))


def served_if_there(path: str | Path) -> str | None:
    """The same, None where somebody removed the file from the outputs folder."""
    try:
        return served(path)
    except OSError:
        return None


def received(payload: Any) -> str | None:
    """Path of a file that was sent to the page, None for anything that is no upload of gradio's own.

    Events that read pictures take them unprocessed: gradio's image component would open the file with Pillow and fail
    without a sentence.
    """
    path = payload.get("path") if isinstance(payload, Mapping) else None
    if not isinstance(path, str):
        return None
    try:
        folder, file = Path(get_upload_folder()).resolve(), Path(path).resolve()
        # gradio deletes what it was once given: the folder itself, say, could not be, and its cleaning would end there.
        inside = file != folder and file.is_relative_to(folder)
        return path if inside and (file.is_file() or not file.exists()) else None
    except (OSError, ValueError, RuntimeError):  # no path at all, too long, or links in a circle
        return None


def written_out(url: str, *, most_bytes: int) -> str | None:
    """Path of a file that was sent as a data URL, now one of gradio's uploads; None where it cannot be decoded.

    Raises:
        StudioError: the uploads would take more than `most_bytes` together.
    """
    folder = Path(get_upload_folder())
    if not browser_files.make_room(folder, incoming=len(url), most_bytes=most_bytes):
        raise StudioError("This studio holds as many uploads as it may.", hint="Try again later.")
    head, comma, _ = url.partition(",")
    if not comma or not head.endswith(";base64"):
        return None
    try:
        return save_base64_to_cache(url, str(folder))
    except ValueError:  # not in base64, or not even in its letters
        return None
