"""Every error a caller of the engine layer can meet.

StudioError
├── InvalidRequest          the request cannot be run as it stands; carries one Problem per field
├── MissingWeights          a checkpoint file is not on this machine
├── IncompatibleCheckpoint  a checkpoint file is damaged or belongs to another model
│   └── NotFinite           a network made numbers that are not finite
├── OutOfMemory             the device or the machine has too little memory for this request
├── DeviceError             the device failed or its worker process died
├── MediaError              a picture or video could not be read or written
└── RefinerError            a language model gave no usable prompt

A message says what is wrong, a hint says what to change; both are shown to people and hold no absolute path.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field of a request, in one sentence that says what to change."""

    field: str
    message: str


class StudioError(Exception):
    """Base of all expected failures.

    Args:
        message: one sentence for people, no traceback and no absolute path.
        hint: what to do about it, may be empty.
        unforeseen: whether nobody foresaw it, so that its cause belongs into the log.
    """

    def __init__(self, message: str, *, hint: str = "", unforeseen: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.unforeseen = unforeseen

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidRequest(StudioError):
    """The request has problems; nothing was loaded."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = tuple(problems)


class MissingWeights(StudioError):
    """A file of the model is not on this machine."""


class IncompatibleCheckpoint(StudioError):
    """A file of the model is truncated, damaged or belongs to another model."""


class NotFinite(IncompatibleCheckpoint):
    """A network made numbers that are not finite: its weights are damaged, or do not stand its precision.

    Args:
        role: which network: "transformer", "vae", "text_encoder", ...
        when: for people: "at step 3 of 20", may be empty.
        file: the name of its file, where it is known.
    """

    def __init__(self, role: str, *, when: str = "", file: str = "") -> None:
        self.role, self.when = role, when
        network = f"The {role.replace('_', ' ')}" + (f" {file}" if file else "")
        super().__init__(
            f"{network} made numbers that are not finite{f' {when}' if when else ''}, so there is no clip.",
            hint="Its file is damaged or does not stand this precision: use another file.",
        )


class OutOfMemory(StudioError):
    """The request does not fit; the hint says what would."""


class DeviceError(StudioError):
    """The device or its worker process failed."""


class MediaError(StudioError):
    """A picture could not be read, or a video could not be written."""


class RefinerError(StudioError):
    """A language model that was to refine a prompt gave none that can be used."""
