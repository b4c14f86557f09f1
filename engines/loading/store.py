"""Where the files of a model are on this machine, and how they get there. Imports no torch.

Looked for in this order: a path the user gave, this project's assets, the models folder, other folders of the user's,
the hub cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.errors import MissingWeights, StudioError
from engines.loading import hub
from engines.loading.folders import weights_in
from engines.loading.hub import Watch
from engines.loading.integrity import check_file
from engines.loading.shards import is_index, shard_names
from engines.types import ModelSpec, Weights
from engines.wording import gigabytes

# Files of a model that hold no tensors.
DOCUMENTS = (".json", ".txt", ".model")
ASSETS = Path(__file__).parents[2] / "assets"

Override = Mapping[tuple[str, str, str], Path]


@dataclass(frozen=True)
class ModelState:
    """How much of a model is here.

    Attributes:
        state: bundled (shipped with this project), installed, partial or missing.
        found_bytes: size of the files that are here.
        total_bytes: size of all files, as published.
        missing: "repo/file" of those that are not here.
    """

    state: Literal["bundled", "installed", "partial", "missing"]
    found_bytes: int
    total_bytes: int
    missing: tuple[str, ...] = ()


class Store:
    """The checkpoint files of one machine. Uses no network except in `download`.

    Args:
        models: the user's models folder, with files as "<owner>/<repo>/<file>", "<repo>/<file>" or just "<file>".
        more: other folders of this kind, which are only read: nothing is downloaded there or deleted.
        assets: folder of the files shipped with this project.
        overrides: (engine, model, role) -> a file, a folder of shards or a diffusers folder.
        cache: whether the hub's cache is looked into too.
    """

    def __init__(
        self,
        *,
        models: Path | None = None,
        more: tuple[Path, ...] = (),
        assets: Path = ASSETS,
        overrides: Override | None = None,
        cache: bool = True,
    ) -> None:
        self.models, self.more, self.assets, self.cache = models, more, assets, cache
        self.overrides = dict(overrides or {})

    def find(self, weights: Weights, *, override: Path | None = None) -> tuple[Path | None, ...]:
        """The file of each entry of `weights.files`, None where there is none; an override answers for itself.

        In place of an index stand the files that it lists.
        """
        return tuple(path for _, path in self._listing(weights, override))

    def _listing(self, weights: Weights, override: Path | None = None) -> list[tuple[str, Path | None]]:
        """(name in the repository, file) of every file of a component; the index alone while it is not here."""
        if override is not None:
            return [(path.name, path if path.is_file() else None) for path in _overridden(weights, override)]
        found: list[tuple[str, Path | None]] = []
        for file in weights.files:
            path = self._find_file(weights, file)
            if path is None or not is_index(file):
                found.append((file, path))
            else:
                names = [f"{file.rpartition('/')[0]}/{name}".lstrip("/") for name in shard_names(path)]
                found += [(name, _beside(path, name) or self._find_file(weights, name)) for name in names]
        return found

    def require(self, engine: str, model: ModelSpec) -> dict[str, tuple[Path, ...]]:
        """All files of a model by role, each checked to be whole.

        Raises:
            MissingWeights: naming the repository, the file, its size and what to do.
            IncompatibleCheckpoint: a file is cut short or a stand-in.
        """
        found: dict[str, tuple[Path, ...]] = {}
        missing: list[tuple[Weights, str]] = []
        documents: set[Path] = set()
        for weights in model.weights:
            listing = self._listing(weights, self.overrides.get((engine, model.name, weights.role)))
            missing += [(weights, file) for file, path in listing if path is None]
            found[weights.role] = tuple(path for _, path in listing if path is not None)
            documents |= {path for file, path in listing if path is not None and file.endswith(DOCUMENTS)}
        if missing:
            raise _missing(model, missing)
        for paths in found.values():
            for path in paths:
                check_file(path, document=path in documents)
        return found

    def state(self, engine: str, model: ModelSpec) -> ModelState:
        """How much of the model is here; reads no file but an index."""
        missing: list[str] = []
        counted: set[Path] = set()  # one file may hold several components
        found_bytes = total_bytes = 0
        for weights in model.weights:
            listing = self._listing(weights, self.overrides.get((engine, model.name, weights.role)))
            left = [f"{weights.repo}/{file}" for file, path in listing if path is None]
            missing += left
            paths = {path for _, path in listing if path is not None} - counted
            counted |= paths
            here = sum(path.stat().st_size for path in paths)
            found_bytes += here
            total_bytes += max(weights.size_bytes, here) if left else here
        if not missing:
            bundled = all(not weights.repo for weights in model.weights)
            return ModelState("bundled" if bundled else "installed", found_bytes, total_bytes)
        return ModelState("partial" if found_bytes else "missing", found_bytes, total_bytes, tuple(missing))

    def download(self, engine: str, model: ModelSpec, *, watch: Watch | None = None) -> Iterator[str]:
        """Fetch what is missing, one file at a time; yields "repo/file" before each. Interrupted files are resumed.

        Raises:
            MissingWeights: offline, or the repository or file is not to be had.
            StudioError: there is too little free space, or a file came damaged.
            Stopped: by `watch`.
        """
        state = self.state(engine, model)
        self._check_space(state.total_bytes - state.found_bytes)
        for weights in sorted(model.weights, key=lambda weights: bool(weights.unpublished)):
            if not weights.repo or (engine, model.name, weights.role) in self.overrides:
                continue
            if weights.unpublished:  # last, so that all that can be had is here
                if missing := [(weights, file) for file, path in self._listing(weights) if path is None]:
                    raise _missing(model, missing)
                continue
            for _ in range(2):  # what an index lists is known once it is here
                for file in [file for file, path in self._listing(weights) if path is None]:
                    yield f"{weights.repo}/{file}"
                    folder = self.models / weights.repo if self.models else None
                    hub.fetch(weights.repo, file, folder=folder, watch=watch)

    def remove(self, engine: str, model: ModelSpec, *, others: Iterable[tuple[str, ModelSpec]]) -> int:
        """Delete the downloaded files of a model that no other installed model needs; returns the bytes given back.

        Files that the user named, or that are shipped with this project, stay.

        Raises:
            StudioError: a file could not be deleted.
        """
        kept = {
            path.resolve()
            for name, other in others
            if (name, other.name) != (engine, model.name) and not self.state(name, other).missing
            for path in self._downloaded(name, other)
        }
        gone = [path for path in self._downloaded(engine, model) if path.resolve() not in kept]
        try:
            return sum(hub.remove(path) for path in gone)
        except OSError as error:
            raise StudioError("A file of the model could not be deleted.", hint="Something may use it.") from error

    def _downloaded(self, engine: str, model: ModelSpec) -> list[Path]:
        entries = [weights for weights in model.weights if weights.repo and not weights.unpublished]
        listed = [weights for weights in entries if (engine, model.name, weights.role) not in self.overrides]
        indexes = [path for weights in listed for file in weights.files if (path := self._find_file(weights, file))]
        parts = [path for weights in listed for _, path in self._listing(weights) if path is not None]
        mine = (path for path in (*parts, *indexes) if not any(path.is_relative_to(folder) for folder in self.more))
        return list(dict.fromkeys(mine))

    def _check_space(self, needed_bytes: int) -> None:
        from huggingface_hub import constants

        folder = self.models or Path(constants.HF_HUB_CACHE)
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if needed_bytes > free:
            raise StudioError(
                f"The download needs {gigabytes(needed_bytes)} but the disk has only {gigabytes(free)} free.",
                hint="Free some space or choose a models folder on another disk.",
            )

    def _find_file(self, weights: Weights, file: str) -> Path | None:
        if not weights.repo:
            path = self.assets / file
            return path if path.is_file() else None
        for models in (self.models, *self.more):
            for folder in (weights.repo, weights.repo.rpartition("/")[2], ""):
                if models is not None and (path := models / folder / file).is_file():
                    return path
        if weights.unpublished or not self.cache:
            return None
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(weights.repo, file)
        return Path(cached) if isinstance(cached, str) else None


def parse_override(text: str) -> tuple[tuple[str, str, str], Path]:
    """ "engine/model/role=path" as an entry of `overrides`; raises StudioError."""
    name, equals, path = text.partition("=")
    parts = name.split("/")
    if not equals or not path or len(parts) != 3 or not all(parts):
        raise StudioError(f'"{text}" is no override.', hint="Write engine/model/role=path.")
    return (parts[0], parts[1], parts[2]), Path(path)


def _beside(index: Path, name: str) -> Path | None:
    """The file of a listed name beside its index, if it is there."""
    path = index.with_name(name.rpartition("/")[2])
    return path if path.is_file() else None


def _with_shards(path: Path) -> tuple[Path, ...]:
    """The file itself, or those that it lists."""
    return tuple(path.with_name(name) for name in shard_names(path)) if is_index(path.name) else (path,)


def _overridden(weights: Weights, path: Path) -> tuple[Path, ...]:
    """The files the user means: a file itself; in a folder the published names, else the checkpoint that is in it."""
    if path.is_file():
        return _with_shards(path)
    for names in (weights.files, [Path(file).name for file in weights.files]):
        published = [path / name for name in names]
        if all(file.is_file() for file in published):
            return tuple(shard for file in published for shard in _with_shards(file))
    if found := weights_in(path) or weights_in(path / weights.role):
        return found
    raise MissingWeights(
        f'There is no checkpoint of the {weights.role.replace("_", " ")} under "{path.name}".',
        hint="Give a checkpoint file, a folder of shards or a diffusers folder.",
    )


def _missing(model: ModelSpec, missing: list[tuple[Weights, str]]) -> MissingWeights:
    weights, file = next((entry for entry in missing if entry[0].unpublished), missing[0])
    if weights.unpublished:
        return MissingWeights(f"{file} is not on this machine, so {model.title} cannot run.", hint=weights.unpublished)
    if not weights.repo:
        return MissingWeights(
            f"{file}, which is shipped with this project, is not in its assets folder.",
            hint="Get a complete copy of the project.",
        )
    sizes = {id(entry): entry.size_bytes for entry, _ in missing}
    others = f" and {len(missing) - 1} more files" if len(missing) > 1 else ""
    verb = "are" if others else "is"
    return MissingWeights(
        f"{file} of {weights.repo}{others} ({gigabytes(sum(sizes.values()))}) {verb} not on this machine, "
        f"so {model.title} cannot run.",
        hint=f"Download the model, or put the file into the models folder as {weights.repo}/{file}.",
    )
