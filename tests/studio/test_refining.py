"""A better prompt through every door, answered by a real worker process; and what happens where no answer comes."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engines.errors import InvalidRequest, StudioError
from engines.events import Answer, Cancelled, Failed, Words
from engines.messages import Ask
from engines.prompting.rules import refine
from engines.prompting.small_world import translated
from engines.prompting.tasks import TASKS, refining_task
from studio.command_line import main
from studio.jobs.asking import NoAnswer, pieces
from studio.jobs.in_event import InEventExecutor
from studio.jobs.local import LocalExecutor
from studio.page import panel, tab
from studio.page.api import Calls
from studio.page.refine_row import render
from studio.service import Studio, open_studio
from studio.settings import Settings, from_environment
from tests.engines import tiny_bindweave, tiny_wan
from tests.engines.refiner_server import ANSWER, serving
from tests.studio.conftest import LOOPS_LEFT_OPEN, values, wait_for

pytestmark = LOOPS_LEFT_OPEN
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
    assert starter.text == translated(PROMPT)[0] and "camera" not in starter.text
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
    with gr.Blocks(analytics_enabled=False):
        row = render(studio, studio.spec("phantom-wan"))
    *_, last = row.suggest(PROMPT, "1.3B", "", {"path": str(picture)})
    assert last[row.suggested] == refine(PROMPT, pictures=[picture]).text and last[row.by] == "rules"
    assert "<ins>" in last[row.shown]["value"] and last[row.choice]["visible"]


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
    assert json.loads(capsys.readouterr().out) == {
        "prompt": expected.text, "reasons": list(expected.reasons), "by": "rules"
    }  # fmt: skip
    assert main(["refine", PROMPT, "--engine", "nope"]) == 2
    assert main(["refine", "x" * 20_000, "--engine", "phantom-wan"]) == 2


def test_inside_an_event_it_answers_too(settings: Settings) -> None:
    studio = open_studio(settings, InEventExecutor)
    assert studio.refine("phantom-wan", PROMPT, model="1.3B") == refine(PROMPT)
    with pytest.raises(StudioError, match="cannot be asked"):
        list(studio.executor.ask(Ask(id="q", task="dance")))
    studio.store.close()


def test_the_settings_choose_who_refines(settings: Settings, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process, and a server as other machines have them."""
    studio = open_studio(replace(settings, refiner="endpoint", devices=("cpu",)), LocalExecutor)
    with serving() as server:
        for name, value in (("URL", server.address), ("MODEL", "word-by-word"), ("KEY", "sk-of-a-test")):
            monkeypatch.setenv(f"KINORA_REFINER_{name}", value)
        studio.executor.start()
        try:
            *words, answer = studio.refining("phantom-wan", PROMPT, model="1.3B", pictures=[picture])
            assert answer.text == ANSWER and answer.by == "word-by-word at 127.0.0.1"
            assert len([piece for piece in words if piece.text]) > 3
            assert server.asked[0][0]["authorization"] == "Bearer sk-of-a-test"
            assert studio.refine("phantom-wan", PROMPT, model="starter").by == "rules"

            with gr.Blocks(analytics_enabled=False):
                row = render(studio, studio.spec("phantom-wan"))
            shown = [*row.suggest(PROMPT, "1.3B")]
            assert "Looking at" in shown[0][row.shown]["value"] and len(shown) > 3
            assert shown[0][row.stop]["visible"] and "aria-busy" in shown[-2][row.shown]["value"]
            last = shown[-1]
            assert last[row.suggested] == ANSWER and not last[row.stop]["visible"] and last[row.ask]["visible"]
            assert "Written by word-by-word at 127.0.0.1." in last[row.shown]["value"]
        finally:
            studio.executor.close()
            studio.store.close()
    assert not [path for path in settings.outputs.rglob("*") if path.is_file() and b"sk-of-a-test" in path.read_bytes()]


