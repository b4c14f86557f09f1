"""The History tab on clips whose engine or model is gone, and what it does to the tabs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from engines.media import metadata
from engines.registry import SPECS
from engines.types import EngineSpec
from studio import continuing, remaking
from studio.jobs.store import Job
from studio.page import engine_tabs, history, history_clip, markup, panel, send
from studio.service import Studio
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for

pytestmark = LOOPS_LEFT_OPEN
FIRST, SECOND = (type("Chosen", (), {"index": index}) for index in range(2))
ASKED = ("", "", "Any time", "Clips")


@pytest.fixture(scope="module")
def made(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished clip of the stand-in."""
    path = tmp_path_factory.mktemp("drawing") / "disc.png"
    Image.new("RGB", (60, 48), "white").save(path)
    (job,) = studio.submit("phantom-wan", values(path))
    return wait_for(studio, job, "done")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))
    return told


def without(studio: Studio, kind: str) -> Studio:
    """The studio as it is after the clip's engine, or the clip's model, was taken out of it."""
    spec: EngineSpec = SPECS["phantom-wan"]
    others = {name: one for name, one in studio.specs.items() if name != spec.name}
    if kind == "engine":
        return replace(studio, specs=others)
    fewer = replace(spec, models=tuple(model for model in spec.models if model.name != "starter"))
    return replace(studio, specs=others | {spec.name: fewer})


@pytest.fixture(scope="module")
def whole(studio: Studio) -> history.History:
    return drawn(studio)


@pytest.fixture
def book(studio: Studio, whole: history.History, request: pytest.FixtureRequest) -> history.History:
    """The History of a studio without what the test names, or of the whole one."""
    return drawn(without(studio, request.param)) if getattr(request, "param", None) else whole


def found(book: history.History, *asked: Any) -> list[str]:
    """Ids of all jobs that are listed."""
    return [job_id for group in book.look_up({}, *asked)[book.column.listed] for job_id in group]


def drawn(studio: Studio) -> history.History:
    with gr.Blocks(analytics_enabled=False):
        browser = gr.BrowserState({})
        with gr.Tabs() as tabs:
            titles = engine_tabs.by_title(studio.specs.values())
            drawn = [engine_tabs.render(studio, title, specs, browser=browser) for title, specs in titles.items()]
            with gr.Tab("History"):
                column, _ = history.draw(studio)
    return history.History(studio, engine_tabs.Places(tabs, drawn), column)


@pytest.mark.parametrize("book", ["engine", "model"], indirect=True)
def test_a_clip_whose_maker_is_gone_is_shown_with_what_is_missing(
    book: history.History, made: Job, warned: list[str]
) -> None:
    assert made.id in found(book)
    shown, column = book.open({}, [[made.id]], FIRST), book.column.opened
    assert Path(shown[column.video]["value"]).is_file()
    assert "not part of" in shown[column.notice] and "alert" in shown[column.notice]
    assert "starter" in shown[column.facts] and str(made.request["seed"]) in shown[column.facts]
    assert not shown[column.longer]["visible"] and not shown[column.use]["visible"]
    assert "Flicker" in book.clip.measure({}, made.id)

    for event in (book.clip.use(new_seed=False), book.clip.use(new_seed=True), book.clip.go_on):
        assert event({}, made.id) == gr.skip()
    assert len(warned) == 3 and all("not part of" in sentence for sentence in warned)


def test_settings_come_back_where_everything_is_there(book: history.History, made: Job, warned: list[str]) -> None:
    shown = book.open({}, [[made.id]], FIRST)
    assert "alert" not in shown[book.column.opened.notice]
    bare = shown[book.column.opened.bare]["value"]
    assert metadata.read(Path(shown[book.column.opened.download]["value"])) and metadata.read(Path(bare)) is None
    form = book.engine_tabs["phantom-wan"].form
    for event, seed in ((book.clip.use(new_seed=False), made.request["seed"]), (book.clip.use(new_seed=True), None)):
        updates = event({}, made.id)
        assert updates[book.places.tabs]["selected"] == "phantom-wan"
        number, random = form.control("seed").components
        assert (updates[number]["value"], updates[random]) == (seed, seed is None)
        assert updates[form.component("prompt")]["value"] == made.request["prompt"]
    assert warned == []


