"""A reverse proxy as people put before a studio: one path of another address leads to it."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host"}


class Proxy:
    """Serves `upstream_port` under `prefix`. A context manager.

    Args:
        strips: whether the prefix is taken off before a request is passed on.
        keeps_host: whether the studio is told the name that the browser asked for.
    """

    def __init__(self, upstream_port: int, *, prefix: str, strips: bool, keeps_host: bool) -> None:
        proxy = self
        self.prefix, self.strips, self.keeps_host, self.upstream_port = prefix, strips, keeps_host, upstream_port

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                proxy.forward(self)

            do_POST = do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.address}{prefix}"

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        """One request, its answer passed on as it comes."""
        if not request.path.startswith(self.prefix):
            request.send_error(404)
            return
        path = request.path.removeprefix(self.prefix) if self.strips else request.path
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers |= {"Host": self.address if self.keeps_host else f"127.0.0.1:{self.upstream_port}"}
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)
        try:
            connection.request(request.command, path or "/", body, headers)
            answer = connection.getresponse()
            request.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    request.send_header(name, value)
            request.send_header("Connection", "close")
            request.end_headers()
            while piece := answer.read1(65536):
                request.wfile.write(piece)
                request.wfile.flush()
        except OSError:
            return
        finally:
            connection.close()
            request.close_connection = True

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
