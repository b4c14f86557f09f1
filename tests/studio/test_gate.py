"""The door of the served page over real HTTP: names, origins, passwords, proxies, odd values."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from gradio_client import Client, handle_file
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from studio.page import gate
from studio.page.gate import GUESS_S, MCP, MOST_GUESSES, MOST_JSON_BYTES, Gate
from studio.service import Studio
from tests.studio.proxy import Proxy
from tests.studio.server import ROOT, Server

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
UPLOAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def ask(
    server: Server, path: str, body: bytes | None = None, *, method: str = "", **headers: str
) -> tuple[int, str, Mapping[str, str]]:
    """Status, text and headers of one request; header names are written with _."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def call(server: Server, name: str, *data: Any, **more: Any) -> tuple[int, Any]:
    """A raw call of an endpoint, private ones included."""
    body = json.dumps({"data": list(data), "session_hash": "raw"} | more).encode()
    status, text, _ = ask(server, f"/gradio_api/run/{name}", body, **JSON)
    return status, json.loads(text)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST", "127.0.0.1:9"]
)
def test_names_of_this_machine_are_answered(server: Server, host: str) -> None:
    assert ask(server, "/", Host=host.format(port=server.port))[0] == 200


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/file=/etc/hostname", "/assets/x.js"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "192.0.2.1:{port}", "", "[::", "a@b"]
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(server: Server, host: str, path: str) -> None:
    status, text, _ = ask(server, path, Host=host.format(port=server.port))
    assert status in (400, 403) and len(text) < 300


ORIGINS: list[tuple[dict[str, str], int]] = [
    ({}, 200),  # a program
    ({"Origin": "http://127.0.0.1:{port}"}, 200),
    ({"Origin": "http://localhost:{port}"}, 200),
    ({"Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}, 200),
    ({"Origin": "https://studio.example", "X_Forwarded_Host": "studio.example"}, 200),  # a proxy that hides its name
    ({"Origin": "https://studio.example", "Sec_Fetch_Site": "same-origin"}, 200),  # and one that does not say so
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "null", "Sec_Fetch_Site": "cross-site"}, 403),
    ({"Origin": "http://127.0.0.1.evil.example"}, 403),
    ({"Origin": "http://evil.example:{port}", "Sec_Fetch_Site": "cross-site"}, 403),
    ({"Sec_Fetch_Site": "cross-site"}, 403),
    ({"Sec_Fetch_Site": "same-site"}, 403),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), ORIGINS, ids=str)
def test_nothing_is_taken_from_a_page_of_another_site(server: Server, headers: dict[str, str], expected: int) -> None:
    given = {name: value.format(port=server.port) for name, value in headers.items()}
    assert ask(server, "/gradio_api/upload", UPLOAD, **MULTIPART, **given)[0] == expected
    body = json.dumps({"data": [], "session_hash": "raw"}).encode()
    assert ask(server, "/gradio_api/run/models", body, **JSON, **given)[0] == expected


def test_another_site_may_still_lead_here(server: Server) -> None:
    assert ask(server, "/", Sec_Fetch_Site="cross-site", Origin="https://evil.example")[0] == 200


def test_a_request_is_no_longer_than_any_form(server: Server) -> None:
    text = "x" * MOST_JSON_BYTES
    status, said = call(server, "generate", "phantom-wan", text, [], {}, 1)
    assert (status, said["error"]) == (413, "This is too much at once: shorten the texts.")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    pieces = iter([b"x" * 100_000] * 20)
    try:  # in pieces, without saying how many
        connection.request("POST", "/gradio_api/run/models", pieces, JSON, encode_chunked=True)
        assert connection.getresponse().status == 413
    except OSError:  # it hung up on us while we were still sending
        pass
    finally:
        connection.close()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("locked") / "outputs", KINORA_PASSWORD="right") as server:
        yield server


def login(server: Server, password: str) -> tuple[int, Mapping[str, str]]:
    form = urlencode({"username": "kinora", "password": password}).encode()
    status, _, headers = ask(server, "/login", form, **FORM)
    return status, headers


