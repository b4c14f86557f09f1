"""Several workers that make one clip: what each of them says or suffers, and how the job ends by it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.events import Cancelled, Done, Failed, Helped
from engines.messages import Generate
from engines.registry import SPECS
from studio.jobs import crew as crew_module
from studio.jobs.assign import Candidate, Needs, Team, gather
from studio.jobs.crew import Crew
from studio.jobs.local import Device, LocalExecutor
from studio.jobs.store import Job
from studio.jobs.worker_process import DeviceState
from studio.service import Studio, open_studio
from studio.settings import BadSetting, Settings, from_environment
from tests.studio.conftest import values, wait_for
from tests.studio.test_assign import CPU, LARGE, SMALL, busy, warm
from tests.studio.test_executor import SLOW, until

PARTED = Failed(kind="Parted", message="Another device stopped.")
OURS = Failed(kind="OutOfMemory", message="Too large.")
DONE = object.__new__(Done)


class Member:
    """A process as a crew sees it."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.killed = False

    def send(self, command: Any) -> None:
        self.told.append(command)

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def crew() -> Crew:
    made = Crew("job", [Member(), Member(), Member()], split="guidance", titles=["A", "B", "C"])  # type: ignore[list-item]
    made.meet()
    made.begin(Generate(job="job", engine="e", request={}))
    return made


def meeting(crew: Crew) -> Path:
    return Path(crew.leader.told[0].group.meeting.removeprefix("file://"))


def test_everybody_is_told_its_place_and_where_to_meet(crew: Crew) -> None:
    places = [member.told[0].group for member in crew.members]
    assert [(place.rank, place.size, place.split) for place in places] == [(rank, 3, "guidance") for rank in range(3)]
    assert len({place.meeting for place in places}) == 1 and meeting(crew).parent.is_dir()
    assert places[0].devices == ("A", "B", "C") and crew.title == "A, B, C"
    crew.cancel()
    assert len(crew.leader.told) == 2 and len(crew.members[1].told) == 1, "the others stop when the first one has"


def test_one_alone_meets_nobody() -> None:
    alone = Crew("job", [Member()], split=None, titles=["A"])  # type: ignore[list-item]
    alone.meet()
    alone.begin(Generate(job="job", engine="e", request={}))
    assert alone.leader.told[0].group is None
    assert alone.ended(alone.leader, OURS) is OURS and alone.over


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([(1, Helped()), (0, DONE), (2, Helped())], DONE),
        ([(0, DONE), (1, Helped()), (2, PARTED)], DONE),
        ([(0, Cancelled()), (1, Helped()), (2, Helped())], Cancelled()),
        ([(0, OURS), (1, PARTED), (2, PARTED)], OURS),
        ([(1, OURS), (0, PARTED), (2, PARTED)], OURS),
        ([(0, PARTED), (2, PARTED), (1, OURS)], OURS),
        ([(2, PARTED), (0, PARTED), (1, OURS)], OURS),
        ([(0, PARTED), (1, Helped()), (2, Helped())], PARTED),
    ],
)
def test_the_job_ends_once_by_the_word_that_explains_it(crew: Crew, said: list[tuple[int, Any]], verdict: Any) -> None:
    place = meeting(crew).parent
    ends = [end for rank, word in said if (end := crew.ended(crew.members[rank], word)) is not None]
    assert ends == [verdict] and crew.over
    assert not place.exists() and not any(member.killed for member in crew.members)


def test_a_death_ends_the_job_and_those_who_wait_for_the_dead(crew: Crew) -> None:
    assert crew.ended(crew.leader, PARTED) is None, "somebody else may know why"
    assert crew.died(crew.members[1]) and crew.over
    assert crew.ended(crew.members[2], OURS) is None
    assert not crew.died(crew.members[2]), "its part was over"


def test_who_does_not_let_go_is_ended(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "_GRACE_S", 0.05)
    assert crew.ended(crew.leader, DONE) is DONE
    until(lambda: crew.members[1].killed and crew.members[2].killed, timeout_s=5)
    assert not crew.leader.killed
    assert not crew.died(crew.members[1])


