"""What a process that makes clips is told when it starts: one typed value, sent once. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from engines.errors import StudioError
from engines.loading.store import Store, parse_override
from engines.memory import planning
from engines.memory.budget import limit_of
from engines.runtime.attention import AUTO
from engines.runtime.compiling import OFF


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """What holds for every device of a machine. One more setting is one more line here: it reaches every process.

    Attributes:
        models: folder with downloaded checkpoints; None leaves it to the engine layer.
        more_models: other folders with checkpoints, which are only read.
        memory_gb: device -> the most GB of it that may be used, "" for every other; without one, what is free less a
            reserve.
        overrides: "engine/model/role=path", for checkpoint files kept elsewhere.
        preload: import the heavy libraries before the first job, where there is memory enough.
        attention: what attention is computed with: of engines.runtime.attention.CHOICES.
        compile: when networks are compiled: of engines.runtime.compiling.CHOICES.
        certificate: the file that signs what is made, see engines.media.credentials; None signs nothing.
        precision: what networks should be held in: of engines.memory.planning.PRECISIONS.
    """

    models: Path | None = None
    more_models: tuple[Path, ...] = ()
    memory_gb: Mapping[str, float] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    preload: bool = True
    attention: str = AUTO
    compile: str = OFF
    certificate: Path | None = None
    precision: str = planning.AUTO

    def files(self) -> Store:
        """The checkpoint files of this machine; raises StudioError for an override that is none."""
        overrides = dict(map(parse_override, self.overrides))
        return Store(models=self.models, more=self.more_models, overrides=overrides)

    def runtime(self, device: str, *, outputs: Path, log: str = "", workers: int = 1) -> RuntimeSettings:
        """What the process that owns `device` is told; see RuntimeSettings."""
        shared: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(MachineSettings)}
        return RuntimeSettings(**shared, device=device, outputs=outputs, log=log, workers=workers)


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings(MachineSettings):
    """Everything that one process needs to know to make clips on one device.

    Every path in it is absolute, for the process that reads it may stand in another folder.

    Attributes:
        device: "cpu", "cuda:0", "mps".
        outputs: folder of the finished clips.
        log: the file with the details of its failures, relative to `outputs`; "" if there is none.
        workers: how many such processes share the RAM of this machine.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    device: str = "cpu"
    outputs: Path = Path("outputs")
    log: str = ""
    workers: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", self.outputs.absolute())
        if self.models is not None:
            object.__setattr__(self, "models", self.models.absolute())
        if self.certificate is not None:
            object.__setattr__(self, "certificate", self.certificate.absolute())
        object.__setattr__(self, "more_models", tuple(folder.absolute() for folder in self.more_models))
        entries = ((text, *text.partition("=")) for text in self.overrides)
        absolute = tuple(f"{name}={Path(path).absolute()}" if path else text for text, name, _, path in entries)
        object.__setattr__(self, "overrides", absolute)

    @property
    def memory_bytes(self) -> int | None:
        """The most that may be used of the device; None for what is free, less a reserve."""
        return limit_of(self.memory_gb, self.device)

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
