"""Mending a cut-out on the page: what a slot holds, shows and hands on, and the text that the window writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.inputs import media_fields
from engines.media import brush
from engines.registry import SPECS
from studio.page import slots
from studio.page.uploads import served
from tests.studio.node import called, needs_node

DECLARED = media_fields(SPECS["phantom-wan"].request_type)["references"]
STROKES = "+3 40,10 42,12; -8 90,90"


@pytest.fixture
def upload(picture: Path) -> dict[str, Any]:
    return {"path": served(picture)}


def test_a_slot_holds_strokes_that_count_where_the_background_is_let_go(upload: dict[str, Any]) -> None:
    raw = [upload, False, STROKES, None, True, "", upload, True, STROKES]
    first, second = slots.read(raw, DECLARED)
    assert (first["keep_background"], first["brush"]) == (False, STROKES)
    assert (second["keep_background"], second["brush"]) == (True, ""), "they wait until it is let go"
    shown = slots.show([{"path": upload["path"], "keep_background": False, "brush": STROKES}], DECLARED)
    assert shown[1:6] == [False, STROKES, None, True, ""] and len(shown) == 3 * DECLARED.most


def test_strokes_go_with_their_picture_and_not_to_another(upload: dict[str, Any]) -> None:
    raw = [upload, False, STROKES, None, True, "+1 1,1"]
    assert slots._move(0, +1)(*raw) == [None, True, "+1 1,1", upload["path"], False, STROKES]
    board = slots.Board((), DECLARED)
    taken = board.take("new.png", raw)
    assert (taken[3], taken[5]) == ("new.png", "") and taken[2] != "", "the first empty slot, without old strokes"
    assert board.take("new.png", raw[:3]) is None


def test_a_slot_offers_the_brush_where_something_is_cut_out_and_shows_the_result(upload: dict[str, Any]) -> None:
    seen, mend = [], []
    for keep, strokes in ((True, ""), (False, ""), (False, "-20 50,50"), (False, "scribble")):
        shown = slots.look(DECLARED, upload, keep, strokes, "96x64")
        seen.append(shown[0])
        mend.append(shown[-1]["visible"])
    assert mend == [False, True, True, True]
    assert "below" not in seen[0] and 'class="below"' in seen[1] and seen[1] != seen[2]
    assert "Write a stroke of the brush" in seen[3], "what comes from outside is read like anything else"
    assert slots.look(DECLARED, None, True, "", "96x64")[0] == ""


@needs_node
def test_the_window_writes_what_the_studio_reads() -> None:
    points = [{"x": 0.405, "y": 0.1}, {"x": 1.2, "y": -0.1}]
    plus, minus = called(("strokeText", [True, 3, points]), ("strokeText", [False, 2.5, points[:1]]))
    assert (plus, minus) == ("+3 40.5,10 100,0", "-2.5 40.5,10")
    (both,) = called(("withStroke", [plus, minus]))
    assert [stroke.adds for stroke in brush.parse(both)] == [True, False]
    undone, empty, full = called(
        ("withoutLast", [both]), ("withoutLast", [""]), ("withStroke", ["+3 1,1;" * 4000, minus])
    )
    assert (undone, empty, full) == (plus, "", None)