# Who works together


def many(count: int, **more: Any) -> list[Candidate]:
    return [replace(LARGE, name=f"cuda:{number}", **more) for number in range(count)]


THREE = Needs("e/14B", 20 * 2**30, passes=3)
TWO = replace(THREE, passes=2)
LARGE_ONE = replace(TWO, holders=2)


@pytest.mark.parametrize(
    ("needs", "workers", "how", "team"),
    [
        (TWO, many(3), {"split": "none"}, (["cuda:0"], None)),
        (TWO, many(3), {"split": "guidance"}, (["cuda:0", "cuda:1"], "guidance")),
        (THREE, many(3), {"split": "guidance"}, (["cuda:0", "cuda:1", "cuda:2"], "guidance")),
        (THREE, [busy(many(1)[0]), *many(3)[1:]], {"split": "guidance"}, None),
        (TWO, [busy(many(1)[0]), *many(3)[1:]], {"split": "guidance"}, (["cuda:1", "cuda:2"], "guidance")),
        (replace(TWO, passes=1), many(2), {"split": "guidance"}, (["cuda:0"], None)),
        (TWO, [*many(1), warm(many(2)[1], "e/14B", 5)], {"split": "sequence"}, (["cuda:1", "cuda:0"], "sequence")),
        (TWO, [SMALL, *many(3)[1:], CPU], {"split": "sequence"}, (["cuda:1", "cuda:2"], "sequence")),
        (TWO, [CPU, replace(CPU, name="cpu:1")], {"split": "sequence"}, (["cpu", "cpu:1"], "sequence")),
        (TWO, many(2), {"split": "auto"}, (["cuda:0", "cuda:1"], "guidance")),
        (TWO, many(2), {"split": "auto", "waiting": 2}, (["cuda:0"], None)),
        (THREE, [busy(many(1)[0]), *many(3)[1:]], {"split": "auto"}, (["cuda:1", "cuda:2"], "guidance")),
        (TWO, many(3), {"split": "weights"}, (["cuda:0", "cuda:1", "cuda:2"], "weights")),
        (LARGE_ONE, many(3), {"split": "auto"}, (["cuda:0", "cuda:1", "cuda:2"], "weights")),
        (LARGE_ONE, many(2), {"split": "auto", "waiting": 5}, (["cuda:0", "cuda:1"], "weights")),
        (LARGE_ONE, [busy(many(1)[0]), *many(3)[1:]], {"split": "auto"}, (["cuda:1", "cuda:2"], "weights")),
        (LARGE_ONE, [busy(many(1)[0]), *many(2)[1:]], {"split": "auto"}, None),
        (LARGE_ONE, many(2), {"split": "none"}, (["cuda:0"], None)),
    ],
)  # fmt: skip
def test_who_makes_a_clip_together(
    needs: Needs, workers: list[Candidate], how: dict[str, Any], team: tuple[list[str], str | None] | None
) -> None:
    found = gather(needs, workers, **how)
    assert (found and ([worker.name for worker in found.workers], found.split)) == team
    assert found is None or isinstance(found, Team)


def test_devices_and_their_split_as_people_write_them() -> None:
    made = from_environment(devices="cpu, cpu,cuda,cuda:0", split="Guidance")
    assert made.devices == ("cpu", "cpu:1", "cuda:0") and made.split == "guidance"
    with pytest.raises(BadSetting, match="--split must be none, guidance, sequence, weights or auto"):
        from_environment(split="evenly")


# In the studio


