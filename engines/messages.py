"""What the studio tells a worker and what it answers, one JSON line each: typed for both ends of the pipe.

The first line that a worker reads is its RuntimeSettings; from then on it takes commands. Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engines.events import Answer, Cancelled, Event, Failed, Words
from engines.parallel.choosing import Split


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Membership(_Message):
    """The part of a process in a group that makes one clip together.

    `rank` 0 of `size` speaks, decodes and writes; the others only help with the steps. They meet at `meeting`, an
    address that no other group ever uses; `split` is what they share, `devices` are all of theirs, by rank.
    """

    rank: int
    size: int
    meeting: str
    split: Split
    devices: tuple[str, ...] = ()


class Generate(_Message):
    """Make a clip. `job` is its name, and that of its files; `request` holds the request's fields as JSON values.

    With a `group`, take part in it. Without `metadata` the clip tells no settings; the file beside it does.
    `ahead` is how many steps the clips of the same shape have that wait behind it.
    """

    command: Literal["generate"] = "generate"
    job: str
    engine: str
    request: dict[str, Any]
    group: Membership | None = None
    metadata: bool = True
    ahead: int = 0


class Ask(_Message):
    """Answer a short question, also while a clip is made. `task` says which, see engines/prompting/tasks.py.

    `text` and `pictures` are what it is about, `engine` and `model` what the answer is for.
    """

    command: Literal["ask"] = "ask"
    id: str
    task: str
    text: str = ""
    pictures: tuple[Path, ...] = ()
    engine: str = ""
    model: str = ""


class Cancel(_Message):
    """End a job, or a question, by its id. With `keep` a job ends with the clip of the frames it has."""

    command: Literal["cancel"] = "cancel"
    id: str
    keep: bool = False


class Hold(_Message):
    """Let the job wait between two steps, or go on. It keeps what it has made, and its memory."""

    command: Literal["hold"] = "hold"
    held: bool


class Free(_Message):
    """Give back the memory that weights hold."""

    command: Literal["free"] = "free"


class Allow(_Message):
    """From the next job on, use at most so much of the device; None for what is free, less a reserve."""

    command: Literal["allow"] = "allow"
    memory_bytes: int | None = None


class LookIn(_Message):
    """From the next job on, files of models may lie in these folders too."""

    command: Literal["look_in"] = "look_in"
    folders: tuple[Path, ...] = ()


class Shutdown(_Message):
    """End soon."""

    command: Literal["shutdown"] = "shutdown"


Command = Annotated[Allow | LookIn | Generate | Ask | Cancel | Hold | Free | Shutdown, Field(discriminator="command")]


class Ready(_Message):
    """The worker takes commands; nothing heavy is loaded yet.

    `lacking` are the models ("engine/model") whose files are not there. Only a worker on another machine tells them,
    also later: of this one the studio knows.
    """

    message: Literal["ready"] = "ready"
    device: str
    pid: int
    lacking: tuple[str, ...] = ()


class JobEvent(_Message):
    """Something happened in a job; the last event of a job is Done, Failed or Cancelled."""

    message: Literal["event"] = "event"
    job: str
    event: Event


class AskEvent(_Message):
    """A piece of an answer; the last event of a question is Answer, Failed or Cancelled."""

    message: Literal["asked"] = "asked"
    id: str
    event: Annotated[Words | Answer | Failed | Cancelled, Field(discriminator="type")]


class Held(_Message):
    """A network kept warm: "device", "grouped" (in RAM, its blocks visit the device) or "ram".

    `models` are those that have used it since it was built, as "engine/model".
    """

    key: str
    where: str
    size_bytes: int
    models: tuple[str, ...] = ()


class Status(_Message):
    """Who is where and how big; sent after every job and when memory was freed. Zeros until the device was used.

    `half` is the half precision that a device of another machine multiplies itself, as in planning.Abilities.
    """

    message: Literal["status"] = "status"
    device: str
    components: tuple[Held, ...] = ()
    budget_bytes: int = 0
    free_bytes: int = 0
    total_bytes: int = 0
    half: str = ""


class Leaving(_Message):
    """The process ends after the job it has: the device cannot be used by it any more. Send it nothing."""

    message: Literal["leaving"] = "leaving"


class Refused(_Message):
    """A command line was not understood."""

    message: Literal["refused"] = "refused"
    reason: str


Message = Annotated[Ready | JobEvent | AskEvent | Status | Leaving | Refused, Field(discriminator="message")]

_messages: TypeAdapter[Any] = TypeAdapter(Message)
_commands: TypeAdapter[Any] = TypeAdapter(Command)


def parse(line: str | bytes) -> Any:
    """The message in one line of JSON; raises pydantic.ValidationError if it is none."""
    return _messages.validate_json(line)


def parse_command(line: str | bytes) -> Any:
    """The command in one line of JSON; raises ValueError if it is none. Names of files may be no text in it."""
    try:
        return _commands.validate_python(json.loads(line))
    except RecursionError as error:
        raise ValueError("too deep") from error
