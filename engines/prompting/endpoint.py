"""Refining by any endpoint that speaks OpenAI's chat protocol. The key comes from the environment alone.

The answer is streamed, and bounded in time and size whatever the other side does. Nothing that it sends is shown but
the prompt; the key goes to no other host (redirects are not followed) and into no message.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from PIL import Image

from engines.errors import RefinerError
from engines.events import Answer, Words
from engines.media.pictures import open_picture
from engines.messages import Ask
from engines.prompting import rules
from engines.prompting.background import Put, pieces
from engines.prompting.drafts import draft_of, in_small_world
from engines.prompting.instruction import Draft, instruction
from engines.prompting.reply import MAX_REPLY_CHARACTERS, prompt_of

ADDRESS, MODEL, KEY = "KINORA_REFINER_URL", "KINORA_REFINER_MODEL", "KINORA_REFINER_KEY"
MAX_TOKENS = 1_000
MAX_PICTURE_SIDE = 1_024
# Bytes of a whole answer; its JSON is some fifty times longer than its text.
MAX_BYTES = 100 * MAX_REPLY_CHARACTERS
MAX_LINE_BYTES = 10 * MAX_REPLY_CHARACTERS
_BUSY = (408, 409, 425, 429, 500, 502, 503, 504)
_LOCAL = ("127.0.0.1", "localhost", "::1")


class _Again(RefinerError):
    """Worth another try: nothing of the answer has come yet."""


@dataclass(frozen=True)
class Endpoint:
    """Where prompts are refined.

    Attributes:
        address: up to and with the version, "https://models.example/v1".
        connect_s, silence_s, whole_s: longest waits for a connection, between two pieces, and for the whole answer.
        retries: how often a call is made again that failed before the answer began.
        pause_s: before the first repetition; doubled each time.
    """

    address: str
    model: str
    key: str = field(default="", repr=False)
    connect_s: float = 10.0
    silence_s: float = 60.0
    whole_s: float = 180.0
    retries: int = 2
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        place = urlsplit(self.address)
        if place.scheme not in ("http", "https") or not place.hostname or not self.model:
            raise RefinerError(
                "The refiner's endpoint is not set up.",
                hint=f'Set {ADDRESS} to an address such as "https://models.example/v1", {MODEL} to a model it has.',
            )
        if os.environ.get("HF_HUB_OFFLINE") == "1" and place.hostname not in _LOCAL:
            raise RefinerError(
                "The studio is offline, and the refiner's endpoint is on another machine.",
                hint="Start it without --offline, or choose another refiner.",
            )
        if self.key and place.scheme == "http" and place.hostname not in _LOCAL:
            raise RefinerError(
                "The refiner's endpoint has no encrypted connection, so the key is not sent to it.",
                hint=f"Use an address in {ADDRESS} that begins with https, or leave {KEY} empty.",
            )

    @property
    def name(self) -> str:
        """What to call this refiner in the settings of a clip: the model and its host, never the key."""
        return f"{self.model} at {urlsplit(self.address).hostname}"

    def refine(self, draft: Draft) -> Generator[str, None, None]:
        """The answer to a draft, piece by piece, and "" while nothing comes; closing the generator leaves it.

        Raises:
            RefinerError: no usable answer came; the sentence says why.
            MediaError: a picture cannot be read.
        """
        question = self._question(draft)
        return pieces(lambda put, stopped: self._ask(question, put, stopped), awaited=False)

    def _question(self, draft: Draft) -> dict[str, Any]:
        pictures = [{"type": "image_url", "image_url": {"url": _inline(path)}} for path in draft.pictures]
        asked: Any = [{"type": "text", "text": draft.prompt}, *pictures] if pictures else draft.prompt
        messages = [{"role": "system", "content": instruction(draft)}, {"role": "user", "content": asked}]
        return {"model": self.model, "messages": messages, "max_tokens": MAX_TOKENS, "stream": True}

    def _ask(self, question: Mapping[str, Any], put: Put, stopped: threading.Event) -> None:
        ends = time.monotonic() + self.whole_s
        pause = self.pause_s
        for left in range(self.retries, -1, -1):
            try:
                self._call(question, put, stopped, ends)
                return
            except _Again:
                if left == 0 or stopped.wait(pause) or time.monotonic() > ends:
                    raise
                pause *= 2

    def _call(self, question: Mapping[str, Any], put: Put, stopped: threading.Event, ends: float) -> None:
        """One call, to its end. _Again before anything of the answer was put, RefinerError afterwards."""
        timeout = httpx2.Timeout(self.silence_s, connect=self.connect_s)
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        local = urlsplit(self.address).hostname in _LOCAL
        began = False
        try:
            with (
                httpx2.Client(timeout=timeout, trust_env=not local, follow_redirects=False) as client,
                client.stream(
                    "POST", f"{self.address.rstrip('/')}/chat/completions", json=question, headers=headers
                ) as response,
            ):
                if response.status_code != 200:
                    raise _refusal(response.status_code)
                for piece in _texts(response, ends=ends, stopped=stopped):
                    began = True
                    put(piece)
        except httpx2.TimeoutException:
            kind: type[RefinerError] = RefinerError if began else _Again
            raise kind("The refiner's endpoint did not answer in time.", hint="Try again later.") from None
        except (httpx2.ConnectError, httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            raise _Again("The refiner's endpoint cannot be reached.", hint=f"Check the address in {ADDRESS}.") from None
        except (httpx2.HTTPError, UnicodeEncodeError):
            kind = RefinerError if began else _Again
            raise kind("The refiner's endpoint broke off its answer.", hint="Try again.") from None


def answer(question: Ask, session: Any = None) -> Generator[Words | Answer, None, None]:
    """The refiner "endpoint" of engines/prompting/tasks.py; Words without text say that it is still waited for.

    Raises:
        RefinerError, MediaError: see Endpoint.refine.
    """
    if in_small_world(question):
        yield from rules.answer(question)
        return
    endpoint, said = from_environment(), ""
    with closing(endpoint.refine(draft_of(question))) as written:
        for piece in written:
            said += piece
            yield Words(text=piece)
    yield Answer(text=prompt_of(said), by=endpoint.name)


def from_environment(environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that the environment names; raises RefinerError if it names none."""
    return Endpoint(environment.get(ADDRESS, ""), environment.get(MODEL, ""), environment.get(KEY, ""))


