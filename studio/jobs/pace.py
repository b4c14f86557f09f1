"""How long a clip takes: what earlier ones measured, stage by stage, and what that says of one that runs.

Pure functions. A stage that counts steps takes longer for a larger, longer or finer clip; any other takes as long as it
took before. Until something was measured the built-in models have times of their own, and others only shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_SHARE = 0.99  # a clip is done when its file stands
_OVERDUE = 0.15
"""What a stage that lasts longer than planned still takes, of what it has taken."""
_TEMPOS = (0.25, 8.0)
"""How much quicker or slower than planned this run may be taken for."""


@dataclass(frozen=True)
class Work:
    """What is asked of a clip, as far as its time goes: width x height x frames, and steps (0 where it has none)."""

    volume: int
    steps: int = 0

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Work:
        """The work of a request's fields."""
        width, height, frames = (int(request.get(name) or 1) for name in ("width", "height", "frames"))
        steps = request.get("steps")
        return cls(width * height * frames, steps if type(steps) is int else 0)


@dataclass(frozen=True)
class Span:
    """A stage and how long it lasts, in seconds; `steps` is what it counted to, 0 if it did not count."""

    stage: str
    seconds: float
    steps: int = 0


@dataclass(frozen=True)
class Plan:
    """The stages of a clip in their order; `in_seconds` is False where only their shares mean something."""

    spans: tuple[Span, ...]
    in_seconds: bool = True

    @property
    def seconds(self) -> float | None:
        """How long all of it takes; None where nobody knows."""
        return sum(span.seconds for span in self.spans) if self.in_seconds else None

    def of(self, stage: str) -> Span | None:
        """The stage of this name."""
        return next((span for span in self.spans if span.stage == stage), None)

    def after(self, stages: Iterable[str]) -> list[Span]:
        """What comes after the last of these stages."""
        known = {name: index for index, name in reversed([*enumerate(span.stage for span in self.spans)])}
        last = max((known[stage] for stage in stages if stage in known), default=-1)
        return [*self.spans[last + 1 :]]


FIRST_GUESS = (
    Span("Starting", 6.0),
    Span("Getting ready", 4.0),
    Span("Reading the prompt", 1.5),
    Span("Making the video", 12.0, 1),
    Span("Decoding", 2.5, 1),
)
"""The stages of a built-in model's first clip on a laptop; shares of any other model's."""


def plan(spans: Sequence[Span], was: Work, now: Work) -> Plan:
    """What a clip will take whose like once took `spans`."""
    volume = now.volume / max(1, was.volume)
    steps = now.steps / was.steps if now.steps and was.steps else 1.0
    return Plan(tuple(_scaled(span, volume, steps, was) for span in spans))


def _scaled(span: Span, volume: float, steps: float, was: Work) -> Span:
    if not span.steps:
        return span
    denoises = span.steps == was.steps or not was.steps
    return Span(span.stage, span.seconds * volume * (steps if denoises else 1.0), span.steps)


@dataclass(frozen=True)
class Run:
    """How far a clip is, times in seconds without those in which it was held.

    Attributes:
        done: the stages that are over.
        stage: the one that lasts, since `elapsed`.
        index: steps of it that are done, of `total`; 0, 0 where it does not count.
        first_step: how long its first step took, with all that came before it.
        last_step: when its last step was done, from the stage's beginning.
    """

    done: tuple[Span, ...]
    stage: str
    elapsed: float
    index: int = 0
    total: int = 0
    first_step: float = 0.0
    last_step: float = 0.0


def outlook(plan: Plan, run: Run) -> tuple[float, float | None]:
    """The share of the clip that is done, 0..1, and the seconds that are left of it, None where nobody can know."""
    here, sure = _rest(plan.of(run.stage), run)
    whole = run.elapsed + here
    tempo = _tempo(plan, run, whole if sure else None)
    later = plan.after([*(span.stage for span in run.done), run.stage])
    past = sum(span.seconds for span in run.done) + run.elapsed
    if plan.in_seconds or tempo is not None:
        left = here + sum(span.seconds for span in later) * (tempo or 1.0)
        return min(_MOST_SHARE, past / max(past + left, 1e-9)), left
    return min(_MOST_SHARE, _share(plan, run)), None


def _rest(planned: Span | None, run: Run) -> tuple[float, bool]:
    """Seconds left of the stage that lasts, and whether its own steps say so."""
    if run.index >= 2:
        each = (run.last_step - run.first_step) / (run.index - 1)
        return max(0.0, each * (run.total - run.index) - (run.elapsed - run.last_step)), True
    if run.index == 1 and planned is None:
        return run.first_step * (run.total - 1), True
    expected = planned.seconds if planned is not None else 0.0
    if run.index == 1 and planned is not None:
        expected = run.first_step + planned.seconds * (run.total - 1) / max(1, run.total)
    return max(expected - run.elapsed, _OVERDUE * run.elapsed), False


def _tempo(plan: Plan, run: Run, whole: float | None) -> float | None:
    """How much slower than planned the counted stages went; None before one can be judged."""
    seen = [*run.done] + ([Span(run.stage, whole, run.total)] if whole is not None else [])
    pairs = [(span, plan.of(span.stage)) for span in seen if span.steps]
    known = [(span.seconds, planned.seconds) for span, planned in pairs if planned is not None and planned.seconds]
    if not known:
        return None
    low, high = _TEMPOS if plan.in_seconds else (0.0, math.inf)
    return min(high, max(low, sum(took for took, _ in known) / sum(planned for _, planned in known)))


def _share(plan: Plan, run: Run) -> float:
    """The share by what stages usually take of a clip, where seconds mean nothing yet."""
    whole = sum(span.seconds for span in plan.spans) or 1.0
    over = {span.stage for span in run.done}
    past = sum(span.seconds for span in plan.spans if span.stage in over)
    here = plan.of(run.stage)
    if here is None:
        return past / whole
    part = run.index / run.total if run.total else 1 - math.exp(-run.elapsed / max(1.0, here.seconds))
    return (past + here.seconds * part) / whole


def finish_times(running: Sequence[float | None], waiting: Sequence[float | None], devices: int) -> list[float | None]:
    """Seconds until each waiting clip is done, in their order, on so many devices that each make one at a time.

    Args:
        running: seconds left of the clips being made, None where nobody knows.
        waiting: how long the waiting ones take, likewise: None makes what comes behind it unknown too.
    """
    free: list[float | None] = [*running, *([0.0] * max(0, max(1, devices) - len(running)))]
    times: list[float | None] = []
    for seconds in waiting:
        known = [(at, index) for index, at in enumerate(free) if at is not None]
        begins, index = min(known, default=(None, 0))
        ends = begins + seconds if begins is not None and seconds is not None else None
        free[index] = ends
        times.append(ends)
    return times
