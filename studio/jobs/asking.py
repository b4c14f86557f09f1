"""Waiting for an answer that a process writes: piece by piece, and never for ever."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

from engines.errors import StudioError
from engines.events import Answer, Cancelled, Failed, Words

PATIENCE_S = 30.0
"""How long a question may stay without an answer, or without a further word of it."""


class NoAnswer(StudioError):
    """The answer takes too long; the question still stands and should be cancelled."""


def pieces(inbox: queue.SimpleQueue[Any], *, patience_s: float = PATIENCE_S) -> Iterator[Words | Answer]:
    """Words as they come and the whole Answer last.

    Args:
        inbox: the events of the question; None when the process that had it ended.

    Raises:
        NoAnswer: nothing came for `patience_s`.
        StudioError: there is no answer; says why.
    """
    while True:
        try:
            event = inbox.get(timeout=patience_s)
        except queue.Empty:
            raise NoAnswer("The answer takes too long.", hint="Try again when the device has less to do.") from None
        match event:
            case Words():
                yield event
            case Answer():
                yield event
                return
            case Failed():
                raise StudioError(event.message, hint=event.hint)
            case Cancelled():
                raise StudioError("The question was cancelled.")
            case _:
                raise StudioError("The process that was to answer ended unexpectedly.", hint="Try again.")
