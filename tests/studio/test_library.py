"""Clips found again, starred, tagged, thrown away and taken back; what they take of the disk; where they came from."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from engines.errors import StudioError
from engines.events import Clip, Failed
from studio import library, serving
from studio.jobs.local import LocalExecutor
from studio.jobs.shelf import Mark, Query, Shelf
from studio.jobs.store import Job, JobStore
from studio.service import Studio, open_studio
from studio.settings import PICTURES, Settings
from tests.studio.server import ROOT, Server
from tests.studio.test_executor import until

DAY = 86_400


def add(studio: Studio, prompt: str, *, engine: str = "phantom-wan", state: str = "done", **more: Any) -> Job:
    """A job that is over, its files on the disk."""
    outputs = studio.settings.outputs
    batch, owner = more.pop("batch", ""), more.pop("owner", "")
    (job,) = studio.store.add([Job(engine=engine, request={"prompt": prompt} | more, batch=batch, owner=owner)])
    studio.store.move(job.id, "running")
    if state == "done":
        paths = {name: outputs / f"{job.id}{suffix}" for name, suffix in SUFFIXES.items()}
        for path in paths.values():
            path.write_bytes(b"x" * 100)
        made = Clip(**{name: str(path) for name, path in paths.items()}, request={}, seconds={}, peak_bytes=0)
        return studio.store.move(job.id, "done", result=made)
    return studio.store.move(job.id, state, failure=Failed(kind="StudioError", message="No."))


SUFFIXES = {"video": ".mp4", "sidecar": ".json", "poster": ".png"}


def found(studio: Studio, words: str = "", *, owner: str = "", **query: Any) -> list[str]:
    """The prompts of what is found, group by group."""
    groups, count = library.search(studio, Query(words, library.texts(studio), **query), owner=owner)
    assert count == len(groups)
    return [" + ".join(job.request["prompt"] for job in group) for group in groups]


def test_words_find_prompts_storyboards_models_tags_engines_and_seeds(idle: Studio) -> None:
    star = add(idle, "A red star SPINS", seed=42, model="starter", negative_prompt="blurry")
    add(idle, "Ein Bär läuft 100%", seed=7, model="1.3B")
    add(idle, "", engine="pyramid-flow", storyboard="0-2: a fox", seed=4200)
    Shelf(idle.store).tag(star.id, ["For Anna"])
    for words, prompts in (
        ("red", ["A red star SPINS"]),
        ("spins RED", ["A red star SPINS"]),
        ("red bear", []),
        ("BÄR", ["Ein Bär läuft 100%"]),
        ("100%", ["Ein Bär läuft 100%"]),
        ("%", ["Ein Bär läuft 100%"]),
        ("_", []),
        ("fox", [""]),
        ("1.3b", ["Ein Bär läuft 100%"]),
        ("anna", ["A red star SPINS"]),
        ("#anna", []),
        ("42", ["A red star SPINS"]),
        ("pyramid", [""]),
        ("blurry", []),
        ("' OR 1=1 --", []),
    ):
        assert found(idle, words) == prompts, words
    Shelf(idle.store).tag(star.id, ["anna"])
    assert found(idle, "#Anna") == ["A red star SPINS"]


def test_filters_narrow_what_is_found(idle: Studio) -> None:
    star = add(idle, "a star")
    add(idle, "a fox", engine="flashi2v")
    add(idle, "a bear", state="failed")
    add(idle, "a cat", state="cancelled")
    assert found(idle) == ["a fox", "a star"]
    assert found(idle, engines=("flashi2v",)) == ["a fox"]
    assert found(idle, show="unsuccessful") == ["a cat", "a bear"]
    assert found(idle, since=time.time() + 1) == []
    Shelf(idle.store).star(star.id, True)
    assert found(idle, show="starred") == ["a star"]
    Shelf(idle.store).star(star.id, False)
    assert found(idle, show="starred") == []


def test_clips_made_together_are_one_group_and_groups_come_page_by_page(idle: Studio) -> None:
    for seed in (1, 2, 3):
        add(idle, f"star {seed}", batch="b")
        add(idle, f"fox {seed}", batch=f"other {seed}")
    assert found(idle) == ["fox 3", "star 1 + star 2 + star 3", "fox 2", "fox 1"]
    groups, count = library.search(idle, Query(), owner="", first=1, most=2)
    assert count == 4 and [len(group) for group in groups] == [3, 1]


def test_the_trash_gives_back_what_was_put_there_and_keeps_nothing_once_it_is_emptied(idle: Studio) -> None:
    fox, star = add(idle, "a fox"), add(idle, "a star", batch="b")
    assert library.trash(idle, [star.id], owner="") == [star.id]
    assert found(idle) == ["a fox"] and found(idle, show="trash") == ["a star"]
    assert idle.store.batch("b") == [] and [job.id for job in idle.store.finished()] == [fox.id]
    assert Path(star.result.video).is_file()
    library.restore(idle, [star.id], owner="")
    assert found(idle) == ["a star", "a fox"] and [job.id for job in idle.store.batch("b")] == [star.id]
    library.trash(idle, [star.id], owner="")
    assert library.empty_trash(idle, owner="", days=1) == 0
    assert library.empty_trash(idle, owner="") == 1
    assert idle.store.get(star.id) is None and not Path(star.result.video).exists()
    assert Shelf(idle.store).mark(star.id) == Mark()
    assert Path(fox.result.video).is_file()


def test_what_still_waits_or_runs_cannot_be_thrown_away(idle: Studio) -> None:
    (job,) = idle.store.add([Job(engine="phantom-wan", request={"prompt": "x"})])
    assert library.trash(idle, [job.id], owner="") == []
    assert idle.store.queued()[0].id == job.id


def test_nobody_touches_what_is_anothers(idle: Studio) -> None:
    mine, other = add(idle, "mine", owner="a"), add(idle, "other", owner="b")
    assert library.trash(idle, [other.id], owner="a") == []
    library.star(idle, other.id, True, owner="a")
    assert library.tag(idle, other.id, ["x"], owner="a") == ()
    assert Shelf(idle.store).mark(other.id) == Mark()
    library.trash(idle, [other.id], owner="b")
    library.restore(idle, [other.id], owner="a")
    assert library.empty_trash(idle, owner="a") == 0 and idle.store.get(other.id) is not None
    assert found(idle, owner="a") == ["mine"]
    Shelf(idle.store).tag(other.id, ["secret"])
    assert Shelf(idle.store).tags(owner="a") == []
    Shelf(idle.store).born([other.id], [mine.id])
    library.restore(idle, [other.id], owner="b")
    assert library.family(idle, mine) == ([], [])


def test_tags_are_kept_trimmed_and_once_and_die_with_their_job(idle: Studio) -> None:
    star = add(idle, "a star")
    assert library.tag(idle, star.id, [" For   Anna ", "#best", "best", "", "y" * 99], owner="") == (
        "For Anna", "best", "y" * 40,
    )  # fmt: skip
    assert Shelf(idle.store).tags() == ["best", "For Anna", "y" * 40]
    idle.delete(star.id)
    assert Shelf(idle.store).tags() == []
    Shelf(idle.store).star("no such job", True)
    assert Shelf(idle.store).mark("no such job") == Mark()


def test_tags_of_the_trash_are_not_offered(idle: Studio) -> None:
    star = add(idle, "a star")
    library.tag(idle, star.id, ["best"], owner="")
    library.trash(idle, [star.id], owner="")
    assert Shelf(idle.store).tags() == []
    library.restore(idle, [star.id], owner="")
    assert Shelf(idle.store).tags() == ["best"]


def test_the_disk_meter_counts_each_file_once(idle: Studio) -> None:
    picture = idle.settings.outputs / PICTURES / "p.png"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(b"x" * 1000)
    made = [add(idle, f"{number}", references=[{"path": str(picture)}]) for number in range(3)]
    usage = library.usage(idle, owner="")
    assert (usage.clips, usage.trash, usage.count) == (3 * 300 + 1000, 0, 3) and usage.free > 0
    library.trash(idle, [made[0].id], owner="")
    usage = library.usage(idle, owner="")
    assert (usage.clips, usage.trash, usage.count, usage.trashed) == (2 * 300 + 1000, 300, 2, 1)
    Path(made[1].result.video).unlink()
    assert library.usage(idle, owner="").clips == 500 + 1000


def test_what_lies_in_the_trash_for_long_goes(idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    star, fox = add(idle, "a star"), add(idle, "a fox")
    library.trash(idle, [star.id], owner="")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + (library.TRASH_DAYS - 1) * DAY)
    library.trash(idle, [fox.id], owner="")
    serving.sweep(idle)
    assert idle.store.get(star.id) is not None
    monkeypatch.setattr(time, "time", lambda: now + (library.TRASH_DAYS + 1) * DAY)
    serving.sweep(idle)
    assert idle.store.get(star.id) is None and idle.store.get(fox.id) is not None


def test_the_trash_is_kept_as_long_as_the_read_me_says() -> None:
    assert f"in the trash for {library.TRASH_DAYS} days" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_studio_that_runs_empties_its_trash_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(outputs=tmp_path / "outputs", devices=("cpu",))
    studio = open_studio(settings, LocalExecutor)
    star, fox = add(studio, "a star"), add(studio, "a fox")
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now - (library.TRASH_DAYS + 1) * DAY)
        library.trash(studio, [star.id], owner="")
    library.trash(studio, [fox.id], owner="")
    studio.store.close()
    with Server(settings.outputs):
        until(lambda: not Path(star.result.video).exists(), timeout_s=30)
    assert Path(fox.result.video).is_file()
    again = JobStore(settings.database)
    assert again.get(star.id) is None and again.get(fox.id) is not None
    again.close()


def test_what_several_were_made_from_goes_with_the_last_of_them(idle: Studio) -> None:
    picture = idle.settings.pictures / "p.png"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(b"x")
    made = [add(idle, f"{number}", references=[{"path": str(picture)}]) for number in range(4)]
    idle.delete_all(made[:3])
    assert picture.is_file() and [job.id for job in idle.store.finished()] == [made[3].id]
    idle.delete_all([*made, made[3]])
    assert not picture.exists() and idle.store.ids() == {}


def test_files_outside_of_the_outputs_folder_stay_when_their_clip_is_deleted(idle: Studio, tmp_path: Path) -> None:
    outside = tmp_path / "mine.mp4"
    outside.write_bytes(b"x")
    made = Clip(video=str(outside), sidecar=str(outside), poster=str(outside), request={}, seconds={}, peak_bytes=0)
    (job,) = idle.store.add([Job(engine="phantom-wan", request={"prompt": "x"})])
    idle.store.move(job.id, "running")
    idle.store.move(job.id, "done", result=made)
    idle.delete(job.id)
    assert idle.store.get(job.id) is None and outside.is_file()


def test_a_clip_that_another_is_made_of_stays_until_that_is_over(idle: Studio) -> None:
    star, fox = add(idle, "a star"), add(idle, "a fox")
    (edit,) = idle.store.add([Job(engine="edit-reverse", request={"clip": {"path": star.result.video}})])
    library.trash(idle, [star.id, fox.id], owner="")
    with pytest.raises(StudioError, match="waits or is made needs"):
        library.empty_trash(idle, owner="")
    assert idle.store.get(star.id) is not None and Path(star.result.video).is_file()
    assert idle.store.get(fox.id) is None and not Path(fox.result.video).exists(), "the others are gone"
    assert idle.forget_old(now=time.time() + 10 * DAY) == 0
    idle.cancel(edit.id)
    assert library.empty_trash(idle, owner="") == 1
    assert not list(idle.settings.outputs.glob(f"{star.id}*"))


def test_a_file_that_cannot_be_removed_keeps_its_clip_alone(idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    star, fox = add(idle, "a star"), add(idle, "a fox")
    library.trash(idle, [star.id, fox.id], owner="")
    remove = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == Path(star.result.video):
            raise PermissionError(errno.EACCES, "Permission denied")
        remove(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(StudioError, match=r"cannot be removed: permission denied\."):
            library.empty_trash(idle, owner="")
    assert [*idle.store.ids()] == [star.id]
    assert library.empty_trash(idle, owner="") == 1 and idle.store.ids() == {}


def test_a_clip_knows_its_parents_and_its_children(idle: Studio) -> None:
    first, second, third = (add(idle, name) for name in ("first", "second", "third"))
    shelf = Shelf(idle.store)
    shelf.born([second.id, third.id], [first.id, first.id, "gone"])
    assert shelf.mark(second.id).parents == (first.id, "gone")
    assert [[job.id for job in jobs] for jobs in library.family(idle, first)] == [[], [second.id, third.id]]
    assert [[job.id for job in jobs] for jobs in library.family(idle, second)] == [[first.id], []]
    library.trash(idle, [first.id], owner="")
    assert library.family(idle, second) == ([], [])


def test_marks_outlive_a_restart(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "studio.sqlite3")
    (job,) = store.add([Job(engine="e", request={})])
    Shelf(store).star(job.id, True)
    Shelf(store).born([job.id], ["p"])
    store.close()
    store = JobStore(tmp_path / "studio.sqlite3")
    assert Shelf(store).mark(job.id) == Mark(starred=True, parents=("p",))
    store.close()
