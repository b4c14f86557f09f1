"""What a worker can be asked beside making clips: short questions, answered in words. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from engines.events import Answer, Words
from engines.messages import Ask

Answering = Callable[[Ask, Any], Generator[Words | Answer, None, None]]


@dataclass(frozen=True)
class Task:
    """One kind of question.

    Attributes:
        implementation: "module:function" of what answers it, imported on first use. It is given the question and the
            Session of the device (None where it needs no device), and yields Words while it writes and an Answer last.
        needs_device: whether it runs networks. Then the one thread that owns the device answers, between two steps of
            a running clip and with the networks of the same cache; otherwise a thread of its own does, at once.
        patience_s: how long it may stay without an answer, or without a further word of it.
    """

    implementation: str
    needs_device: bool = False
    patience_s: float = 30.0

    def answering(self) -> Answering:
        """The function behind the task."""
        module, name = self.implementation.split(":")
        function: Answering = getattr(import_module(module), name)
        return function


# A network is read from its files first, and a running clip's step is finished.
_LOADING_S = 600.0
# Who refines prompts, by the name that the settings choose by; each is a task of its own.
REFINERS: dict[str, Task] = {
    "rules": Task("engines.prompting.rules:answer"),
    "endpoint": Task("engines.prompting.endpoint:answer"),
    "qwen-3b": Task("engines.prompting.local:answer", needs_device=True, patience_s=_LOADING_S),
    "qwen-7b": Task("engines.prompting.local:answer", needs_device=True, patience_s=_LOADING_S),
}
CALIBRATE = "calibrate"
TASKS: dict[str, Task] = {
    **{f"refine by {name}": task for name, task in REFINERS.items()},
    CALIBRATE: Task("engines.runtime.calibrating:answer", needs_device=True, patience_s=_LOADING_S),
}


def refining_task(refiner: str) -> str:
    """The name of the task by which `refiner` refines a prompt."""
    return f"refine by {refiner}"
