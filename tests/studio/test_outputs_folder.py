"""The outputs folder: full, moved, left in disorder by a kill, and what deleting removes from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import MediaError, StudioError
from engines.registry import SPECS
from engines.validation import build_request
from studio import continuing, kept_files, library
from studio.jobs import outputs
from studio.jobs.local import LocalExecutor
from studio.jobs.store import Job
from studio.page import panel
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for
from tests.studio.stand_in_command import stand_in_command
from tests.studio.test_executor import until

pytestmark = LOOPS_LEFT_OPEN
PLAIN = (sys.executable, "-m", "tests.studio.plain_worker")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    path = place / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            for size in (2**16, 2**12, 1):
                while file.write(b"\1" * size) == size:
                    continue
        except OSError:
            return path
    return path


def test_a_full_disk_fails_the_job_and_stops_nothing(small_disk: Path, specs: dict, picture: Path) -> None:
    settings = Settings(outputs=small_disk / "outputs", devices=("cpu",))
    studio = open_studio(settings, LocalExecutor, command=stand_in_command())
    studio.executor.start()
    first, second = (studio.submit("phantom-wan", values(picture, "it goes slowly", seed=seed))[0] for seed in (1, 2))
    wait_for(studio, first, "running")
    filler = fill(small_disk)
    failed = wait_for(studio, first, "failed")
    assert "disk is full" in failed.failure.message
    with pytest.raises(MediaError, match="disk is full"):
        studio.submit("phantom-wan", values(picture))
    until(lambda: "disk is full" in panel.view(studio, specs["phantom-wan"], second.batch, owner="").card.text)
    assert studio.store.get(second.id).state == "queued", "it waits for room"
    filler.unlink()
    assert wait_for(studio, second, "done", "failed").state == "done"
    (third,) = studio.submit("phantom-wan", values(picture))
    assert wait_for(studio, third, "done", "failed").state == "done"
    studio.executor.close()
    studio.store.close()
    again = open_studio(settings, LocalExecutor)
    assert [again.store.get(job.id).state for job in (first, second, third)] == ["failed", "done", "done"]
    again.store.close()


def test_what_frees_a_full_disk_works_on_it(small_disk: Path, specs: dict, picture: Path) -> None:
    studio = open_studio(Settings(outputs=small_disk / "outputs", devices=("cpu",)), LocalExecutor, command=PLAIN)
    studio.executor.start()
    (job,) = studio.submit("phantom-wan", values(picture))
    done = wait_for(studio, job, "done")
    Path(done.result.video).write_bytes(b"\1" * 300_000)
    fill(small_disk)
    studio.delete(job.id)
    assert studio.store.get(job.id) is None
    assert not list((small_disk / "outputs").glob("*.mp4"))
    studio.executor.close()
    studio.store.close()


@pytest.fixture
def plain(settings: Settings, specs: dict) -> Iterator[Studio]:
    studio = open_studio(settings, LocalExecutor, command=PLAIN)
    studio.executor.start()
    yield studio
    studio.executor.close()
    studio.store.close()


def files(studio: Studio) -> set[str]:
    """Files of jobs and pictures, without the studio's own."""
    found = (path for path in studio.settings.outputs.rglob("*") if path.is_file())
    names = {path.relative_to(studio.settings.outputs).as_posix() for path in found}
    return {name for name in names if not name.startswith(("studio.sqlite3", "logs/", ".studio.lock"))}


def test_failed_and_cancelled_jobs_are_deleted_with_their_pictures(plain: Studio, picture: Path) -> None:
    failed, cancelled, done = (
        plain.submit("phantom-wan", values(picture, prompt))[0] for prompt in ("it breaks", "steps=600 sleep=1", "fine")
    )
    wait_for(plain, failed, "failed")
    plain.cancel(cancelled.id)
    wait_for(plain, done, "done")
    assert {job.id for job in plain.store.unsuccessful(owner="")} == {failed.id, cancelled.id}
    assert plain.store.unsuccessful(owner="somebody") == []
    ids = [failed.id, cancelled.id]
    assert library.trash(plain, ids, owner="somebody") == [] and library.empty_trash(plain, owner="somebody") == 0
    assert library.trash(plain, ids, owner="") == ids and library.empty_trash(plain, owner="") == 2
    assert set(plain.store.ids()) == {done.id}
    assert len([name for name in files(plain) if name.startswith("pictures/")]) == 1, "the clip's own picture stays"
    plain.delete(done.id)
    assert files(plain) == set()


