"""What a worker says, one JSON line each: typed for both ends of the pipe. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engines.events import Event


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Ready(_Message):
    """The worker takes commands; nothing heavy is loaded yet."""

    message: Literal["ready"] = "ready"
    device: str
    pid: int


class JobEvent(_Message):
    """Something happened in a job; the last event of a job is Done, Failed or Cancelled."""

    message: Literal["event"] = "event"
    job: str
    event: Event


class Held(_Message):
    """A network kept warm: "device", "grouped" (in RAM, its blocks visit the device) or "ram"."""

    key: str
    where: str
    size_bytes: int


class Status(_Message):
    """Who is where and how big; sent after every job and on request. Zeros until the device was first used."""

    message: Literal["status"] = "status"
    device: str
    components: tuple[Held, ...] = ()
    budget_bytes: int = 0
    free_bytes: int = 0
    total_bytes: int = 0


class Refused(_Message):
    """A command line was not understood."""

    message: Literal["refused"] = "refused"
    reason: str


Message = Annotated[Ready | JobEvent | Status | Refused, Field(discriminator="message")]

_adapter: TypeAdapter[Any] = TypeAdapter(Message)


def parse(line: str | bytes) -> Any:
    """The message in one line of JSON; raises pydantic.ValidationError if it is none."""
    return _adapter.validate_json(line)
