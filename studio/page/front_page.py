"""The page's HTML, kept for each name it is asked for under: gradio would build its 400 kB anew at every request."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.settings import Settings

MOST_NAMES = 8
# What gradio makes the addresses in it from.
_NAMING = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")


class FrontPage:
    """Answers for the page once it was built; with a login it is another for everybody, and is not kept."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._kept: dict[tuple[str | None, ...], list[Message]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        plain = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        if not plain or scope["query_string"] or self.settings.auth:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = (scope["scheme"], *map(headers.get, _NAMING))
        if name not in self._kept:
            said: list[Message] = []

            async def heard(message: Message) -> None:
                said.append(_copied(message))
                await send(message)

            await self.app(scope, receive, heard)
            if said and said[0].get("status") == 200 and not said[-1].get("more_body"):
                while len(self._kept) >= MOST_NAMES:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[name] = said
            return
        for message in self._kept[name]:
            await send(_copied(message))


def _copied(message: Message) -> Message:
    """A message that others may write their headers into."""
    return {**message, "headers": [*message["headers"]]} if "headers" in message else {**message}