def test_a_request_of_another_time_is_shown(studio: Studio, made: Job) -> None:
    """Fields that were stored and are declared no more, and fields that were not declared yet."""
    request = {name: value for name, value in made.request.items() if name != "steps"} | {"old_knob": 3}
    result = made.result.model_copy(update={"request": request})
    for specs in (studio.specs, {}):
        facts = {row.label: row.value for row in panel.facts(specs.get(made.engine), replace(made, result=result))}
        assert facts["Old knob"] == "3" and facts["Seed"] == str(request["seed"])
        assert "/" not in markup.table(panel.facts(specs.get(made.engine), made)).replace("</", "").replace(
            "image/", ""
        )


def test_sentences_name_what_is_gone_as_text(studio: Studio, made: Job) -> None:
    odd = replace(made, engine="<b>old</b>", request=dict(made.request) | {"model": "<i>x"})
    for job, specs in ((odd, studio.specs), (replace(odd, engine="phantom-wan"), studio.specs)):
        line = markup.lines([markup.Line(remaking.obstacle(specs, job), "problem")])
        assert "<b>" not in line and "<i>" not in line and "&lt;" in line


def test_a_deleted_clip_is_gone_from_its_tab_too(studio: Studio, book: history.History, made: Job) -> None:
    copies = studio.submit("phantom-wan", values(Path(made.request["references"][0]["path"])), variations=2)
    done = [wait_for(studio, job, "done") for job in copies]
    known: dict[str, Any] = {"phantom-wan": done[0].batch}
    updates = book.delete(known, done[1].id)
    result = book.engine_tabs["phantom-wan"].result
    assert updates[result.clip] == done[0].id
    assert not updates[result.strip]["visible"], "one clip is left"
    assert [done[1].id] == updates[book.column.undone] and updates[book.column.undo]["visible"]
    assert done[1].id not in found(book) and Path(done[1].result.video).is_file()
    updates = book.undo(known, *ASKED, [done[1].id])
    assert [done[0].id, done[1].id] in updates[book.column.listed] and not updates[book.column.undo]["visible"]
    assert updates[result.strip]["visible"], "and it is back in its tab"


def test_a_caption_tells_something_of_every_clip(made: Job) -> None:
    for engine, request, words in (
        ("phantom-wan", {"prompt": "a star"}, "a star"),
        ("pyramid-flow", {"prompt": "", "storyboard": "0-2: a fox\n2-3: it sits"}, "0-2: a fox 2-3: it sits"),
        ("gone", {"prompt": " a  star "}, "a star"),
        ("phantom-wan", {"prompt": "", "negative_prompt": "blurry", "seed": 7}, "seed 7"),
        ("phantom-wan", {"prompt": "x" * 200}, "x" * 60 + "…"),
    ):
        assert history.caption(SPECS.get(engine), replace(made, request=request)) == words


def test_a_clip_whose_files_are_gone_is_told(
    studio: Studio, book: history.History, tmp_path: Path, warned: list[str]
) -> None:
    """Each file that somebody may have removed from the outputs folder."""
    Image.new("RGB", (60, 48), "navy").save(tmp_path / "navy.png")
    (job,) = studio.submit("phantom-wan", values(tmp_path / "navy.png"))
    made = wait_for(studio, job, "done")
    column, browser = book.column.opened, {"phantom-wan": made.batch}
    Path(made.request["references"][0]["path"]).unlink()
    shown = book.open({}, [[made.id]], FIRST)
    assert "One of the files that it was made from is not there any more" in shown[column.notice]
    updates = book.clip.use(new_seed=False)({}, made.id)
    assert len(warned) == 1 and updates, "the rest comes back"

    Path(made.result.poster).unlink()
    assert made.id in found(book), "its clip stands for it"
    Path(made.result.video).unlink()
    assert made.id not in found(book)
    shown = book.open({}, [[made.id]], FIRST)
    assert "not in the outputs folder" in shown[column.notice] and not shown[column.video]["visible"]
    assert "cannot be read: it is damaged or was removed" in book.clip.measure({}, made.id)
    events = book.engine_tabs["phantom-wan"].events
    loaded = events.load(browser)
    assert "not in the outputs folder" in loaded[events.result.status]
    assert not loaded[events.result.video]["visible"] and not loaded[events.result.download]["visible"]


