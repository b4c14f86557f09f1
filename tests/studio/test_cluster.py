"""Clips by a Ray cluster of two nodes on this machine: real relays, actors and workers that make nothing.

A cluster takes ten seconds to begin, and all of Ray is in other processes than this one.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from engines.errors import StudioError
from engines.events import Cancelled
from engines.messages import Generate
from studio import queue
from studio.cluster.executor import ClusterExecutor
from studio.cluster.luggage import Luggage, chunks
from studio.cluster.place import MACHINE_LOST
from studio.cluster.watch import Watch
from studio.jobs.store import Job
from studio.service import Studio, open_studio
from studio.settings import BadSetting, Settings, check_cluster, from_environment
from tests.studio.conftest import values, wait_for
from tests.studio.test_executor import until

ROOT = Path(__file__).parents[2]
SLOW = "it goes on steps=600 sleep=0.05"
PLAIN = (
    sys.executable,
    "-c",
    f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r});"
    "runpy.run_module('tests.studio.plain_worker', run_name='__main__')",
)
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: requirements-cluster.txt")


class Nodes:
    """A cluster with two nodes, and the means to lose them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.studio.ray_nodes"]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, cwd=ROOT, text=True, **streams)
        self.address = self._process.stdout.readline().strip()

    def do(self, what: str) -> None:
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == what

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    for name in ("left", "right"):
        found.do(f"add {name}")
    yield found
    found.close()


