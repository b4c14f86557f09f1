"""The refiner's endpoint against a real server that streams, stalls, breaks off and answers nonsense."""

from __future__ import annotations

import base64
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from engines.errors import RefinerError
from engines.prompting.endpoint import Endpoint, from_environment
from engines.prompting.instruction import Draft, instruction
from engines.prompting.reply import prompt_of
from engines.request import MAX_PROMPT_CHARACTERS
from tests.engines.refiner_server import ANSWER, RefinerServer, serving

KEY = "sk-of-a-test"


@pytest.fixture(scope="module")
def shared() -> Iterator[RefinerServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(shared: RefinerServer) -> RefinerServer:
    shared.asked.clear()
    return shared


def endpoint(server: RefinerServer, model: str, **changes: float) -> Endpoint:
    limits = {"connect_s": 2.0, "silence_s": 2.0, "whole_s": 10.0, "pause_s": 0.01}
    return Endpoint(server.address, model, KEY, **(limits | changes))


def refined(server: RefinerServer, model: str, draft: Draft | None = None, **changes: float) -> str:
    return prompt_of("".join(endpoint(server, model, **changes).refine(draft or Draft("a fox runs"))))


@pytest.mark.parametrize("model", ["good", "whole", "thinking", "word-by-word", "busy-twice"])
def test_an_answer_becomes_a_prompt(model: str, server: RefinerServer) -> None:
    assert refined(server, model) == ANSWER


def test_the_answer_streams(server: RefinerServer) -> None:
    pieces = [piece for piece in endpoint(server, "word-by-word").refine(Draft("a fox runs")) if piece]
    assert len(pieces) == len(ANSWER.split())


def test_the_model_is_given_the_prompt_the_rules_and_the_pictures(server: RefinerServer, tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), "red").save(tmp_path / "wide.png")
    Image.new("RGBA", (40, 40), (0, 0, 255, 128)).save(tmp_path / "small.png")
    pictures = (tmp_path / "wide.png", tmp_path / "small.png")
    draft = Draft("ein Fuchs rennt", pictures, advice="Name what moves.", words=77)
    refined(server, "good", draft)
    ((headers, body),) = server.asked
    assert headers["authorization"] == f"Bearer {KEY}"
    system, user = body["messages"]
    assert (system["role"], system["content"]) == ("system", instruction(draft))
    assert "and 2 pictures" in system["content"]
    assert "Name what moves." in system["content"]
    assert "At most 77 words" in system["content"]
    words, *images = user["content"]
    assert words == {"type": "text", "text": "ein Fuchs rennt"}
    seen = [Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))) for part in images]
    assert [image.size for image in seen] == [(1024, 341), (40, 40)]
    assert str(tmp_path) not in str(body)
    refined(server, "good")
    assert server.asked[1][1]["messages"][1]["content"] == "a fox runs"
    assert "picture" not in instruction(Draft("a fox runs"))


FAILURES = {
    "silent": "did not answer in time",
    "stalling": "did not answer in time",
    "chattering": "did not answer in time",
    "breaking-off": "broke off",
    "cut-in-a-chunk": "broke off",
    "too-long": "cut off at its limit",
    "filtered": "will not write about this",
    "empty": "nothing that could be a prompt",
    "blank": "nothing that could be a prompt",
    "endless": "did not stop writing",
    "endless-line": "no answer",
    "nonsense": "no answer",
    "page": "no answer",
    "other-json": "no answer",
    "number": "no answer",
    "nested": "no answer",
    "packed": "broke off",
    "failing-inside": "reported an error",
    "unknown-key": "refused the key",
    "unknown-model": "does not know this model",
    "blind": "refused the question",
    "down": "busy or out of order",
    "moved": "has moved",
}


