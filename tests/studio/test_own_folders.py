"""A folder that has a model's files: checked before it is taken, used at once and after a start, never written to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engines.errors import StudioError
from engines.loading.store import Store
from engines.messages import LookIn
from engines.runtime.device_service import DeviceService
from engines.runtime.settings import RuntimeSettings
from engines.types import Geometry, ModelSpec, Weights
from studio import own_folders
from studio.service import Studio
from studio.settings import from_environment
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN
GEOMETRY = Geometry(sizes=((64, 48),), multiple=16, max_pixels=10**6, frame_stride=4, max_frames=49, min_side=16)


def write(folder: Path, name: str, *, count: int = 5_000) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.random.default_rng(0).standard_normal(count, np.float32)}, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    size = write(tmp_path, "like.safetensors").stat().st_size
    weights = (
        Weights("transformer", ("net.safetensors",), "owner/net", size),
        Weights("vae", ("vae/net.safetensors",), "owner/vae", size),
    )
    return ModelSpec("one", "One", "", weights, GEOMETRY, {})


@pytest.fixture
def studio(idle: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.chdir(tmp_path)
    return idle


def test_a_folder_is_used_at_once_and_after_the_next_start_and_its_files_are_never_deleted(
    studio: Studio, model: ModelSpec, tmp_path: Path
) -> None:
    spec = replace(studio.spec("phantom-wan"), models=(model,))
    folder = tmp_path / "theirs"
    held = [write(folder, "owner/net/net.safetensors")]
    said = own_folders.use(studio, spec, model, f" {folder} ")
    assert 'of One are used from "theirs". owner/vae/vae/net.safetensors is still missing.' in said
    assert str(tmp_path) not in said
    held.append(write(folder, "vae/net.safetensors"))
    assert own_folders.use(studio, spec, model, str(folder)).endswith('"theirs".')
    assert studio.files.state(spec.name, model).state == "installed"
    assert studio.files.require(spec.name, model)["vae"] == (held[1],)
    settings = from_environment()
    assert settings.more_models == (folder,) and settings.files().state(spec.name, model).state == "installed"
    assert settings.runtime("cpu", outputs=tmp_path).more_models == (folder,)
    assert studio.files.remove(spec.name, model, others=[]) == 0 and all(path.is_file() for path in held)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Write which folder"), ("/nowhere/at all", 'There is no folder "at all"'), ("empty", "has no file of One"),
        ("other", "is not the file that was published"), ("cut", "net.safetensors"), ("like.safetensors", "no folder"),
        ("bad\0name", "."),
    ],
)  # fmt: skip
def test_what_is_not_the_published_file_is_refused_and_changes_nothing(
    studio: Studio, model: ModelSpec, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other", "net.safetensors", count=9_000)
    cut = write(tmp_path / "cut", "net.safetensors")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(StudioError) as refused:
        own_folders.use(studio, studio.spec("phantom-wan"), model, text)
    said = str(refused.value)
    assert sentence in said and str(tmp_path) not in said and "\n" not in said
    assert studio.files.more == () and not (tmp_path / "kinora.toml").exists()


def test_only_who_sits_at_this_machine_chooses_and_a_variable_wins(
    studio: Studio, model: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "theirs", "net.safetensors")
    spec = studio.spec("phantom-wan")
    for settings in (
        replace(studio.settings, public=True), replace(studio.settings, names=("studio.example",)),
        replace(studio.settings, origins={"more_models": "KINORA_MORE_MODELS"}),
    ):  # fmt: skip
        with pytest.raises(StudioError):
            own_folders.use(replace(studio, settings=settings), spec, model, "theirs")
    assert not (tmp_path / "kinora.toml").exists()
    monkeypatch.setenv("KINORA_MORE_MODELS", "theirs, others")
    assert from_environment().more_models == (tmp_path / "theirs", tmp_path / "others")


def test_a_process_that_runs_is_told(model: ModelSpec, tmp_path: Path) -> None:
    write(tmp_path / "theirs", "net.safetensors")
    service = DeviceService(RuntimeSettings(device="cpu", outputs=tmp_path))
    order = LookIn.model_validate_json(LookIn(folders=(tmp_path / "theirs",)).model_dump_json())
    service.look_in(order.folders)
    assert service.settings.files().find(model.weights[0]) == (tmp_path / "theirs" / "net.safetensors",)
    assert Store(models=tmp_path / "theirs", cache=False).find(model.weights[1]) == (None,)
