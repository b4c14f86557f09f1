"""The page's HTML is built once for each name, and is whole every time."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from studio.language import Language
from studio.page.front_page import MOST_NAMES, FrontPage
from studio.settings import Settings
from tests.studio.awaited import awaited
from tests.studio.server import Server
from tests.studio.test_gate import ask


def answers(page: FrontPage, *requests: dict[str, Any], headers: int = 2) -> list[tuple[int, bytes]]:
    async def one(request: dict[str, Any]) -> tuple[int, bytes]:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)
            if "headers" in message:
                message["headers"].append((b"added", b"by what stands outside"))

        given = [(name.encode(), value.encode()) for name, value in request.pop("headers", {}).items()]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "scheme": "http",
            "headers": given,
        }
        await page(scope | request, None, send)
        assert len(said[0]["headers"]) == headers
        return said[0]["status"], b"".join(message.get("body", b"") for message in said[1:])

    return [awaited(one(request)) for request in requests]


class Counted:
    """An app that says how often it was asked."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.count = status, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.count += 1
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"whole ", "more_body": True})
        await send({"type": "http.response.body", "body": b"%d" % self.count})


def test_the_real_page_is_in_the_browsers_language_and_programs_are_told_in_english(server: Server) -> None:
    def asked(path: str, body: bytes | None = None) -> str:
        headers = {"Accept-Language": "zh-CN,zh;q=0.9", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(server.url + path, body, headers), timeout=60) as answer:
            return answer.read().decode()

    page = asked("/")
    assert 'lang="zh-CN"' in page and "主体参考" in page and "采样步数" in page
    told = asked("/gradio_api/run/models", json.dumps({"data": [], "session_hash": "x"}).encode())
    assert "built in" in told and "内置" not in told


def test_it_is_built_once_for_each_name() -> None:
    app = Counted()
    page = FrontPage(app, Settings())
    here, there = {"headers": {"host": "a"}}, {"headers": {"host": "b"}}
    assert answers(page, {**here}, {**here}, {**there}, {**here}) == [
        (200, b"whole 1"), (200, b"whole 1"), (200, b"whole 2"), (200, b"whole 1"),
    ]  # fmt: skip
    answers(page, *({"headers": {"host": f"c{number}"}} for number in range(3 * MOST_NAMES)))
    assert len(page._kept) == MOST_NAMES


def test_it_is_built_anew_when_the_studio_is_set_to_the_language_it_had_anyway() -> None:
    language = Language("auto")
    page, english = FrontPage(Counted(), Settings(), language), {"headers": {"accept-language": "en"}}
    assert answers(page, {**english}, {**english}) == [(200, b"whole 1")] * 2
    language.setting = "en"  # which the page tells too
    assert answers(page, {**english}) == [(200, b"whole 2")]


def test_all_else_is_asked_for_every_time(tmp_path: Path) -> None:
    for settings, request in (
        (Settings(password="x"), {}), (Settings(), {"path": "/config"}), (Settings(), {"query_string": b"x=1"}),
        (Settings(), {"method": "HEAD"}),
    ):  # fmt: skip
        app = Counted()
        answers(FrontPage(app, settings), {**request}, {**request})
        assert app.count == 2
    failing = Counted(status=500)
    answers(FrontPage(failing, Settings()), {}, {})
    assert failing.count == 2


def test_the_real_page_is_the_same_twice(server: Server) -> None:
    first, again = (ask(server, "/") for _ in range(2))
    assert first[0] == again[0] == 200 and first[1] == again[1] and len(first[1]) > 100_000
    packed = ask(server, "/", Accept_Encoding="br", method="HEAD")
    assert packed[0] == 200