def test_what_the_row_asks_for_is_listed(studio: Studio, book: history.History, tmp_path: Path) -> None:
    Image.new("RGB", (60, 48), "green").save(tmp_path / "green.png")
    (job,) = studio.submit("phantom-wan", values(tmp_path / "green.png", "a lonely kiwi"))
    kiwi = wait_for(studio, job, "done")
    assert found(book, "lonely kiwi", "", "Any time", "Clips") == [kiwi.id]
    assert found(book, "kiwi", "phantom-wan", "Today", "Clips") == [kiwi.id]
    for asked in (
        ("kiwi", "flashi2v", "Any time", "Clips"),
        ("kiwi", "", "Any time", "Starred"),
        ("kiwi", "", "Any time", "Trash"),
        ("mango", "", "Any time", "Clips"),
    ):
        assert found(book, *asked) == []
        assert "empty" in book.look_up({}, *asked)[book.column.empty]["value"]
    assert book.clip.star({}, kiwi.id)[book.column.opened.star] == history_clip.STARRED
    assert found(book, "kiwi", "", "Any time", "Starred") == [kiwi.id]
    book.clip.tag({}, kiwi.id, "fruit, , for Anna")
    assert found(book, "#fruit", "", "Any time", "Clips") == [kiwi.id]
    assert kiwi.id in found(book, None, ["odd"], 7, {"no": "choice"}), "what means nothing asks for nothing"


def test_clips_made_together_are_one_card_and_each_can_be_opened(
    studio: Studio, book: history.History, made: Job
) -> None:
    jobs = studio.submit(
        "phantom-wan", values(Path(made.request["references"][0]["path"]), "three foxes"), variations=3
    )
    ids = [wait_for(studio, job, "done").id for job in jobs]
    listed = book.look_up({}, "three foxes", *ASKED[1:])
    assert listed[book.column.listed] == [ids]
    ((_, words),) = listed[book.column.gallery]["value"]
    assert words == "3 clips · three foxes · 0.75 s"
    shown, column = book.open({}, [ids], FIRST), book.column.opened
    assert shown[book.column.chosen] == ids[0] and shown[column.group] == ids
    assert [seed for _, seed in shown[column.strip]["value"]] == ["seed 5", "seed 6", "seed 7"]
    again = book.open_sibling({}, ids, SECOND)
    assert again[book.column.chosen] == ids[1] and again[column.strip]["selected_index"] == 1


def test_captions_of_one_prompt_tell_the_seed(studio: Studio, book: history.History, made: Job) -> None:
    picture = Path(made.request["references"][0]["path"])
    for seed in (11, 12):
        wait_for(studio, studio.submit("phantom-wan", values(picture, "twin", seed=seed))[0], "done")
    words = [words for _, words in book.look_up({}, "twin", *ASKED[1:])[book.column.gallery]["value"]]
    assert words == ["twin · seed 12 · 0.75 s", "twin · seed 11 · 0.75 s"]


