"""The studio's functions as tools, used by a real MCP client over HTTP."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from tests.studio.awaited import awaited
from tests.studio.server import ROOT, Server

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
HERE = str(ROOT / "assets" / "examples" / "red_star.png")  # a picture of this machine


def talk(
    server: Server, *calls: tuple[str, Mapping[str, Any]], **client: Any
) -> tuple[list[str], list[CallToolResult]]:
    """The names of the tools, and the answers to calls of them."""

    async def session() -> tuple[list[str], list[CallToolResult]]:
        async with (
            httpx.AsyncClient(timeout=60, **client) as http,
            streamable_http_client(f"{server.url}/gradio_api/mcp/", http_client=http) as (reading, writing, _),
            ClientSession(reading, writing) as mcp,
        ):
            await mcp.initialize()
            tools = (await mcp.list_tools()).tools
            assert all(tool.description for tool in tools)
            return [tool.name for tool in tools], [await mcp.call_tool(name, dict(given)) for name, given in calls]

    return awaited(session())


def said(answer: CallToolResult) -> str:
    (part,) = answer.content
    assert isinstance(part, TextContent)
    return part.text


def as_data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def test_a_program_makes_a_clip_with_a_picture_by_tools_alone(server: Server, picture: Path) -> None:
    settings = {"seed": 3, "steps": 2, "frames": 5, "width": 64}
    asked = {"engine": "phantom-wan", "prompt": "a red circle", "settings": settings}
    names, (made,) = talk(server, ("generate", asked | {"references": [as_data_url(picture)]}))
    assert sorted(names) == [
        "cancel",
        "edit",
        "estimate",
        "generate",
        "job",
        "models",
        "refine",
        "status",
    ]  # nothing that is the page's own
    assert not made.isError, said(made)
    (job_id,) = json.loads(said(made).replace("'", '"'))
    end, state = time.monotonic() + 120, "queued"
    while state in ("queued", "running"):
        assert time.monotonic() < end
        time.sleep(0.3)
        _, (answer,) = talk(server, ("job", {"id": job_id}))
        job = json.loads(said(answer).replace("'", '"').replace("None", "null").replace("False", "false"))
        state = job["state"]
    assert state == "done", job
    with urllib.request.urlopen(job["video"]["url"], timeout=30) as video, av.open(video) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 5


@pytest.mark.parametrize(
    "given",
    [
        {"references": [HERE]},
        {"references": ["https://127.0.0.1:1/picture.png"]},
        {"references": ["data:image/png;base64,%%%"]},
        {"references": ["data:image/png;base64,AAAA"]},
        {"references": ["data:"]},
        {"references": [], "settings": {"references": [{"path": HERE}]}},
        {"references": [], "settings": {"references": "data:text/plain;base64,AAAA"}},
        {"references": []},
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(server: Server, given: dict[str, Any]) -> None:
    asked = {"engine": "phantom-wan", "prompt": "x", "settings": {}} | given
    _, (answer,) = talk(server, ("generate", asked))
    assert answer.isError
    assert any(word in said(answer) for word in ("icture", "file")) and len(said(answer)) < 400
    for secret in (str(ROOT), str(server.outputs), "Traceback"):
        assert secret not in said(answer)


def test_the_password_is_told_with_the_request(tmp_path: Path) -> None:
    with Server(tmp_path / "outputs", KINORA_PASSWORD="open sesame") as server:
        for auth in (None, ("kinora", "wrong"), ("other", "open sesame")):
            with pytest.raises(BaseExceptionGroup) as refused:
                talk(server, auth=auth)
            assert "401" in repr(refused.value.exceptions)
        names, (models,) = talk(server, ("models", {}), auth=("kinora", "open sesame"))
        assert len(names) == 8 and "phantom-wan" in said(models)
