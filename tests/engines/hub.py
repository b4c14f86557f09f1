"""A stand-in for a Hugging Face hub over real HTTP: slow, breaking off or lying, as it is told."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


@dataclass
class Hub:
    """What it serves and how it behaves.

    Attributes:
        files: "owner/name/file" -> content.
        slow_s: pause before each block of a download.
        breaks_after: bytes of an answer after which the connection ends, where it has more; 0 = never.
        announces: how many bytes more than there are it announces.
        damages: whether other bytes come than those that it has the hash of.
        asked: method, path and Range of every request.
    """

    files: dict[str, bytes]
    slow_s: float = 0.0
    breaks_after: int = 0
    announces: int = 0
    damages: bool = False
    refuses: bool = False
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a port of this machine, as `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            content = hub.files.get(
                self.path.lstrip("/").replace(f"/resolve/{COMMIT}", "").replace("/resolve/main", "")
            )
            if content is None or hub.refuses:
                self.send_response(403 if hub.refuses else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            told = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            start = int(told) if told else 0
            self.send_response(206 if start else 200)
            size = len(content) + hub.announces
            self.send_header("Content-Length", str(size - start if body else size))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self._send(b"\xff" * len(content[start:]) if hub.damages else content[start:])

        def _send(self, content: bytes) -> None:
            for place in range(0, len(content), 2**16):
                time.sleep(hub.slow_s)
                if hub.breaks_after and place >= hub.breaks_after:
                    self.close_connection = True
                    break
                try:
                    self.wfile.write(content[place : place + 2**16])
                except OSError:
                    break
            if hub.announces:
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
