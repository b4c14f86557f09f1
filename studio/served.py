"""Files for the browser. Only copies in gradio's cache are handed out: no folder of this machine is published."""

from __future__ import annotations

from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder


def served(path: str | Path) -> str:
    """A copy of the file that the page may show; gradio deletes it when it has grown old."""
    return save_file_to_cache(path, cache_dir=get_upload_folder())