@pytest.mark.parametrize("model", FAILURES)
def test_every_failure_is_a_sentence_in_bounded_time(model: str, server: RefinerServer) -> None:
    began = time.monotonic()
    with pytest.raises(RefinerError, match=FAILURES[model]) as caught:
        refined(server, model, whole_s=0.6, silence_s=0.3, retries=1)
    assert time.monotonic() - began < 10
    for secret in (KEY, "sk-secret", server.address, "<script>", "Traceback"):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.__cause__ or "")


@pytest.mark.parametrize(("model", "calls"), [("down", 3), ("unknown-key", 1), ("stalling", 1), ("nonsense", 1)])
def test_only_what_has_not_begun_is_asked_again(model: str, calls: int, server: RefinerServer) -> None:
    with pytest.raises(RefinerError):
        refined(server, model, silence_s=0.3)
    assert len(server.asked) == calls


def test_the_key_is_not_sent_where_the_endpoint_redirects_to(server: RefinerServer) -> None:
    with serving() as other:
        server.elsewhere = other.address
        with pytest.raises(RefinerError, match="has moved"):
            refined(server, "moved")
        assert other.asked == []


def test_who_stops_listening_is_let_go_at_once(server: RefinerServer) -> None:
    began = time.monotonic()
    answer = endpoint(server, "stalling", silence_s=30.0).refine(Draft("a fox runs"))
    assert "".join(itertools.islice(answer, 3)).strip() == "A red"  # and then it looks up without a word
    answer.close()
    assert time.monotonic() - began < 5


def test_nobody_listens_at_the_address() -> None:
    nobody = Endpoint("http://127.0.0.1:9/v1", "good", pause_s=0.01)
    with pytest.raises(RefinerError, match="cannot be reached"):
        list(nobody.refine(Draft("a fox runs")))


def test_the_environment_alone_sets_it_up_and_the_key_stays_there() -> None:
    given = {
        "KINORA_REFINER_URL": "https://models.example/v1",
        "KINORA_REFINER_MODEL": "big",
        "KINORA_REFINER_KEY": KEY,
    }
    found = from_environment(given)
    assert found.name == "big at models.example"
    assert KEY not in repr(found)
    for wrong in ({}, {"KINORA_REFINER_URL": "models.example"}, {"KINORA_REFINER_MODEL": ""}):
        with pytest.raises(RefinerError, match="not set up"):
            from_environment((given | wrong) if wrong else {})
    with pytest.raises(RefinerError, match="no encrypted connection") as caught:
        from_environment(given | {"KINORA_REFINER_URL": "http://models.example/v1"})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "prompt"),
    [
        ('"A fox runs."', "A fox runs."),
        ('A fox says "hello" and "bye"', 'A fox says "hello" and "bye"'),
        ('"Hello," says a fox. "Bye."', '"Hello," says a fox. "Bye."'),
        ("```text\nA fox\n\nruns.\n```", "A fox runs."),
        ("Here is the improved prompt: A fox runs.", "A fox runs."),
        ("Prompt: A fox runs at 12:30.", "A fox runs at 12:30."),
        ("<thinking>hm</thinking>A fox.", "A fox."),
        ("一只狐狸在雪地里奔跑。", "一只狐狸在雪地里奔跑。"),
        ("A \u202efox\u202c\x07 runs\x1b[31m 👩\u200d🚀", "A fox runs [31m 👩\u200d🚀"),
        ("<b>A fox</b> runs", "<b>A fox</b> runs"),  # the page shows it as text
    ],
)
def test_what_models_put_around_a_prompt_is_taken_off(reply: str, prompt: str) -> None:
    assert prompt_of(reply) == prompt


@pytest.mark.parametrize("reply", ["", " \n", "<think>and on", '""', "…", "\u200b", "x" * (MAX_PROMPT_CHARACTERS + 1)])
def test_what_is_no_prompt_is_refused(reply: str) -> None:
    with pytest.raises(RefinerError):
        prompt_of(reply)


def test_offline_no_other_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RefinerError, match="offline"):
        Endpoint("https://models.example/v1", "big")
    assert Endpoint("http://127.0.0.1:9/v1", "big").name == "big at 127.0.0.1"
