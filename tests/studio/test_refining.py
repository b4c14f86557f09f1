"""A better prompt through every door, answered by a real worker process; and what happens where no answer comes."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
from pathlib import Path

import gradio as gr
import pytest

from engines.errors import InvalidRequest, StudioError
from engines.events import Answer, Cancelled, Failed, Words
from engines.messages import Ask
from engines.prompting.rules import refine
from studio.command_line import main
from studio.jobs.asking import NoAnswer, pieces
from studio.jobs.in_event import InEventExecutor
from studio.jobs.local import LocalExecutor
from studio.page.api import Calls
from studio.page.refining import Refining
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import values, wait_for

PROMPT = "a fox runs"


def test_it_answers_while_a_clip_is_made(studio: Studio, picture: Path) -> None:
    (job,) = studio.submit("phantom-wan", values(picture, "it goes slowly", steps=200))
    wait_for(studio, job, "running")
    found = studio.refine("phantom-wan", PROMPT, model="1.3B", pictures=[picture])
    assert found == refine(PROMPT, pictures=[picture])
    assert studio.store.get(job.id).state == "running"
    studio.cancel(job.id)
    wait_for(studio, job, "cancelled")


def test_the_model_decides_what_may_be_added(studio: Studio) -> None:
    starter = studio.refine("flashi2v", PROMPT, model="starter")
    assert starter.text == PROMPT and "small world" in starter.reasons[0]
    assert studio.refine("flashi2v", PROMPT, model="1.3B").text != PROMPT


@pytest.mark.parametrize(
    ("engine", "prompt", "more", "says"),
    [
        ("nope", PROMPT, {}, "no engine"),
        ("phantom-wan", PROMPT, {"model": "nope"}, "Model must be"),
        ("phantom-wan", "x" * 20_000, {}, "shorten it"),
        ("phantom-wan", "a fox\x07 runs", {}, "control characters"),
    ],
)
def test_what_generate_would_refuse_is_refused(studio: Studio, engine: str, prompt: str, more: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        studio.refine(engine, prompt, **more)


def test_an_empty_prompt_is_answered(studio: Studio) -> None:
    assert "Write first" in studio.refine("phantom-wan", "  ", model="1.3B").reasons[0]


def test_the_page_shows_it(studio: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(picture.parent))
    row = Refining(studio, studio.spec("phantom-wan"), *[None] * 8)
    text, shown, choice = row._suggest(PROMPT, "1.3B", {"path": str(picture)})
    assert text == refine(PROMPT, pictures=[picture]).text
    assert "<ins>" in shown["value"] and choice["visible"]


def test_the_api_gives_it(studio: Studio, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(picture.parent))
    calls = Calls(studio)
    found = calls.refine("phantom-wan", PROMPT, [{"path": str(picture)}], "1.3B")
    assert found["prompt"] == refine(PROMPT, pictures=[picture]).text and found["reasons"]
    for odd in (
        ("phantom-wan", 5, []),
        ("phantom-wan", PROMPT, "x"),
        ("phantom-wan", PROMPT, [{"path": "/etc/passwd"}]),
    ):
        with pytest.raises(gr.Error):
            calls.refine(*odd)


def test_the_command_line_prints_it(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["refine", PROMPT, "--engine", "phantom-wan", "--model", "1.3B", "--ref", str(picture)]
    assert main(words) == 0
    said = capsys.readouterr()
    expected = refine(PROMPT, pictures=[picture])
    assert said.out == f"{expected.text}\n" and said.err.splitlines() == list(expected.reasons)
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prompt": expected.text, "reasons": list(expected.reasons)}
    assert main(["refine", PROMPT, "--engine", "nope"]) == 2
    assert main(["refine", "x" * 20_000, "--engine", "phantom-wan"]) == 2


def test_inside_an_event_it_answers_too(settings: Settings) -> None:
    studio = open_studio(settings, InEventExecutor)
    assert studio.refine("phantom-wan", PROMPT, model="1.3B") == refine(PROMPT)
    with pytest.raises(StudioError, match="cannot be asked"):
        list(studio.executor.ask(Ask(id="q", task="dance")))
    studio.store.close()


def said(*events: object) -> queue.SimpleQueue:
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    for event in events:
        inbox.put(event)
    return inbox


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ((), "takes too long"),
        ((Words(text="a"),), "takes too long"),
        ((Failed(kind="StudioError", message="No."),), "No."),
        ((Cancelled(),), "cancelled"),
        ((Words(text="a"), None), "ended unexpectedly"),
    ],
)
def test_no_answer_is_a_sentence(events: tuple, sentence: str) -> None:
    with pytest.raises(StudioError, match=sentence):
        list(pieces(said(*events), patience_s=0.05))


def test_words_come_one_by_one() -> None:
    events = [Words(text="a"), Words(text="b"), Answer(text="a b")]
    assert list(pieces(said(*events))) == events


def test_a_process_that_dies_or_says_nothing_ends_the_question(settings: Settings, specs: dict) -> None:
    """The plain worker takes no question; it is found by its process, which then ends."""
    studio = open_studio(settings, LocalExecutor, command=(sys.executable, "-m", "tests.studio.plain_worker"))
    with pytest.raises(StudioError, match="not at work"):
        studio.refine("phantom-wan", PROMPT)
    studio.executor.start()
    question = Ask(id="q", task="refine", text=PROMPT)
    asked = studio.executor._put(question)
    os.kill(asked.process.pid, signal.SIGKILL)
    with pytest.raises(StudioError, match="ended unexpectedly"):
        list(pieces(asked.inbox))
    again = studio.executor._put(question)
    assert again.process is not asked.process, "another process takes the next one"
    with pytest.raises(NoAnswer):
        list(pieces(again.inbox, patience_s=0.05))
    studio.executor.close()
    studio.store.close()
