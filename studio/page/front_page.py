"""The page's HTML, kept for each name and language it is asked for under: gradio would build its 400 kB each time."""

from __future__ import annotations

import json

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.language import Language, tag
from studio.page import spoken
from studio.settings import Settings

MOST_NAMES = 8
# What gradio makes the addresses in it from.
_NAMING = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")


class FrontPage:
    """Answers for the page once it was built; with a login it is another for everybody, and is not kept.

    Every request is answered in the language that its browser asks for, or the studio is set to.
    """

    def __init__(self, app: ASGIApp, settings: Settings, language: Language | None = None) -> None:
        self.app, self.settings, self.language = app, settings, language or Language(settings.language)
        self._kept: dict[tuple[str | None, ...], list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        language = self.language.of(headers.get("accept-language", ""))
        spoken.asked(language)
        if scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        name = (scope["scheme"], language, self.language.setting, *map(headers.get, _NAMING))  # the page tells both
        kept = not scope["query_string"] and not self.settings.auth
        if not kept or name not in self._kept:
            said: list[Message] = []

            async def heard(message: Message) -> None:
                said.append(_copied(message))

            await self.app(scope, receive, heard)
            said = _in_language(said, tag(language))
            for message in said:
                await send(_copied(message))
            if kept and said and said[0].get("status") == 200 and not said[-1].get("more_body"):
                while len(self._kept) >= MOST_NAMES:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[name] = said
            return
        for message in self._kept[name]:
            await send(_copied(message))


def _in_language(said: list[Message], name: str) -> list[Message]:
    """The page's HTML with its language named, which gradio's own words follow as they would the browser's."""
    whole = b"".join(message.get("body", b"") for message in said)
    if b"<head>" not in whole or not said[0]["headers"]:
        return said
    told = {"language": name, "languages": [name]}
    follow = f"for (const [key, value] of Object.entries({json.dumps(told)}))"
    follow += " Object.defineProperty(navigator, key, { get: () => value, configurable: true });"
    whole = whole.replace(b"<head>", f"<head><script>{follow}</script>".encode(), 1)
    whole = whole.replace(b'lang="en"', f'lang="{name}"'.encode(), 1)
    length = [(key, value) for key, value in said[0]["headers"] if key.lower() != b"content-length"]
    begin = said[0] | {"headers": [*length, (b"content-length", b"%d" % len(whole)), (b"vary", b"accept-language")]}
    return [begin, {"type": "http.response.body", "body": whole}]


def _copied(message: Message) -> Message:
    """A message that others may write their headers into."""
    return {**message, "headers": [*message["headers"]]} if "headers" in message else {**message}
