"""How long clips take: from measured stages to one bar that never goes back, and the end of the whole queue."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from engines.events import Clip, Done, Stage, Step
from studio.jobs import pace
from studio.jobs.pace import FIRST_GUESS, Plan, Run, Span, Work
from studio.jobs.progress import ActiveJobs
from studio.jobs.store import Job, JobStore

TOOK = (
    Span("Starting", 8.0),
    Span("Reading the prompt", 2.0),
    Span("Making the video", 20.0, 10),
    Span("Decoding", 5.0, 33),
)
REQUEST = {"model": "starter", "width": 96, "height": 64, "frames": 33, "steps": 10, "seed": 1, "prompt": ""}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore(tmp_path / "studio.sqlite3")
    yield store
    store.close()


def test_counted_stages_follow_size_length_and_steps_and_others_do_not() -> None:
    twice = pace.plan(TOOK, Work(1000, 10), Work(2000, 30))
    assert [span.seconds for span in twice.spans] == [8.0, 2.0, 120.0, 10.0]
    assert twice.seconds == 140.0


def run_through(
    active: ActiveJobs, clock: Clock, job: Job, *, tempo: float = 1.0, stages: tuple[Span, ...] = TOOK
) -> list[tuple[float, float, float | None]]:
    """Let a job happen; returns (elapsed, share, left) of many looks."""
    active.begin(job, device="CPU")
    began, looks = clock.now, []

    def look() -> None:
        known = active.progress(job.id)
        looks.append((clock.now - began, known.share, known.left_s))

    look()
    for span in stages:
        active.take(job.id, Stage(name=span.stage))
        parts = span.steps or 8
        for index in range(parts):
            for _ in range(3):
                clock.now += span.seconds * tempo / parts / 3
                look()
            if span.steps:
                active.take(job.id, Step(index=index + 1, total=span.steps, eta_s=1.0))
                look()
    return looks


def finish(active: ActiveJobs, job: Job) -> None:
    clip = Clip(video="v.mp4", sidecar="v.json", poster="v.png", request=REQUEST, seconds={}, peak_bytes=0)
    active.end(job.id, Done(result=clip))


@pytest.mark.parametrize("tempo", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("model", ["starter", "1.3B"])
@pytest.mark.parametrize("known", [True, False])
def test_the_bar_never_goes_back_and_what_is_left_comes_true(
    store: JobStore, tempo: float, model: str, known: bool
) -> None:
    clock = Clock()
    active = ActiveJobs(store, clock=clock)
    first, second = store.add(Job(engine="phantom-wan", request=REQUEST | {"model": model}) for _ in range(2))
    if known:
        run_through(active, clock, first)
        finish(active, first)
    looks = run_through(active, clock, second, tempo=tempo)
    shares = [share for _, share, _ in looks]
    assert all(before <= after for before, after in itertools.pairwise(shares))
    assert 0.9 < shares[-1] < 1
    whole = looks[-1][0]
    assert (looks[0][2] is not None) == (known or model == "starter"), "of other models nothing is known at first"
    making = [(at, left) for at, _, left in looks if 14.5 * tempo < at < 30 * tempo]
    assert making
    for at, left in making:  # once two steps are done
        assert abs(at + left - whole) < 0.35 * whole


def test_a_known_clip_is_told_right_from_its_first_moment_its_start_included(store: JobStore) -> None:
    clock = Clock()
    active = ActiveJobs(store, clock=clock)
    first, second = store.add(Job(engine="phantom-wan", request=REQUEST) for _ in range(2))
    run_through(active, clock, first)
    finish(active, first)
    assert active.plan(second).seconds == pytest.approx(35.0)
    for at, share, left in run_through(active, clock, second):
        assert share == pytest.approx(min(0.99, at / 35), abs=0.09)
        assert left == pytest.approx(35 - at, abs=3.0)


def test_a_clip_that_stopped_early_teaches_nothing(store: JobStore) -> None:
    clock = Clock()
    active = ActiveJobs(store, clock=clock)
    stopped, later = store.add(Job(engine="phantom-wan", request=REQUEST) for _ in range(2))
    before = active.plan(later)
    run_through(active, clock, stopped)
    active.keeping(stopped.id)
    finish(active, stopped)
    assert active.plan(later) == before


def test_stages_are_over_only_once_and_an_unknown_one_harms_nothing() -> None:
    plan = Plan(TOOK)
    odd = Run((Span("Starting", 1.0),), "Cutting out", elapsed=4.0)
    share, left = pace.outlook(plan, odd)
    assert 0 < share < 1 and left > 25
    over = Run(TOOK, "Saving", elapsed=0.0)
    assert pace.outlook(plan, over) == (0.99, 0.0)


def test_nothing_is_promised_of_what_is_ended_or_held_and_held_time_does_not_count(store: JobStore) -> None:
    clock = Clock()
    active = ActiveJobs(store, clock=clock)
    (job,) = store.add([Job(engine="phantom-wan", request=REQUEST)])
    active.begin(job, device="CPU")
    active.take(job.id, Stage(name="Making the video"))
    for index in range(1, 4):
        clock.now += 2.0
        active.take(job.id, Step(index=index, total=10))
    before = active.progress(job.id)
    active.hold(True)
    clock.now += 3600
    held = active.progress(job.id)
    assert held.held and held.left_s is None and held.share == before.share
    active.hold(False)
    after = active.progress(job.id)
    assert not after.held and after.left_s == pytest.approx(before.left_s)
    assert after.elapsed_s == pytest.approx(6.0)
    active.cancelling(job.id)
    assert active.progress(job.id).left_s is None


def test_what_was_measured_outlives_the_studio_and_the_clip(tmp_path: Path) -> None:
    for again in range(2):
        store = JobStore(tmp_path / "studio.sqlite3")
        clock = Clock()
        active = ActiveJobs(store, clock=clock)
        (job,) = store.add([Job(engine="phantom-wan", request=REQUEST | {"model": "1.3B"})])
        assert (active.plan(job).seconds is None) == (again == 0)
        if not again:
            run_through(active, clock, job)
            finish(active, job)
            store.delete(job.id)
        store.close()


def test_the_first_clip_of_a_built_in_model_has_a_guess_and_no_other_has(store: JobStore) -> None:
    active = ActiveJobs(store)
    jobs = store.add(
        Job(engine="phantom-wan", request=REQUEST | {"model": name}) for name in ("starter", "14B", "gone")
    )
    assert [active.plan(job).seconds for job in jobs] == [sum(span.seconds for span in FIRST_GUESS), None, None]


def test_a_queue_is_done_when_its_devices_are() -> None:
    assert pace.finish_times([10.0], [5.0, 5.0], devices=1) == [15.0, 20.0]
    assert pace.finish_times([10.0], [5.0, 7.0, 1.0], devices=2) == [5.0, 12.0, 11.0]
    assert pace.finish_times([], [3.0], devices=0) == [3.0]
    assert pace.finish_times([None], [5.0], devices=1) == [None]
    assert pace.finish_times([None], [5.0, None, 2.0], devices=2) == [5.0, None, None]