def test_a_clip_that_failed_says_why_and_can_be_thrown_away_and_taken_back(
    studio: Studio, book: history.History, made: Job
) -> None:
    picture = Path(made.request["references"][0]["path"])
    failed = wait_for(studio, studio.submit("phantom-wan", values(picture, "it breaks"))[0], "failed")
    asked = ("", "", "Any time", "Failed and cancelled")
    listed = book.look_up({}, *asked)
    assert [failed.id] in listed[book.column.listed] and listed[book.column.clear]["visible"]
    assert failed.id not in found(book)
    shown, column = book.open({}, [[failed.id]], FIRST), book.column.opened
    assert "could not be made" in shown[column.status] and not shown[column.video]["visible"]
    assert shown[column.use]["visible"] and not shown[column.download]["visible"]
    assert "it breaks" in shown[column.said] and shown[column.again]["visible"]
    assert "waits to be made again" in book.clip.again(smaller=False)(None, {}, failed.id)
    assert "could not be tried again" in book.clip.again(smaller=False)(None, {}, failed.id), "it waits or runs"
    failed = wait_for(studio, failed, "failed")
    assert failed.request["seed"] == 5 and failed.id in found(book, *asked)

    updates = book.clear({}, *asked)
    assert failed.id in updates[book.column.undone] and found(book, *asked) == []
    trash = ("", "", "Any time", "Trash")
    assert failed.id in found(book, *trash)
    shown = book.open({}, [[failed.id]], FIRST)
    assert shown[column.restore]["visible"] and shown[column.purge]["visible"] and not shown[column.delete]["visible"]
    book.restore({}, failed.id, *trash)
    assert failed.id in found(book, *asked)
    book.purge({}, failed.id, *asked)
    assert studio.store.get(failed.id) is not None, "only what is in the trash goes for good"
    book.delete({}, failed.id, *asked)
    book.purge({}, failed.id, *trash)
    assert studio.store.get(failed.id) is None


def test_nobody_opens_or_deletes_anothers_clip(studio: Studio, book: history.History, made: Job) -> None:
    strangers = history.History(
        replace(studio, settings=replace(studio.settings, public=True)), book.places, book.column
    )
    assert strangers.open({}, [[made.id]], FIRST) == gr.skip()
    for event in (strangers.delete, strangers.restore, strangers.purge):
        event({}, made.id, *ASKED)
    strangers.undo({}, *ASKED, [made.id])
    assert strangers.clip.star({}, made.id) == gr.skip()
    strangers.clip.tag({}, made.id, "x")
    assert made.id in found(book) and made.id not in found(strangers)


def test_a_whole_clip_goes_to_the_tab_that_takes_one_and_is_its_parent(
    studio: Studio, book: history.History, made: Job
) -> None:
    updates = book.clip.give("phantom-physics")({}, made.id)
    form = book.engine_tabs["phantom-physics"].form
    assert updates[book.places.tabs]["selected"] == "phantom-physics"
    path = Path(updates[form.component("clip")])
    assert path.read_bytes() == Path(made.result.video).read_bytes()
    given = {"clip": {"path": str(path)}}
    assert continuing.parents(studio, form.spec, given, owner="") == [made.id]
    assert continuing.parents(studio, form.spec, given, owner="another") == []


def test_a_frame_that_was_sent_on_tells_its_clip(studio: Studio, book: history.History, made: Job) -> None:
    form = book.engine_tabs["flashi2v"].form
    _, path, _ = send.deliver(studio, "flashi2v", [form])({}, made.id, 3, "flashi2v", None, 50)
    assert continuing.parents(studio, form.spec, {"picture": {"path": path}}, owner="") == [made.id]
    child = studio.submit("phantom-wan", values(Path(path), "a child of a frame"))[0]
    wait_for(studio, child, "done")
    shown, column = book.open({}, [[child.id]], FIRST), book.column.opened
    assert [word for _, word in shown[column.family]["value"]] == ["picture", "made from"]
    assert shown[column.related] == ["", made.id]
    assert book.open_relative({}, shown[column.related], FIRST) == gr.skip()
    assert book.open_relative({}, shown[column.related], SECOND)[book.column.chosen] == made.id
    shown = book.open({}, [[made.id]], FIRST)
    assert "became" in [word for _, word in shown[column.family]["value"]]
