"""Downloads from a hub that is slow, breaks off, lies about sizes or sends other bytes; stopped, resumed, deleted."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.errors import StudioError
from engines.loading.store import Store
from engines.phantom_wan.spec import PHANTOM_WAN
from engines.types import EngineSpec, ModelSpec, Weights
from studio.downloads import Download, Downloads
from tests.engines.hub import Hub, serving

SHARED = Weights(role="vae", repo="owner/base", files=("vae.bin",), size_bytes=200_000)
CONTENT = {
    "owner/base/vae.bin": bytes(200_000),
    "owner/small/model.bin": bytes(range(256)) * 6_000,
    "owner/large/model.bin": b"large" * 1_000,
}


def model(name: str) -> ModelSpec:
    size = len(CONTENT[f"owner/{name}/model.bin"])
    own = Weights(role="transformer", repo=f"owner/{name}", files=("model.bin",), size_bytes=size)
    return replace(PHANTOM_WAN.models[1], name=name, title=name.title(), weights=(own, SHARED))


SMALL, LARGE = model("small"), model("large")
SPEC: EngineSpec = replace(PHANTOM_WAN, models=(SMALL, LARGE))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 3)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)  # what is kept of a broken answer
    clock = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})  # between its own tries; the hub's is another
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    with serving(Hub(dict(CONTENT))) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield found


@pytest.fixture(params=["models folder", "hub cache"])
def files(request: Any, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    return Store(models=tmp_path / "models" if request.param == "models folder" else None)


def until(downloads: Downloads, holds: Callable[[Download], bool]) -> Download:
    end = time.monotonic() + 60
    while (now := downloads.current()) is None or not holds(now):
        assert time.monotonic() < end, now
        time.sleep(0.01)
    return now


def ended(downloads: Downloads) -> Download:
    return until(downloads, lambda now: now.state != "running")


def whole(files: Store, wanted: ModelSpec) -> bool:
    found = {f"{weights.repo}/{weights.files[0]}": files.find(weights)[0] for weights in wanted.weights}
    return all(path is not None and path.read_bytes() == CONTENT[name] for name, path in found.items())


def test_a_model_is_fetched_counted_and_whole(files: Store, hub: Hub) -> None:
    downloads = Downloads(files)
    assert downloads.current() is None and hub.asked == []
    downloads.start(SPEC, SMALL)
    done = ended(downloads)
    assert (done.state, done.said, done.share) == ("done", "", 1.0)
    assert whole(files, SMALL)
    with pytest.raises(StudioError, match="installed already"):
        downloads.start(SPEC, SMALL)
    downloads.start(SPEC, LARGE)  # what both need is not fetched twice
    assert ended(downloads).state == "done"
    assert sum(method == "GET" and "vae.bin" in path for method, path, _ in hub.asked) == 1


def test_it_is_stopped_and_goes_on_where_it_was(files: Store, hub: Hub, tmp_path: Path) -> None:
    hub.slow_s = 0.2
    downloads = Downloads(files)
    downloads.start(SPEC, SMALL)
    with pytest.raises(StudioError, match="Another model is being downloaded"):
        downloads.start(SPEC, LARGE)
    until(downloads, lambda now: now.done_bytes > 300_000)
    downloads.stop()
    stopped = ended(downloads)
    assert stopped.state == "stopped" and 0 < stopped.share < 1
    assert files.state(SPEC.name, SMALL).missing  # nothing half-written stands under a final name
    (part,) = tmp_path.rglob("*.part")
    kept, before = part.stat().st_size, len(hub.asked)
    assert kept > 0
    hub.slow_s = 0.0
    downloads.start(SPEC, SMALL)
    assert ended(downloads).state == "done" and whole(files, SMALL)
    asked = [told for method, path, told in hub.asked[before:] if method == "GET" and "model.bin" in path]
    starts = [int(told.removeprefix("bytes=").partition("-")[0] or 0) for told in asked]
    assert starts and min(starts) >= kept, "what was fetched is not fetched again"


def test_a_file_that_another_process_fetches_is_left_to_it(files: Store, hub: Hub, tmp_path: Path) -> None:
    hub.slow_s = 0.2
    first, second = Downloads(files), Downloads(files)
    first.start(SPEC, SMALL)
    until(first, lambda now: now.done_bytes > 300_000)
    second.start(SPEC, SMALL)
    assert "is being downloaded already" in ended(second).said
    hub.slow_s = 0.0
    assert ended(first).state == "done" and whole(files, SMALL)
    assert not list(tmp_path.rglob("*.lock")), "nothing is left beside the files"


def test_a_full_disk_keeps_what_has_come(
    files: Store, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_url: str, opened: Any, **_: Any) -> None:
        opened.write(b"x" * 1000)
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    downloads = Downloads(files)
    downloads.start(SPEC, SMALL)
    assert "could not be saved" in ended(downloads).said
    assert [part.stat().st_size for part in tmp_path.rglob("*.part")] == [1000]


def test_a_hub_that_breaks_off_is_asked_for_the_rest(files: Store, hub: Hub) -> None:
    hub.breaks_after = 400_000
    downloads = Downloads(files)
    downloads.start(SPEC, SMALL)
    assert ended(downloads).state == "done" and whole(files, SMALL)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [({"announces": 999}, "damaged|cannot be reached|could not be saved"), ({"damages": True}, "damaged"),
     ({"refuses": True}, "refused|cannot be reached"), ({"files": {}}, "refused|cannot be reached")],
)  # fmt: skip
def test_what_the_hub_does_wrong_is_a_sentence_and_no_file(
    files: Store, hub: Hub, fault: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    for name, value in fault.items():
        setattr(hub, name, value)
    downloads = Downloads(files)
    downloads.start(SPEC, SMALL)
    failed = ended(downloads)
    assert failed.state == "failed"
    assert any(word in failed.said for word in sentence.split("|")), failed.said
    assert str(tmp_path) not in failed.said and "127.0.0.1" not in failed.said
    assert len(files.state(SPEC.name, SMALL).missing) == 2


def test_only_what_no_other_installed_model_needs_is_deleted(files: Store, hub: Hub) -> None:
    downloads = Downloads(files)
    for one in (SMALL, LARGE):
        downloads.start(SPEC, one)
        assert ended(downloads).state == "done"
    others = [(SPEC.name, one) for one in SPEC.models]
    assert files.remove(SPEC.name, SMALL, others=others) == len(CONTENT["owner/small/model.bin"])
    assert whole(files, LARGE)
    assert files.state(SPEC.name, SMALL).missing == ("owner/small/model.bin",)
    assert files.remove(SPEC.name, LARGE, others=others) == 205_000
    assert len(files.state(SPEC.name, LARGE).missing) == 2


def test_files_that_the_user_named_are_never_deleted(hub: Hub, tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(CONTENT["owner/small/model.bin"])
    files = Store(models=tmp_path, overrides={(SPEC.name, "small", "transformer"): mine})
    downloads = Downloads(files)
    downloads.start(SPEC, SMALL)
    assert ended(downloads).state == "done"
    assert not any("small" in path for _, path, _ in hub.asked)
    files.remove(SPEC.name, SMALL, others=[])
    assert mine.is_file()
