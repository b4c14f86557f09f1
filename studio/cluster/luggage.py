"""What travels with an order: the files that it names, called by their content on the machine that makes the clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from engines import registry
from engines.editing import spec as editing
from engines.inputs import Media, with_files
from engines.media.metadata import sha256
from engines.messages import Ask, Generate

CHUNK_BYTES = 2**20


class Luggage:
    """The files of one order.

    Args:
        folder: where they will lie on the other machine.

    Attributes:
        files: name below `folder` -> the file here. A name ends as the file's does, which engines and metadata read.
    """

    def __init__(self, folder: PurePath) -> None:
        self._folder = folder
        self.files: dict[str, Path] = {}

    def order(self, order: Generate) -> Generate:
        """The order with its files named as they will be called there; raises OSError for one that cannot be read."""
        edit = editing.of_job(order.engine)
        spec = registry.SPECS.get(order.engine)
        declared = edit.request_type if edit is not None else spec.request_type if spec is not None else None
        if declared is None:
            return order

        def packed(_field: str, _declared: Media, entry: Any) -> Any:
            if isinstance(entry, Mapping):
                return dict(entry) | {"path": self._packed(str(entry["path"]))}
            return self._packed(str(entry))

        return order.model_copy(update={"request": with_files(declared, order.request, packed, leave=())})

    def question(self, question: Ask) -> Ask:
        """The same of a question."""
        return question.model_copy(
            update={"pictures": tuple(Path(self._packed(str(one))) for one in question.pictures)}
        )

    def home(self, values: Any) -> Any:
        """JSON values from there with the names that these files have here."""
        if isinstance(values, Mapping):
            return {name: self.home(value) for name, value in values.items()}
        if isinstance(values, list | tuple):
            return [self.home(value) for value in values]
        known = {str(self._folder / name): str(path) for name, path in self.files.items()}
        return known.get(values, values) if isinstance(values, str) else values

    def _packed(self, name: str) -> str:
        path = Path(name)
        place = sha256(path)[:16]
        self.files[f"{place}/{path.name}"] = path
        beside = path.with_suffix(".json")
        if path.suffix == ".mp4" and beside.is_file():  # what the clip does not tell of itself
            self.files[f"{place}/{beside.name}"] = beside
        return str(self._folder / place / path.name)


def chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces, at least one; raises OSError."""
    with path.open("rb") as file:
        yield file.read(CHUNK_BYTES)
        while piece := file.read(CHUNK_BYTES):
            yield piece