def test_a_network_writes_in_the_worker(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny Qwen2.5-VL; its files are read first, which is waited for longer than for the rules."""
    files = tiny_bindweave.write_model(tmp_path)
    tiny_wan.write(files["mllm"][0], tiny_bindweave.qwen(loud=True), tiny_bindweave.QWEN)
    overrides = tuple(f"bindweave/14B/{role}={files[role][0]}" for role in ("mllm", "mllm_tokenizer"))
    studio = open_studio(replace(settings, refiner="qwen-7b", overrides=overrides), LocalExecutor)
    studio.executor.start()
    try:
        *words, answer = studio.refining("phantom-wan", PROMPT, model="1.3B")
        assert answer.by == "Qwen2.5-VL 7B" and len(words) > 3
        name = refining_task("qwen-7b")
        assert TASKS[name].patience_s > TASKS[refining_task("rules")].patience_s
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], patience_s=1e-6))
        with pytest.raises(NoAnswer):
            studio.refine("phantom-wan", PROMPT, model="1.3B")
    finally:
        studio.executor.close()
        studio.store.close()


def test_a_refiner_that_fails_is_a_sentence_on_the_page(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "MODEL", "KEY"):
        monkeypatch.delenv(f"KINORA_REFINER_{name}", raising=False)
    studio = open_studio(replace(settings, refiner="endpoint"), InEventExecutor)
    with gr.Blocks(analytics_enabled=False):
        row = render(studio, studio.spec("phantom-wan"))
    *_, shown = row.suggest(PROMPT, "1.3B")
    assert "endpoint is not set up" in shown[row.shown]["value"] and not shown[row.choice]["visible"]
    assert shown[row.suggested] == "", "nothing to accept"
    studio.store.close()


def test_both_texts_and_the_refiner_go_with_the_clip(idle: Studio) -> None:
    with gr.Blocks(analytics_enabled=False):
        drawn = tab.render(idle, idle.spec("phantom-wan"), browser=gr.BrowserState({}))
        row = render(idle, idle.spec("phantom-wan"))
    once = row._accepted("a red fox runs", "someone", "a fox runs", "", "")
    assert once[:4] == ["a red fox runs", "a fox runs", "someone", "a fox runs"]
    twice = row._accepted("a red fox runs fast", "rules", *once[:3])
    assert twice[:4] == ["a red fox runs fast", "a fox runs", "rules", "a red fox runs"], "the written one stays"
    assert row._undone("a red fox runs", "a fox runs", "rules")[:3] == ["a red fox runs", "a fox runs", "rules"]
    assert row._undone("a fox runs", "a fox runs", "someone")[:3] == ["a fox runs", "", ""]
    held = {component: component.value for component in drawn.form.components}
    for name, value in zip(("prompt", "written_prompt", "refined_by"), once, strict=False):
        held[drawn.form.component(name)] = value
    (job,) = idle.submit("phantom-wan", drawn.form.read(list(held.values())))
    assert (job.request["written_prompt"], job.request["refined_by"]) == ("a fox runs", "someone")
    facts = {row.label: row.value for row in panel.facts(idle.spec("phantom-wan"), job)}
    assert facts["Prompt as written"] == "a fox runs" and facts["Refined by"] == "someone"


@pytest.mark.parametrize("text", ["chatgpt", "qwen", " "])
def test_a_refiner_that_there_is_not_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINORA_REFINER", text)
    if not text.strip():
        assert from_environment().refiner == "rules"
        return
    with pytest.raises(StudioError, match="KINORA_REFINER must be rules, endpoint, qwen-3b or qwen-7b"):
        from_environment()


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
    question = Ask(id="q", task="refine by rules", text=PROMPT)
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


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([""], "no prompt to refine"), (["  \n"], "no prompt to refine"),
        (["a fox", "--ref", "none.png"], 'no picture "none.png"'), (["a fox", "--ref", "."], "is not a file"),
        (["a fox", "--ref", "~nobody9/x.png"], 'no picture "x.png"'), (["a fox", "--ref", "page.png"], "is a web page"),
        (["a fox", "--model", "99B"], "Model must be"),
    ],
)  # fmt: skip
def test_an_odd_question_on_the_command_line_is_one_sentence(
    given: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.png").write_text("<!doctype html>")
    monkeypatch.chdir(tmp_path)
    assert main(["refine", *given, "--engine", "phantom-wan"]) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1 and str(tmp_path) not in said.err and not said.out
