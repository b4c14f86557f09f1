"""Quantised files that people have become networks that stay as small, and give nearly the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from engines.errors import IncompatibleCheckpoint
from engines.inputs import Adapter
from engines.loading import gguf_files
from engines.loading.integrity import check_file
from engines.loading.networks import Network, find_network
from engines.loading.packed import PackedLinear, packed_layers
from engines.memory import offload
from engines.memory.precision import BFLOAT16, FLOAT32, Precision
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import encode_tokens
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.quantised import as_published, is_matrix, save, scaled_float8, write_gguf
from tests.engines.test_adapters import distance
from tests.engines.test_checkpoints import size
from tests.engines.tiny_adapters import plain

CONFIG = tiny_wan.TRANSFORMER | {"num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 256, "num_layers": 3}
FACTS = {"class": "WanTransformer3DModel", "config": CONFIG}


def original() -> WanTransformer3DModel:
    return tiny_wan.seeded(lambda: WanTransformer3DModel(**CONFIG))


@torch.no_grad()
def output(network: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    values = {
        "hidden_states": torch.randn(1, 4, 2, 8, 8, generator=draw).to(dtype),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 12, 16, generator=draw).to(dtype),
    }
    return network(**values, return_dict=False)[0].float()


def found(path: Path) -> Network:
    return find_network("transformer", (path,), TRANSFORMER)


# Relative error of the prediction of random weights, where a file has every matrix quantised (measured: 0.0043, 0.037,
# 0.067; 8-bit floats 0.030), and bytes of the blocks as a share of float32 (measured: 0.276, 0.184, 0.153; 0.261).
FORMS = {
    "Q8_0": ("GGUF Q8_0", 6e-3, 0.28),
    "Q5_0": ("GGUF Q5_0", 5e-2, 0.19),
    "Q4_0": ("GGUF Q4_0", 9e-2, 0.16),
}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", FORMS)
def test_gguf_in_the_authors_names_stays_packed_and_gives_nearly_the_same(
    kind: str, prefix: str, tmp_path: Path
) -> None:
    form, error, share = FORMS[kind]
    tensors = {f"{prefix}{key}": value for key, value in as_published(original().state_dict()).items()}
    network = found(write_gguf(tmp_path / "wan.gguf", tensors, kind, **FACTS))
    assert network.layout == "Wan" and network.checkpoint.mapped
    component = network.component(FLOAT32)
    assert component.precision == f"{form} in float32"
    module = component.build()
    assert 0.1 * error < distance(output(module), output(original())) < error
    assert component.size_bytes == size(module) and size(module.blocks) < share * size(original().blocks)
    assert {type(layer) for name, layer in module.named_modules() if name.endswith("ffn.net.2")} == {PackedLinear}
    assert not [name for name, _ in packed_layers(module) if not name.startswith("blocks.")]


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q5_1", "Q8_0"])
def test_every_kind_of_block_is_read_as_gguf_itself_reads_it(kind: str, tmp_path: Path) -> None:
    quantised = gguf.GGMLQuantizationType[kind]
    block, bytes_ = gguf.GGML_QUANT_SIZES[quantised]
    draw = np.random.default_rng(0)
    packed = draw.integers(0, 256, (8, 512 // block * bytes_), dtype=np.uint8)
    sane = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)  # the scales, wherever they stand in a block
    rows = packed.reshape(-1, bytes_)
    for place in {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)}.get(
        kind, (0, 2) if kind in ("Q4_K", "Q5_K", "Q5_1") else (0,)
    ):
        rows[:, place : place + 2] = sane
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", arch="wan")
    writer.add_tensor("w", packed, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors, packings, _ = gguf_files.read(tmp_path / "x.gguf", facts_key="kinora")
    mine = packings["w"].numbers(tensors["w"], torch.float32, None)
    theirs = torch.from_numpy(gguf.quants.dequantize(packed, quantised))
    assert mine.shape == (8, 512) and distance(mine, theirs) < 1e-6


@pytest.mark.parametrize("scale", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_scaled_8_bit_floats_as_comfyui_repacks_them(scale: str, prefix: str, tmp_path: Path) -> None:
    published = {f"{prefix}{key}": value for key, value in as_published(original().state_dict()).items()}
    network = found(save(tmp_path / "wan_fp8_scaled.safetensors", scaled_float8(published, scale=scale), **FACTS))
    component = network.component(FLOAT32)
    assert component.precision == "scaled float8 in float32"
    module = component.build()
    assert 1e-3 < distance(output(module), output(original())) < 4e-2
    assert component.size_bytes == size(module) and size(module.blocks) < 0.27 * size(original().blocks)


def test_plain_8_bit_floats_stay_8_bits_wide_too(tmp_path: Path) -> None:
    tensors = {
        name: value.to(torch.float8_e4m3fn) if is_matrix(name, value) else value.half()
        for name, value in original().state_dict().items()
    }
    component = found(save(tmp_path / "wan_fp8.safetensors", tensors, **FACTS)).component(FLOAT32)
    assert component.precision == "float8 in float32"
    module = component.build()
    assert distance(output(module), output(original())) < 5e-2
    assert component.size_bytes == size(module) and size(module.blocks) < 0.27 * size(original().blocks)


def test_every_mix_of_plain_precisions_is_a_plain_network(tmp_path: Path) -> None:
    kinds = (torch.bfloat16, torch.float16, torch.float32)
    state = original().state_dict()
    tensors = {name: value.to(kinds[place % 3]) for place, (name, value) in enumerate(state.items())}
    component = found(save(tmp_path / "mixed.safetensors", tensors, **FACTS)).component(FLOAT32)
    assert component.precision == "float32"
    assert distance(output(component.build()), output(original())) < 1e-2


def files(folder: Path) -> dict[str, Path]:
    published = as_published(original().state_dict())
    return {
        "GGUF": write_gguf(folder / "wan.gguf", published, **FACTS),
        "float8": save(folder / "fp8.safetensors", scaled_float8(published), **FACTS),
    }


@pytest.mark.parametrize("kind", ["GGUF", "float8"])
@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=lambda one: one.name)
def test_packed_networks_take_turns_with_the_same_numbers(kind: str, precision: Precision, tmp_path: Path) -> None:
    component = found(files(tmp_path)[kind]).component(precision)
    module = component.build()
    expected = output(module, precision.compute)
    assert component.streamed is not None and component.streamed.size_bytes < component.size_bytes
    assert torch.equal(output(component.streamed.build(), precision.compute), expected)
    offload.group(module, component.blocks, device=torch.device("cpu"))
    assert torch.equal(output(module, precision.compute), expected)
    offload.ungroup(module)
    assert torch.equal(output(module, precision.compute), expected)


@pytest.mark.parametrize("kind", ["GGUF", "float8"])
def test_an_adapter_adds_to_packed_weights(kind: str, tmp_path: Path) -> None:
    network, file = found(files(tmp_path)[kind]), plain(tmp_path / "style.safetensors", original())
    component = network.with_adapters([Adapter(path=file, strength=0.3)]).component(FLOAT32)
    module = component.build()
    before = output(module)
    unpacked = (
        found(tiny_wan.write(tmp_path / "x.safetensors", original(), CONFIG))
        .with_adapters([Adapter(path=file, strength=0.3)])
        .component(FLOAT32)
    )
    whole = unpacked.build()
    with component.adapted(module), unpacked.adapted(whole):
        assert distance(output(module), before) > 0.05 > distance(output(module), output(whole))
    assert torch.equal(output(module), before)


def llama(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "shared.": "token_embd.", "encoder.final_layer_norm.": "enc.output_norm.", "encoder.block.": "enc.blk.",
        ".layer.0.layer_norm.": ".attn_norm.", ".layer.1.layer_norm.": ".ffn_norm.",
        ".layer.0.SelfAttention.relative_attention_bias.": ".attn_rel_b.", ".layer.0.SelfAttention.": ".attn_",
        ".layer.1.DenseReluDense.wi_0.": ".ffn_gate.", ".layer.1.DenseReluDense.wi_1.": ".ffn_up.",
        ".layer.1.DenseReluDense.wo.": ".ffn_down.",
    }  # fmt: skip
    found = {}
    for key, value in state.items():
        name = key
        for library, theirs in names.items():
            name = name.replace(library, theirs)
        if not key.startswith("encoder.embed_tokens"):
            found[name] = value
    return found


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16], ids=lambda one: one.name)
def test_umt5_in_gguf_by_llama_cpp_s_names(precision: Precision, tmp_path: Path) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    config = tiny_wan.TEXT_ENCODER | {"d_model": 64, "d_kv": 32, "d_ff": 96}
    encoder = tiny_wan.seeded(lambda: UMT5EncoderModel(UMT5Config(**config)))
    path = write_gguf(tmp_path / "umt5.gguf", llama(encoder.state_dict()), architecture="t5encoder")
    network = find_network("text_encoder", (path,), TEXT_ENCODER)
    assert network.layout == "llama.cpp"
    component = network.component(precision)
    ids, lengths = torch.tensor([[3, 4, 6, 1]]), torch.tensor([4])
    module = component.build()
    assert sum(1 for _ in packed_layers(module)) == 2 * 7
    made = encode_tokens(module, ids, lengths).float()
    assert distance(made, encode_tokens(encoder, ids, lengths)) < (2e-2 if precision is FLOAT32 else 4e-2)


# What cannot be used


def refusal(path: Path, architecture: Any = TRANSFORMER) -> str:
    with pytest.raises(IncompatibleCheckpoint) as refused:
        check_file(path)
        find_network("transformer", (path,), architecture)
    sentence = str(refused.value)
    assert path.name in sentence and str(path.parent) not in sentence and "\n" not in sentence and refused.value.hint
    return sentence


def test_a_gguf_of_another_family_is_named(tmp_path: Path) -> None:
    llm = {"token_embd.weight": torch.ones(4, 32), "blk.0.attn_q.weight": torch.ones(32, 32)}
    path = write_gguf(tmp_path / "qwen.gguf", llm, architecture="qwen2")
    assert refusal(path) == (
        "qwen.gguf is not a Wan video transformer: it looks like a language model. "
        "Choose the file that belongs to this model."
    )
    path = write_gguf(tmp_path / "wan.gguf", as_published(original().state_dict()))
    assert "is not a UMT5 text encoder: it looks like a Wan video transformer" in refusal(path, TEXT_ENCODER)


@pytest.mark.parametrize("left", [4, 20, 200, 3_000, -1_000, -1])
def test_a_gguf_cut_short_is_said_before_anything_is_loaded(left: int, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "wan.gguf", as_published(original().state_dict()), **FACTS)
    path.write_bytes(path.read_bytes()[:left])
    sentence = refusal(path)
    assert "is cut short" in sentence or "cannot be read: it is truncated, damaged" in sentence


def test_a_header_that_counts_more_than_any_network_has(tmp_path: Path) -> None:
    path = tmp_path / "wan.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2 + bytes(100))
    assert "cannot be read" in refusal(path)


def test_blocks_that_nobody_computes_with_are_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", arch="wan")
    writer.add_tensor("w", np.zeros((1, 66), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ2_XXS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "holds weights in IQ2_XXS (w), which cannot be used. Use the file in Q8_0" in refusal(tmp_path / "x.gguf")


def test_without_the_package_it_is_one_sentence_with_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "wan.gguf", as_published(original().state_dict()), **FACTS)
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert refusal(path) == (
        "wan.gguf is a GGUF file, which needs the package gguf. Install it: pip install -r requirements-quantised.txt"
    )
    assert (Path(__file__).parents[2] / "requirements-quantised.txt").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_scale": torch.ones(4, 2)}, "holds 8-bit weights scaled in blocks"),
        ({"weight_scale": torch.ones(3)}, "holds 8-bit weights scaled in blocks"),
        ({"comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)}, "holds weights in nvfp4"),
        ({"comfy_quant": torch.tensor([1, 2], dtype=torch.uint8)}, "holds weights in an unknown format"),
    ],
)
def test_scales_of_another_kind_are_refused(change: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    tensors = scaled_float8(as_published(original().state_dict()), scale="weight_scale")
    (part, value), layer = *change.items(), "blocks.0.ffn.0"
    assert words in refusal(save(tmp_path / "fp8.safetensors", tensors | {f"{layer}.{part}": value}, **FACTS))
