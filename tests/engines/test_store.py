"""Files are found wherever a user may keep them, without network, and what is wrong is one sentence."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from engines.errors import IncompatibleCheckpoint, MissingWeights, StudioError
from engines.loading.integrity import check_file
from engines.loading.store import Store, parse_override
from engines.registry import SPECS
from engines.types import Geometry, ModelSpec, Weights
from engines.wan.weights import PUBLISHED
from tests.engines.tiny import FILE, REPO, TINY, write_checkpoint

GEOMETRY = Geometry(sizes=((64, 64),), multiple=16, max_pixels=4096, frame_stride=4, max_frames=9)
SHARDS = Weights("transformer", ("big-1.safetensors", "big-2.safetensors"), "lab/big", 5_676_000_000)
TOKENIZER = Weights("tokenizer", ("google/t5/tokenizer.json", "google/t5/spiece.model"), "lab/big", 21_000_000)
BIG = ModelSpec("big", "The big model", "", (SHARDS, TOKENIZER), GEOMETRY)
PUBLISHED_FILES = [name for weights in PUBLISHED for name in weights.files]
BUNDLED = ModelSpec("starter", "Starter", "", (Weights("vae", ("starter/vae.bin",)),), GEOMETRY)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    return write_checkpoint(tmp_path_factory.mktemp("tiny")).read_bytes()


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_files_are_found_under_their_repository_and_directly(tmp_path, checkpoint):
    model = TINY.model("small")
    store = Store(models=tmp_path)
    assert store.find(model.weights[0]) == (None,)
    direct = put(tmp_path / FILE, checkpoint)
    assert store.require("tiny", model) == {"transformer": (direct,)}
    nested = put(tmp_path / REPO / FILE, checkpoint)
    assert store.require("tiny", model) == {"transformer": (nested,)}


def test_files_of_the_hub_cache_are_found_without_network(tmp_path):
    """In a process of its own: the hub's library reads where its cache is when it is imported."""
    snapshot = tmp_path / "hub/models--kinora-tests--tiny/snapshots/abc"
    put(snapshot / FILE)
    put(tmp_path / "hub/models--kinora-tests--tiny/refs/main", b"abc")
    program = """
import socket
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = refuse
from engines.loading.store import Store
from tests.engines.tiny import TINY
print(*Store().find(TINY.model("small").weights[0]), sep="\\n")
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == snapshot / FILE


def test_the_state_of_a_model_and_what_is_missing(tmp_path, checkpoint):
    store = Store(models=tmp_path / "models", assets=tmp_path / "assets")
    state = store.state("e", BIG)
    assert (state.state, state.found_bytes, state.total_bytes) == ("missing", 0, 5_697_000_000)
    assert len(state.missing) == 4
    put(tmp_path / "models/lab/big/big-2.safetensors", checkpoint)
    state = store.state("e", BIG)
    assert state.state == "partial" and state.missing[0] == "lab/big/big-1.safetensors"
    with pytest.raises(MissingWeights) as missing:
        store.require("e", BIG)
    assert "big-1.safetensors of lab/big and 2 more files (5.7 GB) are not on this machine" in missing.value.message
    assert "The big model" in missing.value.message
    assert "lab/big/big-1.safetensors" in missing.value.hint
    assert str(tmp_path) not in str(missing.value)
    for name in ("big-1.safetensors", "google/t5/tokenizer.json", "google/t5/spiece.model"):
        put(tmp_path / "models/lab/big" / name, checkpoint)
    assert store.state("e", BIG).state == "installed"
    assert [path.name for path in store.require("e", BIG)["tokenizer"]] == ["tokenizer.json", "spiece.model"]


def test_bundled_files(tmp_path):
    store = Store(assets=tmp_path)
    assert store.state("e", BUNDLED).state == "missing"
    with pytest.raises(MissingWeights, match="shipped with this project"):
        store.require("e", BUNDLED)
    put(tmp_path / "starter/vae.bin", b"12345")
    assert store.state("e", BUNDLED).state == "bundled"
    assert store.state("e", BUNDLED).found_bytes == 5
    twice = replace(BUNDLED, weights=(*BUNDLED.weights, replace(BUNDLED.weights[0], role="encoder")))
    assert store.state("e", twice).found_bytes == store.state("e", twice).total_bytes == 5, "one file, two components"


def test_an_override_is_a_file_a_published_folder_shards_or_a_diffusers_folder(tmp_path, checkpoint):
    single = put(tmp_path / "fp16.safetensors", checkpoint)
    published = [put(tmp_path / "published" / name, checkpoint) for name in SHARDS.files]
    diffusers = put(tmp_path / "transformer/diffusion_pytorch_model.safetensors", checkpoint)
    put(tmp_path / "transformer/config.json", b"{}")
    tokenizer = [put(tmp_path / "tok" / Path(name).name) for name in TOKENIZER.files]
    store = Store()
    assert store.find(SHARDS, override=single) == (single,)
    assert store.find(SHARDS, override=tmp_path / "published") == tuple(published)
    assert store.find(SHARDS, override=tmp_path / "transformer") == (diffusers,)
    assert store.find(TOKENIZER, override=tmp_path / "tok") == tuple(tokenizer)
    with pytest.raises(MissingWeights) as refused:
        store.find(SHARDS, override=tmp_path / "nothing")
    assert str(tmp_path) not in str(refused.value)
    store = Store(
        overrides={("e", "big", "transformer"): single, ("e", "big", "tokenizer"): tmp_path / "tok"},
    )
    assert store.require("e", BIG)["transformer"] == (single,)
    assert store.state("e", BIG).state == "installed"


def test_overrides_are_written_as_words():
    assert parse_override("e/m/vae=/a=b/c") == (("e", "m", "vae"), Path("/a=b/c"))
    for text in ("", "e/m=x", "e/m/vae=", "e/m/vae", "//=x"):
        with pytest.raises(StudioError):
            parse_override(text)


def test_whole_files_pass(tmp_path, checkpoint):
    check_file(put(tmp_path / "a.safetensors", checkpoint))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data", b"1" * 100)
    check_file(put(tmp_path / "a.pth", archive.getvalue()))
    with pytest.raises(IncompatibleCheckpoint, match="cut short"):
        check_file(put(tmp_path / "a.pth", archive.getvalue()[:-30]))


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1, -20])
def test_a_truncated_file_is_told_apart_at_any_length(tmp_path, checkpoint, keep):
    path = put(tmp_path / "a.safetensors", checkpoint[:keep])
    with pytest.raises(IncompatibleCheckpoint) as refused:
        check_file(path)
    assert refused.value.hint and str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{{", b"<html>" * 20]
    + [len(text).to_bytes(8, "little") + text for text in (b'{"a": 1}', b'{"a": {"data_offsets": ["x", "y"]}}')],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    with pytest.raises(IncompatibleCheckpoint):
        check_file(put(tmp_path / "a.safetensors", content))


def test_a_pointer_is_named_as_such(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    with pytest.raises(IncompatibleCheckpoint, match="pointer"):
        check_file(put(tmp_path / "a.safetensors", pointer))


def test_a_download_is_refused_without_space_or_network(tmp_path, monkeypatch):
    huge = ModelSpec("x", "X", "", (Weights("vae", ("v.bin",), "lab/x", 10**18),), GEOMETRY)
    with pytest.raises(StudioError, match="free"):
        list(Store(models=tmp_path).download("e", huge))
    assert list(tmp_path.iterdir()) == []
    program = f"""
