"""The served page and its API: no torch in the process, nothing of this machine in the answers."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import av
import pytest
from gradio_client import Client, handle_file

from engines.registry import SPECS
from tests.studio.server import ROOT, Server

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def client(server: Server):
    client = Client(server.url, verbose=False)
    yield client
    client.close()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def _call(server: Server, name: str, *data: object) -> str:
    """A raw call of an endpoint, private ones included; returns everything the server says."""
    body = json.dumps({"data": list(data), "session_hash": "raw"}).encode()
    request = urllib.request.Request(
        f"{server.url}/gradio_api/run/{name}", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _secrets(server: Server) -> list[str]:
    return [str(ROOT), str(server.outputs), str(Path.home() / ""), "Traceback"]


def test_the_page_is_served_without_torch_and_tells_nothing_of_this_machine(server: Server) -> None:
    for address in ("/", "/config", "/gradio_api/info"):
        text = _get(server.url + address)
        for secret in _secrets(server):
            assert secret not in text, f"{address} shows {secret}"


def test_what_a_tab_needs_waits_until_it_is_opened(server: Server) -> None:
    config = json.loads(_get(f"{server.url}/config"))
    asked = [
        one for one in config["dependencies"] if one["backend_fn"] and any(how == "load" for _, how in one["targets"])
    ]
    # The devices, the queue, the lists of models, the kept forms, and what the first engine's form and result hold.
    assert len(asked) <= 10 < len(SPECS) * 5


def test_every_name_on_the_page_is_one_things(server: Server) -> None:
    names = [one["props"].get("elem_id") for one in json.loads(_get(f"{server.url}/config"))["components"]]
    assert [name for name, count in Counter(filter(None, names)).items() if count > 1] == []


def test_only_the_eight_functions_are_public(server: Server) -> None:
    info = json.loads(_get(f"{server.url}/gradio_api/info"))
    assert set(info["named_endpoints"]) == {
        "/generate",
        "/job",
        "/cancel",
        "/models",
        "/refine",
        "/status",
        "/estimate",
        "/edit",
    }
    assert not info["unnamed_endpoints"]


def test_the_functions_are_described_for_programs_of_any_kind(server: Server) -> None:
    described = json.loads(_get(f"{server.url}/gradio_api/openapi.json"))
    assert described["openapi"].startswith("3.")
    paths = " ".join(described["paths"])
    assert all(f"/{name}" in paths for name in ("generate", "job", "cancel", "models", "refine", "status"))
    assert not any(secret in json.dumps(described) for secret in _secrets(server))


def test_the_status_counts_and_names_nobody(client: Client) -> None:
    status = client.predict(api_name="/status")
    assert set(status) == {"version", "waiting", "running", "devices"}
    assert status["devices"][0]["name"] == "cpu" and (status["waiting"], status["running"]) == (0, 0)


def test_a_client_makes_a_clip(client: Client, picture: Path, tmp_path: Path) -> None:
    runnable = {(entry["engine"], entry["model"]) for entry in client.predict(api_name="/models") if entry["runnable"]}
    built_in = {(spec.name, model.name) for spec in SPECS.values() for model in spec.models if "starter" in model.name}
    assert runnable == built_in and {name for name, _ in built_in} >= {"phantom-wan", "flashi2v", "pyramid-flow"}
    settings = {"seed": 3, "steps": 2, "frames": 5, "width": "64"}
    (job_id,) = client.predict(
        "phantom-wan", "a red circle", [handle_file(str(picture))], settings, 1, api_name="/generate"
    )
    end = time.monotonic() + 120
    while (job := client.predict(job_id, api_name="/job"))["state"] in ("queued", "running"):
        assert time.monotonic() < end, job
        time.sleep(0.3)
    assert job["state"] == "done", job
    assert job["seed"] == 3
    with av.open(job["video"]) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        ("x", {}, "Add a reference picture"),
        ("x", {"references": [{"path": str(ROOT / "assets" / "examples" / "red_star.png")}]}, "handle_file"),
        ("x", {"stepz": 3}, 'did you mean "steps"'),
        ("x", {"seed": -2}, "Seed"),
        ("x" * 20_000, {}, "shorten"),
    ],
)
def test_a_bad_call_gets_one_sentence(client: Client, prompt: str, settings: dict, sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        client.predict("phantom-wan", prompt, [], settings, 1, api_name="/generate")


def test_files_of_this_machine_cannot_be_named_as_pictures(server: Server, picture: Path) -> None:
    for lie in ({"path": str(picture)}, {"path": str(picture), "meta": {"_type": "gradio.FileData"}}):
        answer = _call(server, "generate", "phantom-wan", "x", [lie], {}, 1)
        assert json.loads(answer).get("error") and "data" not in json.loads(answer)
        for secret in _secrets(server):
            assert secret not in answer


def test_a_job_of_nobody_is_unknown(client: Client) -> None:
    for name in ("/job", "/cancel"):
        with pytest.raises(Exception, match="no job with this id"):
            client.predict("20260101-000000-0000000000000000", api_name=name)


def test_outputs_are_not_published_by_their_path(server: Server) -> None:
    for path in (server.outputs / "studio.sqlite3", ROOT / "pyproject.toml"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            _get(f"{server.url}/gradio_api/file={path}")
        assert refused.value.code in (403, 404)
