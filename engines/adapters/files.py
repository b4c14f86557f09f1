"""Whether a file is an adapter, asked before anything is queued, and which ones lie in a folder. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from engines.adapters.naming import is_adapter, other_kind
from engines.errors import IncompatibleCheckpoint
from engines.loading.families import family
from engines.loading.integrity import check_file, kind_of, safetensors_header
from engines.media.files import file_problem, shown_name

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
MOST_LISTED = 1000


def adapter_problem(path: Path) -> str | None:
    """Why the file at `path` cannot be used as an adapter, in a sentence or two; None if it may be one.

    Whether it fits its network is seen when that is known; of PyTorch's own files only that they are whole.
    """
    if problem := file_problem(path, "file"):
        return problem
    try:
        check_file(path)
        if kind_of(path) != "safetensors":
            return None
        keys = [key for key in safetensors_header(path)[0] if key != "__metadata__"]
    except IncompatibleCheckpoint as error:
        return str(error)
    if kind := other_kind(keys):
        return f"{shown_name(path)} is {kind}, which cannot be used: choose a LoRA."
    if not is_adapter(keys):
        what = family(keys)
        looks = f"looks like {what}" if what else "holds no changes of a network"
        return f"{shown_name(path)} is no adapter: it {looks}. Choose a LoRA file."
    return None


def listed(folder: Path | None) -> list[str]:
    """Names of the files in a folder that may be adapters, relative to it and with slashes, in order."""
    if folder is None or not folder.is_dir():
        return []
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = [name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts)]
    return sorted(names, key=str.lower)[:MOST_LISTED]