import sys
from pathlib import Path
from engines.errors import MissingWeights
from engines.loading.store import Store
from tests.engines.tiny import TINY
try:
    for name in Store(models=Path({str(tmp_path)!r})).download("tiny", TINY.model("small")):
        print(name)
except MissingWeights as error:
    print(error.message)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], env={"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True
    )
    name, sentence = said.stdout.splitlines()
    assert name == f"{REPO}/{FILE}"
    assert "cannot be downloaded: the hub cannot be reached" in sentence


INDEXED = Weights("transformer", ("part/model.safetensors.index.json",), "lab/indexed", 9_000_000_000)
INDEX = b'{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}'


def test_an_index_stands_for_the_files_it_lists(tmp_path, checkpoint):
    model = ModelSpec("indexed", "Indexed", "", (INDEXED,), GEOMETRY)
    store = Store(models=tmp_path / "models")
    with pytest.raises(MissingWeights, match=r"part/model\.safetensors\.index\.json of lab/indexed \(9\.0 GB\)"):
        store.require("e", model)
    folder = tmp_path / "models/lab/indexed/part"
    index = put(folder / "model.safetensors.index.json", INDEX)
    first = put(folder / "model-1-of-2.safetensors", checkpoint)
    with pytest.raises(MissingWeights, match=r"part/model-2-of-2\.safetensors of lab/indexed"):
        store.require("e", model)
    assert (store.state("e", model).state, store.state("e", model).total_bytes) == ("partial", 9_000_000_000)
    second = put(folder / "model-2-of-2.safetensors", checkpoint)
    assert store.require("e", model) == {"transformer": (first, second)}
    assert store.state("e", model).state == "installed"
    for given in (index, folder, folder.parent):
        assert store.find(INDEXED, override=given) == (first, second)
    second.unlink()
    overridden = Store(overrides={("e", "indexed", "transformer"): index})
    with pytest.raises(MissingWeights, match=r"model-2-of-2\.safetensors of lab/indexed"):
        overridden.require("e", model)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": {"a": "../other.safetensors"}}',
        b'{"weight_map": {"a": "/etc/passwd"}}', b'{"weight_map": {"a": 3}}', b'{"weight_map": ["a"]}', b"\xff",
    ],
)  # fmt: skip
def test_an_index_that_lists_no_files_beside_it_is_refused(content, tmp_path):
    put(tmp_path / "lab/indexed/part/model.safetensors.index.json", content)
    with pytest.raises(IncompatibleCheckpoint, match="does not list a checkpoint's files"):
        Store(models=tmp_path).find(INDEXED)