@pytest.fixture
def pair(settings: Settings, specs: dict, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose two workers make nothing but speak the protocol, together."""
    monkeypatch.setattr(crew_module, "_GRACE_S", 0.5)
    both = replace(settings, devices=("cpu", "cpu:1"), split="guidance")
    studio = open_studio(both, LocalExecutor, command=(sys.executable, "-m", "tests.studio.plain_worker"))
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


def begun(studio: Studio, picture: Path, prompt: str) -> tuple[Any, Any, Any]:
    """A running job and the processes that make it."""
    (job,) = studio.submit("phantom-wan", values(picture, prompt))
    wait_for(studio, job, "running")
    until(lambda: (now := studio.executor.progress(job.id)) is not None and now.index)
    crew = studio.executor._crew(job.id)
    return job, crew.members[0], crew.members[1]


def test_two_workers_make_clip_after_clip_and_both_are_free_again(pair: Studio, picture: Path) -> None:
    jobs = [pair.submit("phantom-wan", values(picture, "short"))[0] for _ in range(3)]
    assert [wait_for(pair, job, "done", "failed").state for job in jobs] == ["done"] * 3
    until(lambda: not any(state.busy for state in pair.executor.devices()))


@pytest.mark.parametrize("rank", [0, 1])
def test_whoever_dies_ends_the_job_but_not_the_studio(pair: Studio, picture: Path, rank: int) -> None:
    job, *members = begun(pair, picture, SLOW)
    os.kill(members[rank].pid, signal.SIGKILL)
    failed = wait_for(pair, job, "failed", timeout_s=10).failure
    assert failed.kind == "DeviceError" and "ended unexpectedly" in failed.message
    (after,) = pair.submit("phantom-wan", values(picture, "short"))
    assert wait_for(pair, after, "done", "failed").state == "done"


def test_devices_that_cannot_meet_end_the_job_and_are_free_again(
    pair: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", full)
        (job,) = pair.submit("phantom-wan", values(picture, "short"))
        failed = wait_for(pair, job, "failed", timeout_s=20).failure
    assert "cannot work together: no space left on device." in failed.message
    assert not any(state.busy for state in pair.executor.devices())
    (after,) = pair.submit("phantom-wan", values(picture, "short"))
    assert wait_for(pair, after, "done", "failed").state == "done"


def test_a_cancel_frees_both(pair: Studio, picture: Path) -> None:
    job, *members = begun(pair, picture, SLOW)
    pair.cancel(job.id)
    wait_for(pair, job, "cancelled", timeout_s=10)
    until(lambda: not any(state.busy for state in pair.executor.devices()))
    assert all(member.usable for member in members)


def test_closing_the_studio_queues_the_job_of_both_once(pair: Studio, picture: Path) -> None:
    job, *_ = begun(pair, picture, SLOW)
    pair.executor.close()
    assert pair.store.get(job.id).state == "queued"


@pytest.mark.usefixtures("roomy")
def test_an_idle_gpu_reads_the_prompts_of_the_only_clip(settings: Settings) -> None:
    """Where the first one cannot keep the text encoder beside the rest, and nobody else wants the second."""
    studio = open_studio(replace(settings, devices=()), LocalExecutor)
    spec = SPECS["phantom-wan"]
    asked = spec.default_values("1.3B") | {"prompt": "A fox."}
    jobs = studio.queue_values("phantom-wan", [asked, asked])
    executor = studio.executor

    def team(gigabytes: int, jobs: list[Job], *, other: str = "cuda:1", working: bool = False) -> tuple[list[str], Any]:
        states = [DeviceState(name, name, gigabytes * 10**9, gigabytes * 10**9, half="bfloat16") for name in
                  ("cuda:0", other)]  # fmt: skip
        executor._devices = {state.name: Device(state) for state in states}
        first, second = executor._candidates()
        found = executor._first(jobs, [first, replace(second, busy=working)])[1]
        return [one.name for one in found.workers], found.split

    assert team(16, jobs[:1]) == (["cuda:0", "cuda:1"], "reading")
    assert team(80, jobs[:1]) == (["cuda:0"], None)
    assert team(16, jobs) == (["cuda:0"], None)
    assert team(16, jobs[:1], working=True) == (["cuda:0"], None)
    assert team(16, jobs[:1], other="cpu") == (["cuda:0"], None)
    studio.store.close()