def test_a_clip_that_a_waiting_job_goes_on_from_is_kept_for_it(plain: Studio, picture: Path) -> None:
    (job,) = plain.submit("phantom-wan", values(picture))
    done = wait_for(plain, job, "done")
    latents = Path(done.result.video).with_suffix(".latents.safetensors")
    latents.touch()
    clip = done.result.model_copy(update={"beside": (str(latents),)})
    plain.store.delete(job.id)  # its files become those of the next
    plain.store.pause(True)  # what is added waits: no worker takes it up in between
    made, waiting = plain.store.add(
        [Job(engine="gone", request={}, state="running"), Job(engine="gone", request={"continues": str(latents)})]
    )
    plain.store.move(made.id, "done", result=clip)
    with pytest.raises(StudioError, match="waits or is made needs"):
        plain.delete(made.id)
    assert latents.exists() and Path(clip.video).exists()
    plain.cancel(waiting.id)
    plain.delete(made.id)
    assert not latents.exists() and not Path(clip.video).exists()


def test_what_a_kill_left_behind_is_removed_at_the_start_and_nothing_else(
    settings: Settings, specs: dict, picture: Path
) -> None:
    studio = open_studio(settings, LocalExecutor, command=PLAIN)
    done, failed, _ = (studio.submit("phantom-wan", values(picture, seed=seed))[0] for seed in range(3))
    folder = settings.outputs
    studio.store.move(done.id, "running")
    names = {name: str(folder / f"{done.id}.{name}") for name in ("mp4", "json", "png")}
    for name in names.values():
        Path(name).touch()
    clip = {"video": names["mp4"], "sidecar": names["json"], "poster": names["png"]}
    empty = {"request": {}, "seconds": {}, "peak_bytes": 0}
    studio.store.move(done.id, "done", result=clip_of(clip | empty))
    studio.store.move(failed.id, "failed")
    kept = files(studio)
    unknown = "20260101-000000-00000000000000"
    left = [
        f"{unknown}00.png", f"{unknown}00.json",  # killed between two renames
        f"{failed.id}.mp4", f"{failed.id}.png",  # killed between the last rename and its last word
        f".{done.id}.keep", f".{failed.id}.999999999.part.mp4", "pictures/.half.png.part", "pictures/nobodys.png",
    ]  # fmt: skip
    foreign = [
        f"{unknown}ff.mp4",
        f"{unknown}ff.png",
        f"{unknown}ee.gif",
        f"{unknown}ee.json",
        "holiday.png",
        "notes.json",
        f"{done.id}.latents.safetensors",
    ]
    for name in left + foreign:
        (folder / name).touch()
    outputs.clean(folder, studio.store)
    assert files(studio) == kept | set(foreign)
    studio.store.close()


def clip_of(values: dict) -> object:
    from engines.events import Clip

    return Clip(**values)


def test_a_moved_folder_shows_continues_and_deletes_its_clips(
    settings: Settings, specs: dict, picture: Path, tmp_path: Path
) -> None:
    long = specs["pyramid-flow"]
    first = open_studio(settings, LocalExecutor, command=PLAIN)
    first.executor.start()
    (job,) = first.submit("phantom-wan", values(picture, seed=3))
    clip = wait_for(first, job, "done").result
    latents = Path(clip.video).with_suffix(long.continued_from)
    latents.touch()
    first.executor.close()
    request = long.default_values(long.models[0].name) | {"frames": 9}
    (going_on,) = first.store.add([Job(engine="pyramid-flow", request=request, state="running")])
    first.store.move(going_on.id, "done", result=clip.model_copy(update={"beside": (str(latents),)}))
    first.store.close()

    moved = settings.outputs.rename(tmp_path / "elsewhere")
    studio = open_studio(replace(settings, outputs=moved), LocalExecutor, command=PLAIN)
    studio.executor.start()
    assert [Path(one.result.video).parent for one in studio.store.finished()] == [moved, moved]
    assert all(Path(one.result.video).is_file() for one in studio.store.finished())
    there = studio.store.get(job.id)
    for request in (there.request, there.result.request):
        assert Path(request["references"][0]["path"]).is_file()
    assert continuing.kept(long, studio.store.get(going_on.id)) == moved / latents.name
    assert continuing.resolved(studio, long, {"continues": going_on.id}, owner="")["continues"]
    (again,) = studio.submit("phantom-wan", dict(there.request))
    assert wait_for(studio, again, "done", "failed").state == "done"
    for one in (job, going_on, again):
        studio.delete(one.id)
    assert files(studio) == set()
    studio.executor.close()
    studio.store.close()


def test_a_kept_picture_that_lost_its_content_is_kept_anew(picture: Path, tmp_path: Path) -> None:
    spec = SPECS["flashi2v"]
    request = build_request(spec, {"prompt": "x", "picture": {"path": str(picture)}})
    for _ in range(2):
        (kept,) = kept_files.given(kept_files.keep(request, tmp_path / "pictures"))
        assert kept.read_bytes() == picture.read_bytes()
        kept.write_bytes(b"")


def test_what_browsers_are_given_keeps_its_folder(plain: Studio) -> None:
    left = plain.settings.outputs / outputs.FOR_BROWSERS / "files"
    left.mkdir(parents=True)
    outputs.clean(plain.settings.outputs, plain.store)
    assert left.parent.is_dir() and not left.exists()