def test_without_a_login_nothing_is_open(locked: Server) -> None:
    assert ask(locked, "/")[0] == 200  # where one logs in
    cancel = json.dumps({"session_hash": "s", "fn_index": 0, "event_id": "e"}).encode()
    for path, body in (
        ("/gradio_api/cancel", cancel), ("/gradio_api/heartbeat/s", None), ("/gradio_api/reset", b'{"event_id": "e"}'),
        ("/gradio_api/run/models", b'{"data": []}'), ("/gradio_api/queue/join", b'{"data": []}'), ("/config", None),
        ("/gradio_api/upload", UPLOAD), ("/gradio_api/stream/e", b"{}"), ("/gradio_api/call/models", b'{"data": []}'),
    ):  # fmt: skip
        assert ask(locked, path, body, **(MULTIPART if body is UPLOAD else JSON))[0] == 401, path
    _, headers = login(locked, "right")
    cookie = headers["Set-Cookie"].partition(";")[0]
    cookies = "; ".join(re.findall(r"(access-token[^;,\s]*=[^;,\s]*)", ", ".join(headers.get_all("Set-Cookie"))))
    assert cookie in cookies
    assert ask(locked, "/gradio_api/cancel", cancel, Cookie=cookies, **JSON)[0] == 200
    assert ask(locked, "/config", Cookie=cookies)[0] == 200


def test_a_client_with_the_password_works(locked: Server) -> None:
    client = Client(locked.url, auth=("kinora", "right"), verbose=False)
    assert client.predict(api_name="/models")
    client.close()


def test_guesses_are_slow_and_in_the_log(locked: Server) -> None:
    began = time.monotonic()
    assert [login(locked, f"wrong {index}")[0] for index in range(3)] == [400] * 3
    assert time.monotonic() - began >= 2 * GUESS_S  # a lower bound: no busy machine makes it false
    assert login(locked, "right")[0] == 200
    answers: list[int] = []
    many = [threading.Thread(target=lambda: answers.append(login(locked, "wrong")[0])) for _ in range(12)]
    for one in many:
        one.start()
    for one in many:
        one.join(timeout=60)
    assert 429 in answers and answers.count(400) <= 2 * MOST_GUESSES
    assert login(locked, "right")[0] == 200
    assert "a wrong password from 127.0.0.1" in locked.log.read_text()
    assert "wrong 1" not in locked.log.read_text()


def test_a_program_that_guesses_is_slow_too(idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "GUESS_S", 0.3)
    locked = Gate(PlainTextResponse("taken"), settings=replace(idle.settings, password="right"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await locked(scope | {"app": SimpleNamespace(cookie_id="x", tokens={})}, receive, send)

    client = TestClient(app, base_url="http://127.0.0.1:7860")
    began = time.monotonic()
    assert client.get(MCP, auth=("kinora", "wrong")).status_code == 401
    assert time.monotonic() - began >= 0.3
    assert client.get(MCP, auth=("kinora", "right")).text == "taken"
    client.close()


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    outputs = tmp_path_factory.mktemp("proxied") / "outputs"
    with Server(outputs, KINORA_ROOT_PATH="/kinora/", KINORA_NAMES="studio.example, other.example") as server:
        yield server


@pytest.mark.parametrize("keeps_host", [True, False])
@pytest.mark.parametrize("strips", [True, False])
def test_a_proxy_may_serve_the_page_under_a_path(
    proxied: Server, picture: Path, strips: bool, keeps_host: bool
) -> None:
    with Proxy(proxied.port, prefix="/kinora", strips=strips, keeps_host=keeps_host) as proxy:
        client = Client(f"{proxy.url}/", verbose=False)
        settings = {"seed": 3, "steps": 2, "frames": 5, "width": 64}
        (job_id,) = client.predict(
            "phantom-wan", "goes", [handle_file(str(picture))], settings, 1, api_name="/generate"
        )
        assert client.predict(job_id, api_name="/cancel") in ("cancelled", "running", "done")
        client.close()
        page = http.client.HTTPConnection(proxy.address, timeout=60)
        page.request("GET", "/kinora/")
        text = page.getresponse().read().decode()
        (script,) = re.findall(r'src="\./(assets/[^"]+\.js)"', text)
        page.request("GET", f"/kinora/{script}")
        assert page.getresponse().status == 200
        page.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("studio.example", 200), ("other.example:443", 200), ("STUDIO.example", 200), ("proxy.example", 200),
     ("evil.example:{port}", 403)],
)  # fmt: skip
def test_behind_a_proxy_its_names_are_answered(proxied: Server, host: str, expected: int) -> None:
    """What a browser was lured to says our own port; what comes through a proxy says the proxy's."""
    assert ask(proxied, "/kinora/", Host=host.format(port=proxied.port))[0] == expected


# ---- odd values