def test_a_download_goes_on_with_what_the_index_lists(tmp_path, monkeypatch):
    fetched = []

    def fetch(repo, file, **_):
        fetched.append(file)
        put(tmp_path / "lab/indexed" / file, INDEX if file.endswith(".json") else b"x")

    monkeypatch.setattr("engines.loading.hub.fetch", fetch)
    monkeypatch.setattr(Store, "_check_space", lambda self, needed: None)
    model = ModelSpec("indexed", "Indexed", "", (INDEXED,), GEOMETRY)
    names = list(Store(models=tmp_path).download("e", model))
    assert fetched == [
        "part/model.safetensors.index.json",
        "part/model-1-of-2.safetensors",
        "part/model-2-of-2.safetensors",
    ]
    assert names == [f"lab/indexed/{file}" for file in fetched]


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize(("begin", "end"), [(0.5, 1.0), (0.3, 0.6), (0.05, 0.35)])
def test_a_file_with_a_hole_is_refused_and_one_with_zero_biases_is_not(
    tmp_path: Path, kind: str, begin: float, end: float
) -> None:
    import torch
    from safetensors.torch import save_file as save

    tensors = {f"layer.{index}.weight": torch.randn(64, 64) for index in range(8)}
    tensors |= {f"layer.{index}.bias": torch.zeros(64) for index in range(8)} | {"last.weight": torch.zeros(16, 64)}
    path = tmp_path / f"a.{kind}"
    save(tensors, path) if kind == "safetensors" else torch.save(tensors, path)
    check_file(path)
    content = bytearray(path.read_bytes())
    first, last = (int(len(content) * place) for place in (begin, end if kind == "safetensors" else min(end, 0.9)))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)
    with pytest.raises(IncompatibleCheckpoint, match="is empty in large part"):
        check_file(path)


def test_a_folder_as_wan_s_own_read_me_downloads_it_is_found(tmp_path, checkpoint):
    wan = [put(tmp_path / "Wan2.1-T2V-1.3B" / name, checkpoint) for name in PUBLISHED_FILES]
    published = {weights.role: weights for weights in PUBLISHED}
    for models in (tmp_path, tmp_path / "Wan2.1-T2V-1.3B"):
        found = [path for weights in published.values() for path in Store(models=models).find(weights)]
        assert found == wan
    phantom = SPECS["phantom-wan"].model("1.3B")
    assert not [
        name
        for name in Store(models=tmp_path / "Wan2.1-T2V-1.3B").state("phantom-wan", phantom).missing
        if "transformer" not in name and "Phantom" not in name
    ]


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["a-1-of-2.safetensors", "a-2-of-2.safetensors", "._a-1-of-2.safetensors", ".hidden.safetensors"], [0, 1]),
        (["diffusion_pytorch_model.bin", "config.json"], [0]),
        (["pytorch_model.bin", "training_args.bin", "optimizer.bin", "scheduler.bin"], [0]),
        (["model.pth", "._model.pth", "rng_state_0.pth", "notes.txt"], [0]),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], [0]),
        (["model.safetensors", "pytorch_model.bin"], [0]),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], [0]),
        (["part-1.pt", "part-2.pt"], [0, 1]),
        (["WAN.SAFETENSORS"], [0]),
        (["wan-q4.gguf"], [0]),
    ],
)
def test_the_checkpoint_in_a_folder_is_told_from_what_lies_beside(there, taken, tmp_path, checkpoint):
    paths = [put(tmp_path / "folder" / name, checkpoint) for name in there]
    assert Store().find(SHARDS, override=tmp_path / "folder") == tuple(paths[index] for index in taken)
    inside = [put(tmp_path / "pipeline" / SHARDS.role / name, checkpoint) for name in there]
    assert Store().find(SHARDS, override=tmp_path / "pipeline") == tuple(inside[index] for index in taken)


def test_an_index_in_a_folder_is_obeyed_unless_it_is_useless(tmp_path, checkpoint):
    folder = tmp_path / "folder"
    named = [put(folder / name, checkpoint) for name in ("model-1-of-2.safetensors", "model-2-of-2.safetensors")]
    stray = put(folder / "another.safetensors", checkpoint)
    index = put(folder / "model.safetensors.index.json", INDEX)
    assert Store().find(SHARDS, override=folder) == tuple(named)
    for useless in (b"", b"{}", b'{"weight_map": {"a": "elsewhere.safetensors"}}'):
        put(index, useless)
        assert Store().find(SHARDS, override=folder) == (stray, *named)
    put(index, INDEX)
    named[1].unlink()
    with pytest.raises(MissingWeights, match=r"model-2-of-2\.safetensors"):
        Store(overrides={("e", "big", "transformer"): folder}).require("e", BIG)


def test_documents_are_not_asked_to_be_checkpoints(tmp_path):
    check_file(put(tmp_path / "tokenizer.json", b'{"a": {}}'), document=True)
    stand_ins = {b"": "is empty", b"version https://git-lfs.github.com/spec/v1": "pointer", b" <html>": "web page"}
    for content, sentence in stand_ins.items():
        with pytest.raises(IncompatibleCheckpoint, match=sentence):
            check_file(put(tmp_path / "tokenizer.json", content), document=True)
