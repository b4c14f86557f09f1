from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from engines import registry
from studio.jobs.local import LocalExecutor
from studio.jobs.store import Job
from studio.service import Studio, open_studio
from studio.settings import SOURCES, Settings
from tests.studio import stand_in
from tests.studio.server import Server
from tests.studio.stand_in_command import stand_in_command

# For files that make components outside of a running page: gradio leaves event loops open, collected at their end.
LOOPS_LEFT_OPEN = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAM for everything that is estimated, whatever else runs on this machine."""
    monkeypatch.setattr("studio.estimating.ram", lambda: (64 * 2**30, 64 * 2**30))


@pytest.fixture
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and an environment that says nothing."""
    for name in (name for source in SOURCES for name in source.variables):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # which offline sets: put back afterwards
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The engines, with the stand-in behind Phantom."""
    monkeypatch.setitem(registry.SPECS, "phantom-wan", stand_in.spec())
    return registry.SPECS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(outputs=tmp_path / "outputs", devices=("cpu",), preload=False)


@pytest.fixture
def idle(settings: Settings, specs: dict) -> Iterator[Studio]:
    """A studio whose executor was not started: jobs stay queued."""
    studio = open_studio(settings, LocalExecutor)
    yield studio
    studio.store.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio whose worker process runs the stand-in engine; shared by the tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, "phantom-wan", stand_in.spec())
        settings = Settings(outputs=tmp_path_factory.mktemp("studio") / "outputs", devices=("cpu",))
        yield from _started(settings)


def _started(settings: Settings) -> Iterator[Studio]:
    studio = open_studio(settings, LocalExecutor, command=stand_in_command())
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    image = Image.new("RGB", (60, 48), "white")
    ImageDraw.Draw(image).ellipse((15, 9, 45, 39), fill="red")
    image.save(path)
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The studio served from a process without torch, shared by all tests that do not end it."""
    with Server(tmp_path_factory.mktemp("served") / "outputs") as server:
        yield server


def wait_for(studio: Studio, job: Job, *states: str, timeout_s: float = 60) -> Job:
    """The job once it is in one of `states`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        now = studio.store.get(job.id)
        if now is not None and now.state in states:
            return now
        time.sleep(0.02)
    raise AssertionError(f"the job is {now.state if now else 'gone'}, not {states}")


def values(picture: Path, prompt: str = "a red circle moves right", **more: object) -> dict:
    """A small request."""
    references = [{"path": str(picture)}]
    return {"prompt": prompt, "references": references, "steps": 4, "frames": 9, "seed": 5} | more