NESTED: Any = "x"
for _ in range(60):
    NESTED = [NESTED]
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, "", "x", "\x00", "\ud800", [], [None],
    {}, {"path": None}, {"a": {"b": []}}, NESTED, "é" * 5_000, 10**30, [[]], {"": ""},
]  # fmt: skip
GOOD: dict[str, list[Any]] = {
    "generate": ["phantom-wan", "a fox", [], {}, 1], "job": ["x"], "cancel": ["x", False],
    "refine": ["nope", "a fox", [], "starter"], "models": [], "status": [],
    "estimate": ["phantom-wan", {}], "edit": ["trim", "x", {}],
}  # fmt: skip


def sentence(status: int, said: Any) -> str:
    """The one sentence of a refusal."""
    text = said.get("error") or said.get("detail")
    assert "went wrong" not in str(text), said
    assert status >= 400 and isinstance(text, str), said
    assert text.endswith((".", "?")) and "\n" not in text and len(text) < 600, text
    for secret in (str(ROOT), "Traceback", "Error(", "/tmp", "object at 0x"):
        assert secret not in text
    return text


def test_every_function_is_in_the_table(server: Server) -> None:
    info = json.loads(ask(server, "/gradio_api/info")[1])
    assert {f"/{name}" for name in GOOD} == set(info["named_endpoints"])


@pytest.mark.parametrize("name", GOOD)
def test_every_odd_value_gets_one_sentence(server: Server, name: str) -> None:
    before = server.log.stat().st_size
    for place in range(len(GOOD[name])):
        for odd in ODD:
            if name == "estimate" and isinstance(odd, dict):
                continue  # it takes what it knows of any settings
            data = [*GOOD[name]]
            data[place] = odd
            status, said = call(server, name, *data)
            assert sentence(status, said), (place, odd, said)
    for count in range(len(GOOD[name])):  # too few
        status, said = call(server, name, *GOOD[name][:count])
        assert "data" in said or sentence(status, said)
    assert server.log.stat().st_size - before < 20_000, "each odd value is a line at most"
    assert "Traceback" not in server.log.read_text()


def test_every_odd_setting_and_file_gets_one_sentence(server: Server) -> None:
    upload = json.loads(ask(server, "/gradio_api/upload", UPLOAD, **MULTIPART)[1])[0]
    folder = str(Path(upload).parent.parent)
    meta = {"meta": {"_type": "gradio.FileData"}}
    paths: list[Any] = [
        None, 5, [], {}, "", "/", ".", "..", folder, str(Path(upload).parent), f"{folder}/../x",
        "/etc/hostname", "\x00", "x" * 5_000, "/dev/zero", f"{folder}/none.png", "~", "http://127.0.0.1:1/x.png",
        "file:///etc/hostname", upload, "C:\\x.png", "\\\\x\\y",
    ]  # fmt: skip
    files = [{"path": path} | extra for path in paths for extra in ({}, meta, {"meta": 5}, {"meta": meta, "url": 5})]
    for file in [*files, *paths]:
        sentence(*call(server, "generate", "phantom-wan", "a fox", [file], {}, 1))
    for field in ("model", "seed", "width", "frames", "steps", "fps", "negative_prompt", "references", "nothing"):
        for odd in ODD:
            if (field, odd) != ("negative_prompt", ""):
                sentence(*call(server, "generate", "phantom-wan", "a fox", [], {field: odd}, 1))
    for engine in ("flashi2v", "pyramid-flow"):
        for field in ("picture", "first_picture", "continues", "storyboard"):
            for odd in ODD:
                sentence(*call(server, engine and "generate", engine, "", [], {field: odd}, 1))
    assert "Traceback" not in server.log.read_text()


def test_a_body_that_is_no_call_is_answered(server: Server) -> None:
    bodies = [
        b"", b"{", b"[]", b"null", b'{"data": 5}',
        b'{"data": {"a": 1}}', b'{"data": [], "fn_index": 99999}', b'{"data": [], "fn_index": "x"}',
        b'{"data": [], "session_hash": 5}', b'{"data": [], "trigger_id": 5, "event_data": 5}', b"\xff\xfe",
        b"[" * 100_000, b'{"data": [], "session_hash": "' + b"x" * 100_000 + b'"}',
    ]  # fmt: skip
    for body in bodies:
        for path in ("run/nothing", "run/generate", "call/generate", "queue/join", "cancel", "component_server"):
            status, text, _ = ask(server, f"/gradio_api/{path}", body, **JSON)
            assert 400 <= status < 500 or json.loads(text).get("error") or status == 200, (
                path,
                body[:50],
                status,
                text,
            )
            assert str(ROOT) not in text and "Traceback" not in text
            assert '"loc"' not in text, "a sentence, no list of faults"
    assert "Traceback" not in server.log.read_text()
