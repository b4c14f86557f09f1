"""The Models tab: what it says, and what its buttons do; over a real store and a hub that stands in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engines.errors import StudioError
from engines.registry import SPECS
from studio.downloads import Download
from studio.page.models_tab import ModelsTab
from studio.service import Studio
from studio.settings import from_environment
from tests.studio.conftest import LOOPS_LEFT_OPEN
from tests.studio.server import ROOT, Server

pytestmark = LOOPS_LEFT_OPEN

LIMITED = "pyramid-flow/sd3-384p"
FREE = "phantom-wan/1.3B"


@pytest.fixture
def tab(idle: Studio) -> Iterator[ModelsTab]:
    drawn = ModelsTab(idle)
    with gr.Blocks(), gr.Tab("Models") as opened:
        drawn.render(opened)
    yield drawn


def test_every_published_model_is_there_with_its_size_licence_and_parts(tab: ModelsTab, idle: Studio) -> None:
    listed = tab._all(FREE)
    assert all(
        model.title.partition(" (")[0] in listed[tab.listed] for spec in idle.specs.values() for model in spec.models
    )
    assert "Phantom-physics: Wan2.2 5B" in listed[tab.listed] and "(built in" not in listed[tab.listed]
    assert "built in" in listed[tab.listed] and "not installed" in listed[tab.listed]
    assert "bytedance-research/Phantom" in listed[tab.about] and "Apache-2.0" in listed[tab.about]
    assert "python -m studio models --download phantom-wan/1.3B" in listed[tab.about]
    assert listed[tab.download]["visible"] and not listed[tab.delete]["visible"] and not listed[tab.agreed]["visible"]


def test_a_limited_licence_is_agreed_to_first(tab: ModelsTab, idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr("studio.page.models_tab.warn", warned.append)
    assert tab._about(LIMITED)[tab.agreed]["visible"]
    tab._start(LIMITED, False)
    assert "licence" in warned[0] and idle.downloads.current() is None


def test_a_download_that_cannot_be_is_a_sentence(tab: ModelsTab, idle: Studio) -> None:
    tab._start(LIMITED, True)  # the suite is offline
    idle.downloads.wait(30)
    shown = tab._look(LIMITED)
    assert "cannot be downloaded" in shown[tab.progress] or "free" in shown[tab.progress]
    assert shown[tab.watch].active is False and shown[tab.download]["visible"]


def test_opened_while_a_download_runs_it_lists_all_the_same(
    tab: ModelsTab, idle: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Download("phantom-wan", "1.3B", 2 * 10**9, done_bytes=10**9)
    monkeypatch.setattr(idle.downloads, "current", lambda: running)
    shown = tab._open(FREE)
    assert "Phantom-Wan 14B" in shown[tab.listed] and "17.6 GB" in shown[tab.about]
    assert "1.0 GB of 2.0 GB" in shown[tab.progress] and shown[tab.watch].active
    assert tab.listed not in tab._look(FREE), "each second only what moves is sent"


def test_nothing_is_changed_where_strangers_share_the_studio(
    tab: ModelsTab, idle: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr("studio.page.models_tab.warn", warned.append)
    tab.studio = replace(idle, settings=replace(idle.settings, public=True))
    tab._start(FREE, True)
    tab._delete(FREE)
    assert len(warned) == 2 and all("Strangers" in text for text in warned)


def test_a_model_that_a_clip_waits_for_is_not_deleted(idle: Studio, picture: Path) -> None:
    spec = SPECS["phantom-wan"]
    (job,) = idle.submit("phantom-wan", {"prompt": "x", "references": [{"path": str(picture)}]})
    with pytest.raises(Exception, match="A clip that waits"):
        idle.remove_model(spec, spec.model(job.request["model"]))
    idle.cancel(job.id)


def test_while_a_model_is_downloaded_none_is_deleted(idle: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = idle.spec("phantom-wan")
    monkeypatch.setattr(idle.downloads, "current", lambda: Download("phantom-wan", "1.3B", 9))
    with pytest.raises(StudioError, match="is being downloaded"):
        idle.remove_model(spec, spec.model("1.3B"))


# Notes every address that is not of this machine; imported by each Python process that the studio starts.
WATCH = """
import os, socket
def watched(kind):
    real = getattr(socket.socket, kind)
    def call(self, address, *rest):
        host = address[0] if isinstance(address, tuple) else ""
        if host not in ("", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
            with open(os.environ["WATCHED"], "a") as file:
                file.write(f"{kind} {host}\\n")
        return real(self, address, *rest)
    return call
for kind in ("connect", "connect_ex"):
    setattr(socket.socket, kind, watched(kind))
asked = socket.getaddrinfo
def looked_up(host, *rest, **named):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"look up {host}\\n")
    return asked(host, *rest, **named)
socket.getaddrinfo = looked_up
"""


def test_offline_asks_no_other_machine_for_anything(tmp_path: Path, picture: Path) -> None:
    from gradio_client import Client, handle_file

    (tmp_path / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "watched.txt"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with Server(tmp_path / "outputs", KINORA_OFFLINE="1", PYTHONPATH=path, WATCHED=str(log)) as server:
        client = Client(server.url, verbose=False)
        assert client.predict(api_name="/models")
        given = ("phantom-wan", "x", [handle_file(str(picture))], {"steps": 1, "frames": 5}, 1)
        (job,) = client.predict(*given, api_name="/generate")
        end = time.monotonic() + 100
        while client.predict(job, api_name="/job")["state"] not in ("done", "failed"):
            assert time.monotonic() < end
            time.sleep(0.2)
        client.close()
    assert not log.exists(), log.read_text()
    told = "import socket; socket.getaddrinfo('far.example', 1)"
    env = os.environ | {"PYTHONPATH": path, "WATCHED": str(log)}
    subprocess.run([sys.executable, "-c", told], env=env, capture_output=True, cwd=ROOT, timeout=60)
    assert "far.example" in log.read_text()  # the watch does see what there is to see


def test_the_flag_reaches_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert from_environment(offline="1").offline and os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
