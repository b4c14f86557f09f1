"""What a running generation says: typed events that cross the process boundary as one JSON line each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Stage(_Event):
    """A named phase began, for example "Reading the prompt"."""

    type: Literal["stage"] = "stage"
    name: str


class Step(_Event):
    """Step `index` of `total` of the current stage is done; `eta_s` is the expected time to the end of the job."""

    type: Literal["step"] = "step"
    index: int
    total: int
    eta_s: float | None = None


class Preview(_Event):
    """A small picture of the clip as it stands: an animated WebP of a few frames."""

    type: Literal["preview"] = "preview"
    image: bytes


class Playback(_Event):
    """The finished part of the clip, small, to be played while the rest is made: an animated WebP."""

    type: Literal["playback"] = "playback"
    image: bytes


class Note(_Event):
    """Something the user should know that is no failure: a prompt was cut, a fallback was taken."""

    type: Literal["note"] = "note"
    message: str


class Done(_Event):
    """The clip stands under its final name."""

    type: Literal["done"] = "done"
    result: Clip


class Failed(_Event):
    """The job failed; `kind` is the class name in engines.errors ("StudioError" for anything unexpected).

    `log` is the file that has the details, relative to the outputs folder; "" where the sentence says all.
    """

    type: Literal["failed"] = "failed"
    kind: str
    message: str
    hint: str = ""
    log: str = ""

    @property
    def text(self) -> str:
        """The whole sentence for people."""
        details = f"The details are in {self.log}." if self.log else ""
        return " ".join(part for part in (self.message, self.hint, details) if part)


class Cancelled(_Event):
    """The job was cancelled; nothing stands under its final name."""

    type: Literal["cancelled"] = "cancelled"


class Helped(_Event):
    """A process that helped another one with its job is free again."""

    type: Literal["helped"] = "helped"


class Words(_Event):
    """The next words of an answer that is being written."""

    type: Literal["words"] = "words"
    text: str


class Answer(_Event):
    """A whole answer, why it is as it is, one sentence each, and who wrote it."""

    type: Literal["answer"] = "answer"
    text: str
    reasons: tuple[str, ...] = ()
    by: str = ""


class Clip(_Event):
    """A finished clip and its files. `request` is the request as run: after defaults, rounding and the drawn seed.

    `frames` is the length of the clip, less than asked for where it was stopped; None in results of old.
    `beside` are files that the engine keeps beside the clip, such as the latents it can be continued from; `figures`
    is what the engine measured of it. `device` is the one that made it, as people know it; "" in results of old.
    """

    video: str
    sidecar: str
    poster: str
    request: dict[str, Any]
    seconds: dict[str, float]
    peak_bytes: int
    frames: int | None = None
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    figures: dict[str, float] = {}
    device: str = ""


Done.model_rebuild()

Event = Annotated[
    Stage | Step | Preview | Playback | Note | Done | Failed | Cancelled | Helped, Field(discriminator="type")
]
TERMINAL = (Done, Failed, Cancelled, Helped)

_adapter: TypeAdapter[Any] = TypeAdapter(Annotated[Event | Words | Answer, Field(discriminator="type")])


def to_json(event: Any) -> str:
    """One line of JSON for `event`."""
    line: str = event.model_dump_json()
    return line


def from_json(line: str | bytes) -> Any:
    """The event in one line of JSON; raises pydantic.ValidationError if it is none."""
    return _adapter.validate_json(line)
