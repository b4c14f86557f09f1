"""The Refine row: what a suggestion changes is shown, and no text keeps the page at work for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engines.errors import StudioError
from engines.loading.store import Store
from engines.messages import Ask
from engines.prompting.local_models import LOCAL_MODELS
from engines.registry import SPECS
from engines.request import MAX_PROMPT_CHARACTERS
from studio.page.refine_row import explained, render
from studio.refining import choices
from studio.service import Studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("a fox", "a fox runs", "a fox <ins>runs</ins>"),
        ("a fox", "now a fox", "<ins>now</ins> a fox"),
        ("a fox runs", "a red fox runs", "a <ins>red</ins> fox runs"),
        ("one two three", "one 2 three", "one <del>two</del> <ins>2</ins> three"),
        ("a a a", "a a", "a a <del>a</del>"),
        ("a b c d e", "a x c y e", "a <del>b</del> <ins>x</ins> c <del>d</del> <ins>y</ins> e"),
        ("<b> & a", "<b> & b", "&lt;b&gt; &amp; <del>a</del> <ins>b</ins>"),
        ("", "a", "<ins>a</ins>"),
    ],
)
def test_what_goes_and_comes_is_marked(before: str, after: str, shown: str) -> None:
    assert f"<p class='suggestion' translate=\"no\">{shown}</p>" in explained(before, after, ())


def test_words_that_repeat_themselves_are_not_compared_for_minutes() -> None:
    shown = explained("a b " * 4_000, "b a " * 4_000 + "c", ())
    assert shown.count("<del>") == shown.count("<ins>") == 1
    shown = explained("a b " * 50, "b a " * 50, ())
    assert "<ins>" in shown


def answered(studio: Studio, text: object, model: str) -> tuple[str, str]:
    """What the row shows at last, with nothing to accept, and the suggestion behind it."""
    with gr.Blocks(analytics_enabled=False):
        row = render(studio, SPECS["phantom-wan"])
    *_, last = row.suggest(text, model)
    assert last[row.choice]["visible"] is False and last[row.ask]["visible"] and not last[row.stop]["visible"]
    return last[row.shown]["value"], last[row.suggested]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("x" * (MAX_PROMPT_CHARACTERS + 1), "2,001 characters long: shorten it"), ("a\x1b[31m", "control characters"),
     ("a \ud800", "broken text"), (5, "must be text"), (["a"], "must be text")],
)  # fmt: skip
def test_what_generate_would_refuse_is_not_refined(text: object, sentence: str, idle: Studio) -> None:
    shown, last = answered(idle, text, "starter")
    assert sentence in shown and last == ""


def test_where_there_is_no_answer_its_sentence_stands_in_the_row(idle: Studio) -> None:
    """Of a model that is gone, or of a worker that does not answer: the typed text is in no way lost or rendered."""
    shown, last = answered(idle, "a fox", "<b>gone</b>")
    assert last == "" and "alert" in shown and "<b>" not in shown


def test_who_can_refine_here_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, store = Settings(outputs=tmp_path), Store(models=tmp_path)
    assert choices(settings, store) == [("by rules", "rules")]
    monkeypatch.setenv("KINORA_REFINER_URL", "https://models.example/v1")
    assert choices(settings, store) == [("by rules", "rules")], "an address alone is not enough"
    monkeypatch.setenv("KINORA_REFINER_MODEL", "writer-9")
    assert choices(settings, store) == [("by rules", "rules"), ("by writer-9", "endpoint")]
    for weights in LOCAL_MODELS["refine by qwen-3b"].spec.weights:
        for file in weights.files:
            path = tmp_path / weights.repo / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"weight_map": {"a": "model.safetensors"}}', encoding="utf-8")
            path.with_name("model.safetensors").write_bytes(b"x")
    everybody = choices(replace(settings, refiner="endpoint"), store)
    assert everybody == [("by writer-9", "endpoint"), ("by rules", "rules"), ("by Qwen2.5-VL 3B", "qwen-3b")]
    assert choices(replace(settings, public=True), store) == [("by rules", "rules")], "strangers have no choice"


def test_the_row_offers_a_choice_only_where_there_is_one(idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> gr.Dropdown:
        with gr.Blocks(analytics_enabled=False):
            return render(idle, SPECS["flashi2v"]).who

    assert not drawn().visible
    monkeypatch.setenv("KINORA_REFINER_URL", "https://models.example/v1")
    monkeypatch.setenv("KINORA_REFINER_MODEL", "writer-9")
    assert drawn().visible and drawn().value == "rules"
    asked: list[Ask] = []

    def ask(self: object, question: Ask) -> Iterator[None]:
        asked.append(question)
        return (piece for piece in ())

    monkeypatch.setattr(type(idle.executor), "ask", ask)
    with gr.Blocks(analytics_enabled=False):
        row = render(idle, SPECS["flashi2v"])
    for who in ("endpoint", "rules", ""):
        list(row.suggest("a fox", "1.3B", who))
    assert [question.task for question in asked] == ["refine by endpoint", "refine by rules", "refine by rules"]


@pytest.mark.parametrize("who", ["qwen-7b", "<b>nobody</b>", "endpoint"])
def test_a_refiner_that_is_not_here_is_refused(idle: Studio, who: str) -> None:
    with pytest.raises(StudioError, match="cannot be refined by"):
        idle.refining("flashi2v", "a fox", model="1.3B", refiner=who)
    with gr.Blocks(analytics_enabled=False):
        row = render(idle, SPECS["flashi2v"])
    *_, last = row.suggest("a fox", "1.3B", who)
    assert "cannot be refined by" in last[row.shown]["value"] and "<b>nobody" not in last[row.shown]["value"]