def _inline(path: Path) -> str:
    """A picture as a data address: JPEG, its longer side at most 1024 pixels."""
    image = open_picture(path, as_published=False)
    image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _refusal(status: int) -> RefinerError:
    """What to say of an answer that is none."""
    if status in _BUSY:
        return _Again("The refiner's endpoint is busy or out of order.", hint="Try again later.")
    if status in (401, 403):
        return RefinerError("The refiner's endpoint refused the key.", hint=f"Check {KEY}.")
    if status == 404:
        return RefinerError("The refiner's endpoint does not know this model.", hint=f"Check {ADDRESS} and {MODEL}.")
    if 300 <= status < 400:
        return RefinerError("The refiner's endpoint has moved.", hint=f"Put its new address into {ADDRESS}.")
    return RefinerError(
        "The refiner's endpoint refused the question.", hint=f"Choose a model in {MODEL} that can see pictures."
    )


def _texts(response: httpx2.Response, *, ends: float, stopped: threading.Event) -> Iterator[str]:
    """The pieces of the answer in a response, streamed or whole; raises RefinerError unless it comes to its end."""
    streamed = response.headers.get("content-type", "").startswith("text/event-stream")
    characters, finished = 0, not streamed
    for data in _events(response, ends, stopped) if streamed else [_body(response, ends, stopped)]:
        if data == b"[DONE]":
            finished = True
            break
        text, reason = _part(data)
        characters += len(text)
        if characters > MAX_REPLY_CHARACTERS:
            raise RefinerError("The refiner's endpoint did not stop writing.", hint="Try again, or another model.")
        if text:
            yield text
        if reason:
            finished = True
            if reason == "length":
                raise RefinerError("The refiner's answer was cut off at its limit.", hint="Try again.")
            if reason == "content_filter":
                raise RefinerError("The refiner's endpoint will not write about this.", hint="Change the prompt.")
    if not (finished or stopped.is_set()):
        raise RefinerError("The refiner's endpoint broke off its answer.", hint="Try again.")


def _part(data: bytes) -> tuple[str, str]:
    """Text and reason of ending in one JSON message of the protocol; raises RefinerError if it is none."""
    try:
        message = json.loads(data)
        if message.get("error"):
            raise RefinerError("The refiner's endpoint reported an error.", hint="Try again later.")
        if not message["choices"]:  # some send a last message with figures alone
            return "", ""
        choice = message["choices"][0]
        part = choice.get("delta") or choice.get("message") or {}
        text, reason = part.get("content") or "", choice.get("finish_reason") or ""
        if not isinstance(text, str) or not isinstance(reason, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise RefinerError(
            "The refiner's endpoint answered with something that is no answer.", hint=f"Check {ADDRESS}."
        ) from None
    return text, reason


def _events(response: httpx2.Response, ends: float, stopped: threading.Event) -> Iterator[bytes]:
    """The data of the server-sent events in a response; of this protocol each is one line."""
    buffered = b""
    for chunk in _chunks(response, ends, stopped):
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()
        if len(buffered) > MAX_LINE_BYTES:
            raise RefinerError(
                "The refiner's endpoint answered with something that is no answer.", hint=f"Check {ADDRESS}."
            )
    if buffered.startswith(b"data:"):
        yield buffered[len(b"data:") :].strip()


def _body(response: httpx2.Response, ends: float, stopped: threading.Event) -> bytes:
    return b"".join(_chunks(response, ends, stopped))


def _chunks(response: httpx2.Response, ends: float, stopped: threading.Event) -> Iterator[bytes]:
    """The response's bytes as they were sent, never unpacked, within bounds of time and size."""
    received = 0
    for chunk in response.iter_raw():
        received += len(chunk)
        if stopped.is_set():
            return
        if time.monotonic() > ends:
            raise RefinerError("The refiner's endpoint did not answer in time.", hint="Try again later.")
        if received > MAX_BYTES:
            raise RefinerError("The refiner's endpoint did not stop writing.", hint="Try again, or another model.")
        yield chunk
