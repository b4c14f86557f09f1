"""Files as people have them: renamed, merged, averaged, quantised, odd; loaded, or refused in one sentence."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engines.errors import IncompatibleCheckpoint, StudioError
from engines.loading import integrity, reading
from engines.loading.checkpoints import load, match, open_checkpoint
from engines.loading.integrity import check_file
from engines.loading.networks import find_network
from engines.loading.packed import FLOAT8
from engines.loading.tokenizers import load_tokenizer
from engines.memory.precision import FLOAT32
from engines.wan.components import WanModel
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE
from tests.engines import tiny_wan
from tests.engines.test_checkpoints import load_file_of, published, refusal, write
from tests.engines.tiny_wan import CountingContext

SHARE = "blocks.0.self_attn.q.weight"


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in tensors.items()}


def scaled(tensors: dict[str, torch.Tensor], by: float) -> dict[str, torch.Tensor]:
    return {key: value * by for key, value in tensors.items()}


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return published()


@pytest.fixture(scope="module")
def expected(plain: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return load_file_of(write(tmp_path_factory.mktemp("plain") / "plain.pth", plain)).state_dict()


def same(network: torch.nn.Module, expected: dict[str, torch.Tensor], by: float = 1.0) -> bool:
    state = network.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name] * by) for name in state)


# A file is what its bytes say (F04)


@pytest.mark.parametrize(
    "name", ["612b8da1", "weights.safetensors", "weights.pth", "weights.gguf", "weights.txt", "a b"]
)
@pytest.mark.parametrize("kind", ["safetensors", "archive", "pickle"])
def test_a_suffix_decides_nothing(
    name: str, kind: str, tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    if kind == "safetensors":
        save_file(plain, tmp_path / name)
    else:
        torch.save(plain, tmp_path / name, _use_new_zipfile_serialization=kind == "archive")
    check_file(tmp_path / name)
    assert integrity.kind_of(tmp_path / name) == kind
    assert same(load_file_of(tmp_path / name), expected)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_link_of_the_hub_cache_is_named_as_it_is_given(
    content: bytes | None, tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    blob, link = tmp_path / "blobs" / ("6" * 64), tmp_path / "snapshots" / "abc" / "Wan2.1_VAE.pth"
    blob.parent.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    if content is None:
        torch.save(plain, blob)
        network = find_network("transformer", (link,), TRANSFORMER)
        assert network.name == "Wan2.1_VAE.pth" and same(network.component(FLOAT32).build(), expected)
    else:
        blob.write_bytes(content)
        assert refusal(link).startswith("Wan2.1_VAE.pth cannot be read")


# Prefixes, wrappers, merged files (F06)


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "transformer.",
        "model.diffusion_model.",
        "module.",
        "_orig_mod.",
        "dit.",
        "module._orig_mod.",
        "a.b.c.d.",
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_all_keys_share_is_taken_off(
    prefix: str, suffix: str, tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    assert same(load_file_of(write(tmp_path / f"model{suffix}", under(prefix, plain))), expected)


def test_wrappers_between_the_names_are_taken_out(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    wrapped = {
        key.replace("blocks.0.", "blocks.0._orig_mod.").replace(
            "blocks.1.", "blocks.1._checkpoint_wrapped_module."
        ): value
        for key, value in plain.items()
    }
    assert same(load_file_of(write(tmp_path / "model.pth", wrapped)), expected)


def test_one_part_of_a_merged_file_is_taken(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    vae, text = published("vae_decode_video"), published("text_encoder")
    for prefix in ("model.diffusion_model.", "dit.", ""):
        merged = under(prefix, plain) | under("vae.", vae) | under("text_encoders.umt5xxl.transformer.", text)
        path = write(tmp_path / "merged.safetensors", merged)
        assert same(load_file_of(path), expected)
        for architecture, part in ((VAE, vae), (TEXT_ENCODER, text)):
            places = architecture.places(merged)
            assert [len(place.keys) for place in places] == [len(part)]
            match(open_checkpoint([path]), architecture)


def test_two_of_a_kind_are_not_guessed(tmp_path: Path, plain: dict[str, torch.Tensor]) -> None:
    both = under("high_noise.", plain) | under("low_noise.", scaled(plain, 2.0))
    sentence = refusal(write(tmp_path / "two.safetensors", both))
    assert 'holds a Wan video transformer more than once: under "low_noise" and "high_noise"' in sentence


def test_what_the_keys_begin_with_is_said(tmp_path: Path, plain: dict[str, torch.Tensor]) -> None:
    part = {key: value for key, value in plain.items() if not key.startswith("head.")}
    assert 'begin with "model.dit"' in refusal(write(tmp_path / "part.pth", under("model.dit.", part)))
    lost = {key: value for key, value in under("net.", plain).items() if key != f"net.{SHARE.replace('0', '1', 1)}"}
    assert "1 missing (blocks.1.attn1.to_q.weight)" in refusal(write(tmp_path / "lost.pth", lost))


# Quantised weights (F07)


@pytest.mark.parametrize(
    ("of", "rename"),
    [
        ("quanto's", {"": "._data", "s": "._scale"}),
        ("bitsandbytes'", {"": "", "s": ".absmax", "t": ".quant_state.bitsandbytes__nf4"}),
        ("scaled 8-bit", {"": "", "s": "/.scale_weight"}),
        ("scaled 8-bit", {"": "", "s": "/.weight_scale"}),
        ("GPTQ's or AWQ's", {"": "/.qweight", "s": "/.scales", "t": "/.qzeros"}),
        ("compressed-tensors'", {"": "/.weight_packed", "s": "/.weight_scale"}),
        ("torchao's", {"": ":_data", "s": ":qdata"}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_quantised_weights_are_named_for_what_they_are(
    of: str, rename: dict[str, str], prefix: str, tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    tensors = {}
    for key, value in under(prefix, plain).items():
        stem = key.removesuffix(".weight")
        names = rename.values() if key.endswith("weight") and value.dim() == 2 else [""]
        for name in names:
            tensors[f"{stem}{name[1:]}" if name.startswith("/") else f"{key}{name}"] = value.to(torch.uint8)
    sentence = refusal(write(tmp_path / "small.safetensors", tensors))
    assert (
        sentence.startswith(f"small.safetensors holds {of}")
        and "cannot be used yet. Use the file in bfloat16" in sentence
    )


@pytest.mark.parametrize(
    "names", [(".B", ".s"), (".weight_int8", ".weight_scales"), ("._packed",), (".weight.q4",), (".packed", ".scales")]
)
def test_whole_numbers_under_unknown_names_are_not_called_missing(
    names: tuple[str, ...], tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    tensors = {}
    for key, value in plain.items():
        small = {f"{key.removesuffix('.weight')}{names[0]}": value.to(torch.uint8)}
        small |= {f"{key.removesuffix('.weight')}{name}": torch.ones(1) for name in names[1:]}
        tensors |= small if key.endswith(".weight") and value.dim() == 2 else {key: value}
    sentence = refusal(write(tmp_path / "packed.safetensors", tensors))
    assert "holds weights in uint8 under other names" in sentence and "missing" not in sentence


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda value: value.to("meta"), torch.Tensor.to_sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_without_all_their_numbers_are_refused(
    change: Any, tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    torch.save({key: change(value) if value.dim() == 2 else value for key, value in plain.items()}, tmp_path / "x.pth")
    assert "x.pth holds tensors with" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool, torch.complex64])
def test_whole_numbers_without_scales_are_no_weights(
    dtype: torch.dtype, tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    tensors = {key: value.to(dtype) if value.dim() == 2 else value for key, value in plain.items()}
    name = str(dtype).removeprefix("torch.")
    assert f"holds weights in {name} without what scales them" in refusal(write(tmp_path / "int.pth", tensors))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_plain_numbers_of_any_width_are_weights(
    dtype: torch.dtype, tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    network = load_file_of(write(tmp_path / "model.safetensors", {key: v.to(dtype) for key, v in plain.items()}))
    layer = network.blocks[0].ffn.net[0].proj  # of 8 bits, it stays packed
    weight = layer.packing.numbers(layer.packed, torch.float32, None) if dtype in FLOAT8 else layer.weight
    assert torch.equal(weight, plain["blocks.0.ffn.0.weight"].to(dtype).float())
    outside = network.condition_embedder.text_embedder.linear_1.weight
    assert torch.equal(outside, plain["text_embedding.0.weight"].to(dtype).float())


@pytest.mark.parametrize("name", ["wan-q4.gguf", "wan.safetensors"])
def test_gguf_is_named_by_all_who_look(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    for look in (lambda path: check_file(path), lambda path: open_checkpoint([path])):
        with pytest.raises(IncompatibleCheckpoint, match="holds no tensors"):
            look(tmp_path / name)


# What training saves (F08)


def test_classes_in_a_pickle_are_told_apart_from_damage(tmp_path: Path, plain: dict[str, torch.Tensor]) -> None:
    for name, beside in (("args", argparse.Namespace(steps=1)), ("path", tmp_path), ("net", torch.nn.Linear(1, 1))):
        for new in (True, False):
            torch.save({"model": plain, name: beside}, tmp_path / "t.pth", _use_new_zipfile_serialization=new)
            assert "t.pth holds more than tensors, so it is not opened. Save its state_dict" in refusal(
                tmp_path / "t.pth"
            )


@pytest.mark.parametrize(
    "around",
    [
        lambda state: {"model_state_dict": state, "loss": torch.zeros(()), "epoch": 3},
        lambda state: {
            "state_dict": state,
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(9)}}, "param_groups": []},
        },
        lambda state: {"step": torch.tensor(5), "trainer": {"nets": [{"generator": state}]}},
        lambda state: {"generator": state, "critic": state | {"more": torch.zeros(1)}, "lr": 1e-4},
        lambda state: {"model": state, "other": {f"{index}": torch.zeros(1) for index in range(2000)}},
        lambda state: [{"net": state}, 3],
    ],
)
def test_the_state_dict_is_found_among_the_rest(
    around: Any, tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    torch.save(around(plain), tmp_path / "training.pth")
    assert same(load_file_of(tmp_path / "training.pth"), expected)


# A repack's extra tensor (F23)


@pytest.mark.parametrize("extra", ["spiece_model", "tokenizer_json", "tokenizer.spiece", "vocab", "logit_scale"])
@pytest.mark.parametrize("names", ["published", "library"])
def test_a_tokenizer_carried_as_a_tensor_is_ignored(names: str, extra: str, tmp_path: Path) -> None:
    tensors = published("text_encoder") if names == "published" else dict(tiny_wan.text_encoder().state_dict())
    tensors.pop("encoder.embed_tokens.weight", None)
    tensors[extra] = torch.zeros(100, dtype=torch.uint8)
    load(open_checkpoint([write(tmp_path / "umt5.safetensors", tensors)]), TEXT_ENCODER, dtype=torch.float32)


# Bounded work, whatever is in a file (R11)


def header(text: bytes, path: Path) -> Path:
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_a_pickle_that_holds_itself_is_read_once(
    tmp_path: Path, plain: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    content: dict[str, Any] = {"model": plain, "list": []}
    content["self"] = content["list"].append(content) or content
    torch.save(content, tmp_path / "loop.pth")
    assert same(load_file_of(tmp_path / "loop.pth"), expected)
    laughs: Any = {"a": torch.zeros(1)}
    for _ in range(200):
        laughs = {"a": laughs, "b": laughs}
    torch.save(laughs, tmp_path / "laughs.pth")
    assert refusal(tmp_path / "laughs.pth")


def test_more_tensors_than_any_network_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (integrity, reading):
        monkeypatch.setattr(module, "MOST_TENSORS", 50)
    many = {f"k{index}": torch.zeros(1) for index in range(60)}
    for suffix in (".safetensors", ".pth"):
        assert "lists more tensors than a network has" in refusal(write(tmp_path / f"many{suffix}", many))
    shared = torch.zeros(60)
    torch.save({f"k{index}": shared[index] for index in range(60)}, tmp_path / "views.pth")
    assert "lists more tensors" in refusal(tmp_path / "views.pth")


def test_a_header_of_a_hundred_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write((100 * 2**20).to_bytes(8, "little") + b"{")
        file.truncate(101 * 2**20)
    for look in (check_file, lambda path: open_checkpoint([path])):
        with pytest.raises(IncompatibleCheckpoint, match="lists more tensors than a network has"):
            look(path)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a":[' + b"[" * 100_000,
        b'{"a":{}}',
        b'{"a":{"data_offsets":"x"}}',
        b"{}x",
    ],
)
def test_odd_headers_are_one_sentence(text: bytes, tmp_path: Path) -> None:
    path = header(text, tmp_path / "odd.safetensors")
    with pytest.raises(StudioError):
        check_file(path)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ("[" * 100_000, "kinora"), ("[1]", "kinora"), ("nonsense", "kinora"), ('{"class": 3}', "class"),
        ('{"config": [1]}', "config"), ('{"config": {"num_layers": 1000000000}}', "config"),
        ('{"config": {"rope_max_seq_len": 1000000000}}', "config"), ('{"config": {"ffn_dim": NaN}}', "config"),
        ('{"config": {"patch_size": ' + json.dumps([1] * 5000) + "}}", "config"),
        ('{"configs": [1]}', "configs"), ('{"configs": {"VideoEncoder": {"num_hidden_layers": 1000000000}}}', "config"),
    ],
)  # fmt: skip
def test_odd_facts_of_a_file_are_one_sentence(
    facts: str, what: str, tmp_path: Path, plain: dict[str, torch.Tensor]
) -> None:
    path = write(tmp_path / "odd.safetensors", plain, kinora=facts)
    assert f'odd.safetensors says something of itself that cannot be used: its "{what}".' in refusal(path)


@pytest.mark.parametrize(
    ("role", "facts"),
    [
        ("transformer", {"text_len": "many"}), ("transformer", {"text_len": 10**9}),
        ("transformer", {"text_len": None}),
        ("vae", {"rgb_factors": {"weight": [[1, 2]], "bias": [0, 0, 0]}}), ("vae", {"rgb_factors": "red"}),
        ("vae", {"rgb_factors": {"weight": [[0, 0, float("nan")]] * 4, "bias": [0, 0, 0]}}),
    ],
)  # fmt: skip
def test_odd_settings_of_a_starter_are_one_sentence(role: str, facts: dict[str, Any], tmp_path: Path) -> None:
    files = tiny_wan.write_model(tmp_path)
    network, config = {
        "transformer": (tiny_wan.transformer(), tiny_wan.TRANSFORMER),
        "vae": (tiny_wan.vae(), tiny_wan.VAE),
    }[role]
    tiny_wan.write(files[role][0], network, config, **facts)
    with pytest.raises(IncompatibleCheckpoint, match=f'its "{next(iter(facts))}"'):
        WanModel.find(CountingContext(files))


@pytest.mark.parametrize(
    ("normalizer", "post"),
    [
        ({"type": "Sequence",
          "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}, None),
        ({"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10**5}, None),
        ({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x" * 50}] * 3}, None),
        (None, {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 10**4, "pair": [],
                "special_tokens": {}}),
    ],
)  # fmt: skip
def test_a_tokenizer_that_grows_is_refused(normalizer: Any, post: Any, tmp_path: Path) -> None:
    path = tiny_wan.write_tokenizer(tmp_path / "tokenizer.json")
    content = json.loads(path.read_text())
    content["normalizer"] = normalizer
    content["post_processor"] = post or content["post_processor"]
    path.write_text(json.dumps(content))
    with pytest.raises(
        IncompatibleCheckpoint, match=r"^tokenizer\.json makes texts too long|^tokenizer\.json cannot be read"
    ):
        load_tokenizer(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"{" * 10**5, b"\xff\xfe", b'{"normalizer": {"type": "Replace"}}']
)
def test_what_is_no_tokenizer_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(IncompatibleCheckpoint, match=r"^tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    "content", [b"\x80", b"\x80\x02", b"P", b"PK\x03\x04", b"{", b"\0" * 20, pickle.dumps([1], 4), b"\x1f\x8b1"]
)
def test_stumps_and_strangers_are_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    assert refusal(tmp_path / "model.pth").startswith("model.pth ")