@pytest.fixture(scope="module")
def cluster(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    settings = Settings(outputs=tmp_path_factory.mktemp("cluster") / "outputs", cluster=nodes.address, preload=False)
    studio = open_studio(settings, ClusterExecutor, watch=Watch(nodes.address), command=PLAIN)
    studio.executor.start()
    _both_ready(studio)
    yield studio
    studio.executor.close()
    studio.store.close()


def _both_ready(studio: Studio) -> None:
    """Waits until both nodes would take a job."""
    until(lambda: sum(not one.busy for one in studio.executor._candidates()) == 2, timeout_s=90)


@needs_ray
@pytest.mark.timeout(180)
def test_two_nodes_make_two_clips_at_once_and_files_travel_by_content(cluster: Studio, picture: Path) -> None:
    jobs = [_submit(cluster, picture, f"it shows steps=60 sleep=0.05 number {number}") for number in range(2)]
    working = {_at_work(cluster, job).device for job in jobs}
    assert working == {"CPU of left", "CPU of right"}
    assert cluster.executor.progress(jobs[0].id).preview == b"RIFF"
    kept = cluster.settings.pictures
    for job in jobs:
        clip = wait_for(cluster, job, "done", "failed").result
        assert {Path(name).parent for name in (clip.video, clip.sidecar, clip.poster)} == {cluster.settings.outputs}
        assert Path(clip.poster).read_bytes() == picture.read_bytes()  # there and back
        assert Path(clip.request["references"][0]["path"]).parent == kept
    assert not list(cluster.settings.outputs.glob(".*.part*"))


@needs_ray
def test_a_running_job_is_cancelled_and_another_one_kept(cluster: Studio, picture: Path) -> None:
    _both_ready(cluster)
    cancelled, kept = (_submit(cluster, picture, SLOW) for _ in range(2))
    for job in (cancelled, kept):
        _at_work(cluster, job)
    cluster.cancel(cancelled.id)
    assert wait_for(cluster, cancelled, "cancelled", "done").result is None
    cluster.executor.cancel(kept.id, keep=True)
    clip = wait_for(cluster, kept, "done", "cancelled").result
    assert Path(clip.poster).read_bytes() == picture.read_bytes()
    assert not list(cluster.settings.outputs.glob(f"{cancelled.id}*"))


@needs_ray
def test_a_worker_that_is_killed_on_its_node_fails_its_job_and_comes_back(cluster: Studio, picture: Path) -> None:
    job = _submit(cluster, picture, SLOW)
    title = _at_work(cluster, job).device
    log = cluster.settings.outputs / f"logs/worker-cpu-0@{title.rpartition(' ')[2]}.log"
    os.kill(int(re.findall(r"process (\d+) begins", log.read_text())[-1]), signal.SIGKILL)
    failed = wait_for(cluster, job, "failed", "done").failure
    assert failed.message == f"The process that made this clip on the {title} ended unexpectedly."
    both = [_submit(cluster, picture, "steps=40 sleep=0.05") for _ in range(2)]
    assert [wait_for(cluster, job, "done", "failed").state for job in both] == ["done"] * 2


@needs_ray
def test_questions_that_need_no_device_are_answered_without_leaving(cluster: Studio) -> None:
    until(lambda: cluster.executor._usable())
    assert "fox" in cluster.refine("phantom-wan", "a fox runs", model="starter").text


@needs_ray
@pytest.mark.timeout(200)
def test_a_node_that_dies_costs_a_retry_and_the_second_one_the_job(
    nodes: Nodes, cluster: Studio, picture: Path
) -> None:
    _both_ready(cluster)
    job = _submit(cluster, picture, SLOW)
    first = _at_work(cluster, job).device
    nodes.do(f"kill {first.rpartition(' ')[2]}")
    until(lambda: cluster.job(job.id).starts == 2, timeout_s=60)
    second = _at_work(cluster, job).device
    assert {first, second} == {"CPU of left", "CPU of right"}
    after = _submit(cluster, picture, "short")
    nodes.do(f"kill {second.rpartition(' ')[2]}")
    failed = wait_for(cluster, job, "failed", "done").failure
    assert failed.message == f"Two machines were lost while they made this clip, the last one with the {second}."
    until(cluster.executor.hindrance, timeout_s=60)
    assert cluster.job(after.id).state == "queued"
    nodes.do("add third")  # what waits goes on where there is a machine again
    assert wait_for(cluster, after, "done", "failed", timeout_s=90).state == "done"
    until(lambda: [state.title for state in cluster.executor.devices()] == ["CPU of third"], timeout_s=60)


def test_a_job_that_is_tried_again_may_lose_as_many_machines_as_a_new_one(idle: Studio, picture: Path) -> None:
    executor = ClusterExecutor(idle.settings, idle.store, watch=SimpleNamespace())
    lost = SimpleNamespace(code=MACHINE_LOST)
    (job,) = idle.submit("phantom-wan", values(picture))
    idle.store.move(job.id, "running")
    assert executor._again(job, lost) and not executor._again(job, lost)
    executor._end(job, Cancelled())
    queue.retry(idle, job.id)
    assert executor._again(job, lost)


def test_a_job_goes_where_its_model_is(settings: Settings, picture: Path) -> None:
    class Still:
        address, trouble = "10.0.0.5:6379", ""

        def machines(self) -> list[dict]:
            one = {"gpus": 2, "cpus": 8, "kind": "H100"}
            return [
                {"id": "a", "name": "box one"} | one,
                {"id": "b", "name": "small", "gpus": 0, "cpus": 4, "kind": ""},
            ]

        def close(self) -> None: ...

    studio = open_studio(replace(settings, devices=()), ClusterExecutor, watch=Still())
    executor = studio.executor
    executor._look()
    names = ["cuda:0@box-one", "cuda:1@box-one", "cpu:0@small"]
    assert [state.name for state in executor.devices()] == names
    assert [state.title for state in executor.devices()] == ["H100 1 of box one", "H100 2 of box one", "CPU of small"]
    assert all(candidate.busy for candidate in executor._candidates())  # none has answered
    candidates = [replace(candidate, busy=False) for candidate in executor._candidates()]
    (job,) = studio.submit("phantom-wan", values(picture))
    executor._lacking = {name: frozenset({"phantom-wan/starter"}) for name in names[:2]}
    assert executor._first([job], candidates)[1].workers[0].name == "cpu:0@small"
    executor._lacking = dict.fromkeys(names, frozenset({"phantom-wan/starter"}))
    assert executor._first([job], candidates) is not None  # whose worker says what is missing
    studio.store.close()


def test_files_of_every_kind_are_packed_once_and_named_alike(tmp_path: Path) -> None:
    """A picture, an adapter and the file beside an earlier clip keep the endings that others read."""
    for name in ("a.png", "b.safetensors", "20260101-000000-0000000000000000.latents.safetensors"):
        (tmp_path / name).write_bytes(name.encode() * 2)
    picture, adapter, latents = sorted(tmp_path.iterdir(), key=lambda path: "ab2".index(path.name[0]))
    there = PurePosixPath("/there")
    for engine, field, value in (
        ("phantom-wan", "references", [{"path": str(picture)}, {"path": str(picture), "position": 0.2}]),
        ("phantom-wan", "adapters", [{"path": str(adapter), "strength": 0.5}]),
        ("pyramid-flow", "continues", str(latents)),
        ("edit/trim", "clip", {"path": str(picture)}),
    ):
        luggage = Luggage(there)
        asked = {field: value, "prompt": str(picture)}
        packed = luggage.order(Generate(job="j", engine=engine, request=asked)).request
        (name,) = luggage.files
        assert name.partition("/")[2] == luggage.files[name].name
        assert str(there / name) in str(packed[field]) and str(tmp_path) not in str(packed[field])
        assert packed["prompt"] == str(picture)  # a text is no file
        assert luggage.home(packed) == asked
    assert b"".join(chunks(picture)) == picture.read_bytes()


def test_a_clip_takes_the_settings_beside_it_along(tmp_path: Path) -> None:
    """Which an edit reads where the clip carries none inside."""
    clip = tmp_path / "a.mp4"
    for path in (clip, clip.with_suffix(".json"), clip.with_suffix(".png")):
        path.write_bytes(b"1")
    luggage = Luggage(PurePosixPath("/there"))
    luggage.order(Generate(job="j", engine="edit/trim", request={"clip": {"path": str(clip)}}))
    assert sorted(name.partition("/")[2] for name in luggage.files) == ["a.json", "a.mp4"]
    assert len({name.partition("/")[0] for name in luggage.files}) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"split": "guidance"}, "do not make one clip together"),
        ({"devices": ("cpu",)}, "--devices names what this machine has"),
        ({"certificate": Path("signer.pem")}, "does not leave this machine"),
        ({"in_event": True}, "inside the visitor's call"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(settings: Settings, more: dict, said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        check_cluster(replace(settings, **{"devices": ()} | more))
    check_cluster(replace(settings, devices=()))


@pytest.mark.parametrize("address", ["auto", "10.0.0.5", "10.0.0.5:0", "ray://10.0.0.5:10001", "10.0.0.5:70000"])
def test_an_address_is_one_of_a_head(nothing_set: Path, address: str) -> None:
    with pytest.raises(BadSetting, match=r"--cluster must be the address of a Ray cluster's head, such as 10\.0\.0\.5"):
        from_environment(cluster=address)
    assert from_environment(cluster="10.0.0.5:6379").cluster == "10.0.0.5:6379"


@needs_ray
def test_where_no_cluster_answers_is_one_sentence() -> None:
    with pytest.raises(StudioError, match=r"127\.0\.0\.1:9"):
        Watch("127.0.0.1:9")


def test_without_ray_the_studio_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.cluster.watch.find_spec", lambda name: None)
    with pytest.raises(StudioError, match=r"pip install -r requirements-cluster\.txt"):
        Watch("10.0.0.5:6379")


def test_only_processes_of_a_cluster_know_ray() -> None:
    users = set()
    for path in [*(ROOT / "studio").rglob("*.py"), *(ROOT / "engines").rglob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users |= {path.name for name in names if name.partition(".")[0] == "ray"}
    assert users == {"joining.py", "relay.py"}
    program = """
import sys
sys.modules["ray"] = None
import studio.serving, studio.service, studio.jobs.local, studio.cluster.executor, studio.cluster.watch
assert "studio.cluster.joining" not in sys.modules and "studio.cluster.relay" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True)


def _submit(studio: Studio, picture: Path, prompt: str) -> Job:
    (job,) = studio.submit("phantom-wan", values(picture, prompt))
    return job


def _at_work(studio: Studio, job: Job):
    """The progress of a running job, once it has made a step."""
    until(lambda: (now := studio.executor.progress(job.id)) is not None and now.index, timeout_s=90)
    return studio.executor.progress(job.id)
