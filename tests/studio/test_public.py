"""A studio that strangers share: nobody reaches another's clips, and nobody fills the queue alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engines.errors import StudioError
from studio.page import panel
from studio.page.api import Calls
from studio.page.visitor import visitor
from studio.service import MAX_ACTIVE_OF_VISITOR, Studio


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
    public.submit("phantom-wan", wanted(picture), owner="mine", variations=MAX_ACTIVE_OF_VISITOR)
    with pytest.raises(StudioError) as refused:
        public.submit("phantom-wan", wanted(picture), owner="mine")
    assert str(MAX_ACTIVE_OF_VISITOR) in str(refused.value)
    public.submit("phantom-wan", wanted(picture), owner="yours")
