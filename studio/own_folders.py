"""Folders of this machine that have a model's files already: looked into, and from then on used as they are.

What is in them is checked before it is taken: every file whole, and of the size of the published one. Nothing is copied
or moved, and nothing in them is ever deleted. They are remembered in the settings file.
"""

from __future__ import annotations

from pathlib import Path

from engines.errors import MissingWeights, StudioError
from engines.loading.integrity import check_file
from engines.loading.store import DOCUMENTS, Store
from engines.types import EngineSpec, ModelSpec, Weights
from engines.wording import gigabytes, printable
from studio import changing, settings_file
from studio.paths import absolute, reason
from studio.service import Studio
from studio.settings import BadSetting

SETTING = "more_models"
_SHARE = 0.05
"""By how much a file's size may differ from the published one, which is told in round numbers."""


def use(studio: Studio, spec: EngineSpec, model: ModelSpec, text: str) -> str:
    """Take the files of a model from a folder, now and after every start; returns what is to be said.

    Raises:
        StudioError: there is no such folder, it has none of the files, or one of them is not what was published;
            or who asks does not sit at this machine. Nothing was changed.
    """
    settings = studio.settings
    if not settings.owned:
        raise StudioError("A folder of this machine is chosen at this machine:", hint=f"set {SETTING} where it starts.")
    origin = settings.origins.get(SETTING, "")
    if origin and origin.startswith(("-", "KINORA_")):
        raise StudioError(f"{origin} says which folders are used:", hint="add this one there.")
    folder = _folder(text)
    bytes_ = sum(path.stat().st_size for path in _checked(folder, model))
    known = studio.files.more
    if folder not in known:
        try:
            settings_file.change(changing.place(settings), {SETTING: [str(one) for one in (*known, folder)]})
        except ValueError as error:
            raise BadSetting(str(error)) from None
        studio.files.more = (*known, folder)
        studio.executor.look_in(studio.files.more)
    missing = studio.files.state(spec.name, model).missing
    match len(missing):
        case 0:
            left = ""
        case 1:
            left = f" {missing[0]} is still missing."
        case count:
            left = f" {count} of its files are still missing."
    return f'{gigabytes(bytes_)} of {model.title} are used from "{printable(folder.name)}".{left}'


def _folder(text: str) -> Path:
    if not text.strip():
        raise StudioError("Write which folder has the files.")
    folder = absolute(text.strip())
    try:
        there = folder.is_dir()
    except ValueError:  # no name of a file at all
        there = False
    except OSError as error:
        raise StudioError(f'"{printable(folder.name)}" cannot be opened: {reason(error)}.') from None
    if not there:
        raise StudioError(
            f'There is no folder "{printable(folder.name)}" on this machine:', hint="write its whole path."
        )
    return folder.resolve()


def _checked(folder: Path, model: ModelSpec) -> list[Path]:
    """The files of a model in a folder; raises StudioError for none, and for one that is not what was published."""
    alone, found = Store(models=folder, cache=False), list[Path]()
    for weights in model.weights:
        paths = alone.find(weights) if weights.repo else ()
        here = [path for path in paths if path is not None]
        for path in here:
            check_file(path, document=path.name.endswith(DOCUMENTS))
        if here and len(here) == len(paths):
            _check_size(weights, here)
        found += here
    if not found:
        first = next(weights for weights in model.weights if weights.repo)
        raise MissingWeights(
            f'"{printable(folder.name)}" has no file of {model.title}:',
            hint=f"it has them as {first.repo}/{first.files[0]}, or just {first.files[0]}.",
        )
    return found


def _check_size(weights: Weights, paths: list[Path]) -> None:
    held = sum(path.stat().st_size for path in paths)
    if abs(held - weights.size_bytes) > _SHARE * weights.size_bytes:
        raise StudioError(
            f"{paths[0].name} is not the file that was published: it takes {gigabytes(held)}, "
            f"not {gigabytes(weights.size_bytes)}.",
            hint="Name it with --weights to use another version.",
        )
