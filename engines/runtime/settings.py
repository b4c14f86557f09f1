"""What a process that makes clips is told when it starts: one typed value, sent once. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from engines.errors import StudioError
from engines.loading.store import Store, parse_override
from engines.runtime.attention import AUTO


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """What holds for every device of a machine. One more setting is one more line here: it reaches every process.

    Attributes:
        models: folder with downloaded checkpoints; None leaves it to the engine layer.
        memory_gb: most memory of its device that a worker may use, in GB; None leaves the choice to the worker.
        overrides: "engine/model/role=path", for checkpoint files kept elsewhere.
        preload: import the heavy libraries before the first job, where there is memory enough.
        attention: what attention is computed with: of engines.runtime.attention.CHOICES.
    """

    models: Path | None = None
    memory_gb: float | None = None
    overrides: tuple[str, ...] = ()
    preload: bool = True
    attention: str = AUTO

    def files(self) -> Store:
        """The checkpoint files of this machine; raises StudioError for an override that is none."""
        return Store(models=self.models, overrides=dict(map(parse_override, self.overrides)))

    def runtime(self, device: str, *, outputs: Path, log: str = "") -> RuntimeSettings:
        """What the process that owns `device` is told; see RuntimeSettings."""
        shared: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(MachineSettings)}
        return RuntimeSettings(**shared, device=device, outputs=outputs, log=log)


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings(MachineSettings):
    """Everything that one process needs to know to make clips on one device.

    Every path in it is absolute, for the process that reads it may stand in another folder.

    Attributes:
        device: "cpu", "cuda:0", "mps".
        outputs: folder of the finished clips.
        log: the file with the details of its failures, relative to `outputs`; "" if there is none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    device: str = "cpu"
    outputs: Path = Path("outputs")
    log: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", self.outputs.absolute())
        if self.models is not None:
            object.__setattr__(self, "models", self.models.absolute())
        entries = ((text, *text.partition("=")) for text in self.overrides)
        absolute = tuple(f"{name}={Path(path).absolute()}" if path else text for text, name, _, path in entries)
        object.__setattr__(self, "overrides", absolute)

    @property
    def memory_bytes(self) -> int | None:
        """The most that may be used of the device; None for most of what is free."""
        return int(self.memory_gb * 1e9) if self.memory_gb else None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(line: str | bytes) -> RuntimeSettings:
        """The settings in one line of JSON; raises StudioError if there are none in it."""
        try:  # Python's own JSON carries names of files that are no text
            return _adapter.validate_python(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise StudioError("This line holds no settings of a worker.") from error


_adapter = TypeAdapter(RuntimeSettings)
