"""A studio that strangers share: nobody reaches another's clips, and nobody fills the queue alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import starlette.requests

from engines.errors import StudioError
from studio import editing, queue, serving, sweep
from studio.limits import KEPT_S, MOST_OF_CONNECTION, MOST_OF_VISITOR
from studio.page import panel
from studio.page.api import Calls
from studio.page.visitor import CALLERS, caller, connection, visitor
from studio.service import Studio
from tests.studio.kept_clips import keep


@pytest.fixture
def public(idle: Studio) -> Studio:
    return replace(idle, settings=replace(idle.settings, public=True))


def wanted(picture: Path) -> dict:
    return {"model": "starter", "prompt": "a red circle", "references": [{"path": str(picture)}]}


def test_every_browser_is_somebody_and_stays_so(public: Studio, idle: Studio) -> None:
    one, other = (visitor(public, browser) for browser in (None, {"owner": "short"}))
    assert one["owner"] != other["owner"] and min(len(one["owner"]), len(other["owner"])) == 32
    assert visitor(public, one)["owner"] == one["owner"]
    assert visitor(idle, one)["owner"] == ""  # a private studio has one user


def test_a_stranger_sees_ends_and_deletes_nothing(public: Studio, picture: Path) -> None:
    (job,) = public.submit("phantom-wan", wanted(picture), owner="mine")
    for stranger in ("yours", ""):
        assert public.job(job.id, owner=stranger) is None
        public.cancel(job.id, owner=stranger)
        public.delete(job.id, owner=stranger)
        assert panel.clips(public, job.batch, owner=stranger) == []
    with pytest.raises(gr.Error, match="no job with this id"):
        Calls(public).job(job.id)
    assert public.job(job.id, owner="mine").state == "queued"
    public.cancel(job.id, owner="mine")
    assert public.job(job.id, owner="mine").state == "cancelled"


def test_one_visitor_cannot_fill_the_queue(public: Studio, picture: Path) -> None:
    public.submit("phantom-wan", wanted(picture), owner="mine", variations=MOST_OF_VISITOR)
    with pytest.raises(StudioError) as refused:
        public.submit("phantom-wan", wanted(picture), owner="mine")
    assert str(MOST_OF_VISITOR) in str(refused.value)
    public.submit("phantom-wan", wanted(picture), owner="yours")


def asked_from(address: str, told: str = "") -> gr.Request:
    """A request over a connection, with what proxies tell of where it comes from."""
    headers = [(b"x-forwarded-for", told.encode())] if told else []
    return gr.Request(starlette.requests.Request({"type": "http", "client": (address, 5), "headers": headers}))


def test_invented_visitors_share_what_their_connection_may(public: Studio, picture: Path) -> None:
    for number in range(MOST_OF_CONNECTION):
        public.submit("phantom-wan", wanted(picture), owner=f"invented {number}", connection="192.0.2.1")
    with pytest.raises(StudioError, match="at most"):
        public.submit("phantom-wan", wanted(picture), owner="invented again", connection="192.0.2.1")
    public.submit("phantom-wan", wanted(picture), owner="another", connection="192.0.2.2")
    for job in public.store.active():
        public.cancel(job.id, owner=job.owner)
    public.submit("phantom-wan", wanted(picture), owner="invented again", connection="192.0.2.1")


@pytest.mark.parametrize(
    "owner", ["x" * 32, "A" * 32, "0" * 31, "0" * 33, f"{CALLERS}{'0' * 32}", "0" * 32 + "\n", 5, None]
)
def test_a_name_of_another_form_is_nobody_s(public: Studio, owner: object) -> None:
    assert visitor(public, {"owner": owner})["owner"] != owner


def test_programs_are_told_apart_by_connection(public: Studio, idle: Studio, picture: Path) -> None:
    one, other = (asked_from(address) for address in ("192.0.2.1", "192.0.2.2"))
    assert len({caller(public, one), caller(public, other)}) == 2 and caller(idle, one) == ""
    calls = Calls(public)
    public.submit("phantom-wan", wanted(picture), owner="browser")
    for request in (one, one, other):
        where = request.client.host
        public.submit("phantom-wan", wanted(picture), owner=caller(public, request), connection=where)
    with pytest.raises(StudioError, match="at most"):
        public.submit("phantom-wan", wanted(picture), owner=caller(public, one), connection="192.0.2.1")
    mine = public.store.active(owner=caller(public, one))[0]
    assert calls.job(mine.id)["state"] == "queued"
    with pytest.raises(gr.Error, match="no job with this id"):
        calls.job(public.store.active(owner="browser")[0].id)


def test_many_calls_at_once_queue_no_more_than_one_after_the_other(public: Studio, picture: Path) -> None:
    def one(number: int) -> None:
        with suppress(StudioError):
            public.submit("phantom-wan", wanted(picture), owner="mine", connection="192.0.2.1")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(32)))
    assert len(public.store.active(owner="mine")) == MOST_OF_VISITOR


def test_where_a_visitor_comes_from_cannot_be_invented(public: Studio) -> None:
    hosted = replace(public.settings, hosted=True)
    assert connection(hosted, asked_from("10.0.0.1", "8.8.8.8, 1.1.1.1, 10.2.3.4")) == "1.1.1.1"
    assert connection(hosted, asked_from("10.0.0.1", "nonsense")) == "10.0.0.1"
    assert connection(public.settings, asked_from("192.0.2.1", "8.8.8.8")) == "192.0.2.1"
    assert connection(public.settings, None) == ""


def test_what_is_over_is_kept_for_an_hour(public: Studio, picture: Path) -> None:
    over, young, waits = (public.submit("phantom-wan", wanted(picture), owner=name)[0] for name in ("a", "b", "c"))
    public.cancel(over.id, owner="a")
    ended = public.job(over.id, owner="a").finished
    public.cancel(young.id, owner="b")
    assert public.forget_old(now=ended + KEPT_S) == 0
    assert public.forget_old(now=ended + KEPT_S + 1e-3) >= 1
    assert public.job(over.id, owner="a") is None
    public.forget_old(now=ended + 10 * KEPT_S)
    assert public.job(young.id, owner="b") is None
    assert public.job(waits.id, owner="c").state == "queued"  # however long it waits
    public.cancel(waits.id, owner="c")
    public.forget_old(now=ended + 10 * KEPT_S)
    assert not list(public.settings.pictures.iterdir())  # the pictures of what is gone are gone


def test_only_a_shared_studio_clears_away_what_is_over(
    idle: Studio, public: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_S == 3600
    (job,) = public.submit("phantom-wan", wanted(picture), owner="mine")
    public.cancel(job.id, owner="mine")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEPT_S + 60)
    serving.sweep(idle)
    assert idle.store.get(job.id) is not None
    serving.sweep(public)
    assert public.store.get(job.id) is None


@pytest.mark.parametrize("way", ["copy", "sweep", "edit", "second try"])
def test_every_way_to_ask_for_a_clip_counts_for_the_connection(public: Studio, picture: Path, way: str) -> None:
    for number in range(MOST_OF_CONNECTION):
        asks = {"owner": f"invented {number}", "connection": "192.0.2.1"}
        if way == "sweep":
            sweep.submit(public, "phantom-wan", wanted(picture), [sweep.Axis("seed", (1,))], **asks)
        elif way == "edit":
            clip = keep(public.store, public.settings.outputs, "a star", owner=asks["owner"])
            editing.submit(public, "reverse", {"clip": clip.id}, **asks)
        else:
            (job,) = public.submit("phantom-wan", wanted(picture), owner=asks["owner"])
            if way == "second try":
                public.cancel(job.id, owner=job.owner)
            (queue.duplicate if way == "copy" else queue.retry)(public, job.id, **asks)
    with pytest.raises(StudioError, match="at most"):
        public.submit("phantom-wan", wanted(picture), owner="invented again", connection="192.0.2.1")
