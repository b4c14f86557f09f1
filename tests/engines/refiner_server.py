"""A real HTTP server that speaks OpenAI's chat protocol well, badly, or not at all, as the model's name says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "A red fox with a white chest runs over fresh snow, its tail level."


def event(text: str | None = None, reason: str | None = None) -> bytes:
    """One piece of a streamed answer."""
    delta = {} if text is None else {"content": text}
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": reason}]}).encode() + b"\n\n"


def streamed(text: str, *, reason: str = "stop") -> bytes:
    return b"".join(event(f"{word} ") for word in text.split()) + event(reason=reason) + b"data: [DONE]\n\n"


class RefinerServer(ThreadingHTTPServer):
    """Remembers what it was asked.

    Attributes:
        asked: (headers, body) of every call.
        hold: while clear, the behaviours that wait do so.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.hold = threading.Event()
        self.elsewhere = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: RefinerServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has left, as it should
            getattr(self, body["model"].replace("-", "_"))()

    def log_message(self, *_: Any) -> None:
        pass

    def start(self, kind: str = "text/event-stream", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def say(self, data: bytes, kind: str = "text/event-stream") -> None:
        self.start(kind)
        self.wfile.write(data)

    def good(self) -> None:
        self.say(b": hello\n\n" + streamed(ANSWER))

    def whole(self) -> None:
        message = {"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}]}
        self.say(json.dumps(message).encode(), "application/json")

    def thinking(self) -> None:
        self.say(streamed(f"<think>They want\na fox.</think>\n**Refined prompt:** “{ANSWER}”"))

    def word_by_word(self) -> None:
        self.start()
        for word in ANSWER.split():
            self.wfile.write(event(f"{word} "))
            self.wfile.flush()
            time.sleep(0.02)
        self.wfile.write(event(reason="stop"))

    def stalling(self) -> None:
        self.start()
        self.wfile.write(event("A red"))
        self.wfile.flush()
        self.server.hold.wait(20)

    def silent(self) -> None:
        self.server.hold.wait(20)

    def chattering(self) -> None:
        self.start()
        while not self.server.hold.wait(0.02):
            self.wfile.write(b": still here\n\n")
            self.wfile.flush()

    def breaking_off(self) -> None:
        self.say(event("A red") + event("fox"))

    def cut_in_a_chunk(self) -> None:
        self.start(Content_Length="5000")
        self.wfile.write(event("A red"))

    def too_long(self) -> None:
        self.say(streamed(ANSWER, reason="length"))

    def filtered(self) -> None:
        self.say(event(reason="content_filter") + b"data: [DONE]\n\n")

    def empty(self) -> None:
        self.say(streamed(""))

    def blank(self) -> None:
        self.say(streamed("… — !"))

    def endless(self) -> None:
        self.start()
        while True:
            self.wfile.write(event("snow " * 50))

    def endless_line(self) -> None:
        self.start()
        self.wfile.write(b"data: ")
        while True:
            self.wfile.write(b"x" * 65_536)

    def nonsense(self) -> None:
        self.say(b"data: {{{{ no json\n\n")

    def page(self) -> None:
        self.say(b"<html><script>alert(1)</script></html>", "text/html")

    def other_json(self) -> None:
        self.say(b'{"hello": ["world"]}', "application/json")

    def number(self) -> None:
        self.say(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n')

    def nested(self) -> None:
        self.say(b"data: " + b"[" * 100_000 + b"\n\n")

    def packed(self) -> None:
        self.start(Content_Encoding="gzip")
        self.wfile.write(b"\x1f\x8b\x08\x00 not unpacked")

    def failing_inside(self) -> None:
        self.say(event("A red") + b'data: {"error": {"message": "key sk-secret is bad"}}\n\n')

    def unknown_key(self) -> None:
        self.start("application/json", 401)

    def unknown_model(self) -> None:
        self.start("application/json", 404)

    def blind(self) -> None:
        self.start("application/json", 400)

    def down(self) -> None:
        self.start("text/html", 503)

    def busy_twice(self) -> None:
        if len(self.server.asked) < 3:
            self.start("application/json", 429)
        else:
            self.good()

    def moved(self) -> None:
        self.start("text/html", 307, Location=f"{self.server.elsewhere}/chat/completions")


@contextmanager
def serving() -> Iterator[RefinerServer]:
    """A server on a free port of this machine."""
    server = RefinerServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
