"""The door of the served page: who may ask, from where, and how much. Plain ASGI, inside gradio's app.

A page of another site can make a browser send requests here, and a site can have its name pointed at 127.0.0.1 and then
read the answers. So without a password only known names of this machine are answered, and nothing that changes anything
is taken from another origin. The order of the second check is that of Go's net/http.CrossOriginProtection.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from collections import Counter
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio import browser_files
from studio.settings import Settings, is_loopback

log = logging.getLogger(__name__)

API = "/gradio_api"
MCP = f"{API}/mcp"
_UNREAD = 422  # how FastAPI says that a body is of another shape
MOST_JSON_BYTES = 500_000  # no form of the page comes near; uploads have gradio's own limit
MOST_MCP_BYTES = 20_000_000  # pictures come inside, as text
MOST_UPLOAD_BYTES = 50_000_000  # of one file
GUESS_S = 1.0  # what a wrong password costs
MOST_GUESSES = 4  # tries of one address that wait for their turn
# What a browser needs before somebody has logged in. Under API all else wants the login, gradio's own holes too.
_OPEN = ("/startup-events", "/theme.css", "/user", "/login_check", "/token", "/app_id")
_READING = ("GET", "HEAD", "OPTIONS")


class Gate:
    """Passes requests on, or answers them in one sentence."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self._guessing: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._unprefix(scope)
        headers, path = Headers(scope=scope), scope["path"].rstrip("/")
        tools = path == MCP or path.startswith(f"{MCP}/")
        answer = self._stranger(headers) or self._foreign(scope["method"], headers)
        if answer is None and not (tools and await self._knows(headers, scope)):
            answer = self._locked(path, scope)
        if answer is None and scope["method"] not in _READING and path != f"{API}/upload":
            receive, answer = await _bounded(receive, headers, MOST_MCP_BYTES if tools else MOST_JSON_BYTES)
        if answer is None and scope["method"] == "POST" and path == f"{API}/upload":
            answer = await self._full(headers)
        if answer is not None:
            await answer(scope, receive, send)
        elif path == "/login" and self.settings.auth:
            await self._guess(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    def _unprefix(self, scope: Scope) -> None:
        """A proxy may leave the prefix of the page in the path."""
        prefix = urlsplit(self.settings.root_path).path
        if prefix and (scope["path"] + "/").startswith(f"{prefix}/"):
            scope["path"] = scope["path"].removeprefix(prefix) or "/"
            scope["raw_path"] = scope["path"].encode()

    def _stranger(self, headers: Headers) -> Response | None:
        """Refuses names that are not this machine's, where nothing but the name protects it."""
        if self.settings.public or self.settings.auth:
            return None
        host = headers.get("host", "")
        name = _hostname(host)
        if is_loopback(name) or name in self._names:
            return None
        # Behind a proxy the name is the proxy's; a browser that was lured here under a name says our own port with it.
        if self.settings.root_path and _port(host) != self.settings.port:
            return None
        return _refusal(
            403, f"This studio does not answer to this name. Start it with --name {name[:60]} if it should."
        )

    def _foreign(self, method: str, headers: Headers) -> Response | None:
        """Refuses what a page of another site sends; programs name no origin."""
        if method in _READING or self.settings.public:
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("same-origin", "none") or (site is None and origin is None):
            return None
        try:
            name = _hostname(urlsplit(origin or "").netloc)
        except ValueError:  # "http://["
            name = ""
        ours = {_hostname(headers.get(header, "")) for header in ("host", "x-forwarded-host")}
        if site is None and name and (name in ours or name in self._names or is_loopback(name)):
            return None
        return _refusal(403, "This request came from a page of another site, so it was refused.")

    def _locked(self, path: str, scope: Scope) -> Response | None:
        """Refuses what gradio leaves open without a login."""
        if not self.settings.auth or not path.startswith(f"{API}/") or path.removeprefix(API) in _OPEN:
            return None
        app, cookies = scope["app"], Headers(scope=scope).get("cookie", "")
        given = dict(part.strip().partition("=")[::2] for part in cookies.split(";"))
        names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
        if any(given.get(name) in app.tokens for name in names):
            return None
        return _refusal(401, "Log in first.")

    async def _knows(self, headers: Headers, scope: Scope) -> bool:
        """Whether a program tells the password with its request: it has no page to log in on."""
        scheme, _, told = headers.get("authorization", "").partition(" ")
        if not self.settings.auth or scheme.lower() != "basic":
            return False
        address = scope["client"][0] if scope["client"] else ""
        async with self._guessing.setdefault(address, asyncio.Lock()):
            wanted = base64.b64encode(":".join(self.settings.auth).encode())
            if secrets.compare_digest(wanted, told.strip().encode()):
                return True
            log.warning("a wrong password from %s", address)
            await asyncio.sleep(GUESS_S)
        return False

    async def _full(self, headers: Headers) -> Response | None:
        """Refuses an upload that would be too much together with those that are here."""
        size = headers.get("content-length", "")
        there = await asyncio.to_thread(
            browser_files.make_room,
            self.settings.for_browsers,
            incoming=int(size[:12]) if size.isdecimal() else MOST_UPLOAD_BYTES,
            most_bytes=self.settings.most_upload_bytes,
        )
        return None if there else _refusal(507, "This studio holds as many uploads as it may: try again later.")

    async def _guess(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One login after the other for each address; a wrong one holds up the next."""
        address = scope["client"][0] if scope["client"] else ""
        if self._waiting[address] >= MOST_GUESSES:
            await _refusal(429, "Too many tries at once: wait a moment.")(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._waiting[address] += 1
        try:
            async with self._guessing.setdefault(address, asyncio.Lock()):
                await self.app(scope, receive, watched)
                if status >= 400:
                    log.warning("a wrong password from %s", address)
                    await asyncio.sleep(GUESS_S)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._guessing[address]

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To gradio; what it cannot cope with is one sentence for the client and one line in the log."""
        begun = unread = False

        async def watched(message: Message) -> None:
            nonlocal begun, unread
            unread = unread or message.get("status") == _UNREAD
            if not unread:  # its own answer repeats what was sent
                begun = True
                await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            log.warning("%s %s: %s: %.200s", scope["method"], scope["path"][:80], type(error).__name__, error)
            unread = not begun
        if unread:
            refusal = _refusal(400, "This request cannot be read: see the API page for what each call takes.")
            await refusal(scope, receive, send)

    @property
    def _names(self) -> set[str]:
        served = _hostname(urlsplit(self.settings.root_path).netloc)
        return {self.settings.host.strip("[]"), *self.settings.names, *([served] if served else [])}


async def _bounded(receive: Receive, headers: Headers, most: int) -> tuple[Receive, Response | None]:
    """The body of a request read whole, if it is no longer than any form of the page."""
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:15]) > most:
        return receive, _refusal(413, "This is too much at once: shorten the texts.")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return _again([message]), None
        body += message.get("body", b"")
        if len(body) > most:
            return receive, _refusal(413, "This is too much at once: shorten the texts.")
        if not message.get("more_body"):
            return _again([{"type": "http.request", "body": bytes(body), "more_body": False}], then=receive), None


def _again(messages: list[Message], then: Receive | None = None) -> Receive:
    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        return await then() if then else {"type": "http.disconnect"}

    return receive


def _hostname(host: str) -> str:
    """ "Studio.example:7860" -> "studio.example", "[::1]:7860" -> "::1"; "" for what is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _port(host: str) -> int:
    try:
        return urlsplit(f"//{host}").port or 80
    except ValueError:
        return 0


def _refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence, "detail": sentence}, status_code=status)
