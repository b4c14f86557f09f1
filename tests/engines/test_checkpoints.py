"""Checkpoint files become networks, or one sentence that says why not."""

import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading import memory_map
from engines.loading.checkpoints import Checkpoint, load, match, open_checkpoint
from engines.loading.families import family
from engines.loading.key_rules import Architecture
from engines.memory.precision import BFLOAT16
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE
from tests.engines import tiny_wan
from tests.golden.case import Case

CASES = Path(__file__).parents[1] / "golden" / "cases" / "phantom_wan"


def published(case: str = "transformer_t2v") -> dict[str, torch.Tensor]:
    """A tiny checkpoint in published key names."""
    return Case.read(CASES / case).tensors()


def load_file_of(*paths: Path, architecture: Architecture = TRANSFORMER, dtype: torch.dtype = torch.float32) -> Any:
    return load(open_checkpoint(paths), architecture, dtype=dtype)


def refusal(*paths: Path, architecture: Architecture = TRANSFORMER) -> str:
    with pytest.raises(IncompatibleCheckpoint) as caught:
        load_file_of(*paths, architecture=architecture)
    sentence = str(caught.value)
    assert not any(str(path.parent) in sentence for path in paths), "a message shows no absolute path"
    assert caught.value.hint
    return sentence


def write(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata or None)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_published_names_become_the_library_s(tmp_path: Path, suffix: str) -> None:
    tensors = published()
    network = load_file_of(write(tmp_path / f"model{suffix}", tensors))
    assert isinstance(network, WanTransformer3DModel) and not network.training
    state = network.state_dict()
    assert len(state) == len(tensors)
    assert torch.equal(state["blocks.1.attn2.to_out.0.weight"], tensors["blocks.1.cross_attn.o.weight"])
    assert torch.equal(state["blocks.2.norm2.bias"], tensors["blocks.2.norm3.bias"])
    assert torch.equal(state["scale_shift_table"], tensors["head.modulation"])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    everything = [*network.parameters(), *network.buffers()]
    assert all(tensor.device.type == "cpu" for tensor in everything)
    fresh = WanTransformer3DModel(**match(Checkpoint("", tensors), TRANSFORMER).config)
    assert torch.equal(network.rope.freqs_cos, fresh.rope.freqs_cos)
    assert torch.equal(network.rope.freqs_sin, fresh.rope.freqs_sin)


def test_repackaged_prefixes_and_wrappers_are_taken_off(tmp_path: Path) -> None:
    tensors = published()
    plain = load_file_of(write(tmp_path / "plain.pth", tensors)).state_dict()
    prefixed = {f"model.diffusion_model.{key}": value for key, value in tensors.items()}
    torch.save({"epoch": 3, "state_dict": prefixed}, tmp_path / "wrapped.pth")
    wrapped = load_file_of(tmp_path / "wrapped.pth").state_dict()
    assert plain.keys() == wrapped.keys()
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


def test_an_image_to_video_checkpoint_is_recognised_by_its_shapes() -> None:
    config = match(Checkpoint("", published("transformer_i2v")), TRANSFORMER).config
    assert (config["in_channels"], config["out_channels"], config["image_dim"], config["num_layers"]) == (
        36,
        16,
        1280,
        2,
    )


def test_fused_attention_is_split_and_unused_halves_are_ignored() -> None:
    tensors = published("image_encoder") | {
        "textual.token_embedding.weight": torch.zeros(3, 2),
        "log_scale": torch.zeros(()),
    }
    encoder = load(Checkpoint("", tensors), IMAGE_ENCODER, dtype=torch.float32, num_attention_heads=4)
    fused = tensors["visual.transformer.0.attn.to_qkv.weight"]
    attention = encoder.encoder.layers[0].self_attn
    split = [projection.weight for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    assert torch.equal(torch.cat(split), fused)
    assert encoder.embeddings.position_ids.tolist() == [list(range(17))]


@pytest.mark.parametrize("left_out", ["shared.weight", "encoder.embed_tokens.weight", None])
def test_a_tied_table_may_stand_under_either_name(left_out: str | None) -> None:
    state = tiny_wan.text_encoder().state_dict()
    encoder = load(Checkpoint("", {k: v for k, v in state.items() if k != left_out}), TEXT_ENCODER, dtype=torch.float32)
    assert encoder.shared.weight is encoder.encoder.embed_tokens.weight
    assert torch.equal(encoder.shared.weight, state["shared.weight"])


def test_some_parts_stay_float32() -> None:
    assert set(TRANSFORMER.keep_float32) == set(WanTransformer3DModel._keep_in_fp32_modules)
    checkpoint = Checkpoint("", published())
    network = load(checkpoint, TRANSFORMER, dtype=torch.bfloat16)
    kept = {name for name, value in network.named_parameters() if value.dtype == torch.float32}
    assert "blocks.0.norm2.weight" in kept and "scale_shift_table" in kept
    assert "condition_embedder.time_embedder.linear_1.weight" in kept
    assert "blocks.0.attn1.to_q.weight" not in kept
    assert network.rope.freqs_cos.dtype == torch.float32
    assert BFLOAT16.bytes_of(network, TRANSFORMER.stays_float32) == size(network)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_conversion_gives_the_stored_numbers(tmp_path: Path, suffix: str) -> None:
    tensors = {key: value.bfloat16() for key, value in published().items()}
    network = load_file_of(write(tmp_path / f"model{suffix}", tensors))
    name, key = "blocks.0.ffn.net.0.proj.weight", "blocks.0.ffn.0.weight"
    assert network.state_dict()[name].dtype == torch.float32
    assert torch.equal(network.state_dict()[name], tensors[key].float())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_the_right_precision_stay_in_the_mapped_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"model{suffix}", published())
    network = load_file_of(path)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [tuple(int(end, 16) for end in entry[0].split("-")) for entry in maps]
    for parameter in network.parameters():
        assert any(begin <= parameter.data_ptr() < end for begin, end in ranges)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    tensors = published()
    keys = list(tensors)
    first = write(tmp_path / "a-1-of-2.safetensors", {key: tensors[key] for key in keys[::2]})
    second = write(tmp_path / "a-2-of-2.safetensors", {key: tensors[key] for key in keys[1::2]})
    assert len(load_file_of(first, second).state_dict()) == len(tensors)
    assert "missing" in refusal(first)
    assert "repeats tensors" in refusal(first, first)
    with pytest.raises(MissingWeights, match=r"^a-3-of-2\.safetensors is not on this machine"):
        open_checkpoint([first, tmp_path / "a-3-of-2.safetensors"])


def test_one_error_accounts_for_every_key(tmp_path: Path) -> None:
    tensors = published()
    del tensors["blocks.1.ffn.0.bias"], tensors["blocks.1.ffn.2.bias"]
    tensors |= {"blocks.0.extra.weight": torch.zeros(2), "head.head.bias": torch.zeros(5)}
    sentence = refusal(write(tmp_path / "model.safetensors", tensors))
    assert sentence.startswith("model.safetensors does not fit a Wan video transformer: of ")
    assert "2 missing (blocks.1.ffn.net.0.proj.bias, blocks.1.ffn.net.2.bias)" in sentence
    assert "1 unexpected (blocks.0.extra.weight)" in sentence
    assert "1 of the wrong shape (head.head.bias [5] instead of [64])" in sentence


def test_long_lists_are_cut(tmp_path: Path) -> None:
    tensors = published() | {f"blocks.0.extra.{index}": torch.zeros(1) for index in range(9)}
    assert (
        "9 unexpected (blocks.0.extra.0, blocks.0.extra.1, blocks.0.extra.2, blocks.0.extra.3 and 5 more)"
        in refusal(write(tmp_path / "model.safetensors", tensors))
    )


@pytest.mark.parametrize(
    ("case", "architecture", "sentence"),
    [
        ("vae_decode_video", TRANSFORMER, "a Wan video transformer: it looks like a Wan video autoencoder."),
        ("text_encoder", VAE, "a Wan video autoencoder: it looks like a UMT5 text encoder."),
        ("transformer_i2v", VAE, "a Wan video autoencoder: it looks like a Wan image-to-video transformer."),
        ("transformer_t2v", TEXT_ENCODER, "a UMT5 text encoder: it looks like a Wan video transformer."),
        ("image_encoder", TRANSFORMER, "a Wan video transformer: it looks like a CLIP image encoder."),
    ],
)
def test_another_family_s_file_is_named(tmp_path: Path, case: str, architecture: Architecture, sentence: str) -> None:
    assert refusal(write(tmp_path / "model.pth", published(case)), architecture=architecture).startswith(
        f"model.pth is not {sentence}"
    )


def test_unknown_and_added_networks_are_named(tmp_path: Path) -> None:
    assert "holds tensors such as layer.weight" in refusal(write(tmp_path / "x.pth", {"layer.weight": torch.zeros(2)}))
    lora = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.zeros(2, 2)}
    assert "looks like a LoRA" in refusal(write(tmp_path / "lora.safetensors", lora))
    assert family(["whatever"]) is None


def test_a_starter_names_its_class_and_configuration(tmp_path: Path) -> None:
    path = tiny_wan.write(tmp_path / "vae.safetensors", tiny_wan.vae(), tiny_wan.VAE, rgb_factors={"bias": [0, 0, 0]})
    checkpoint = open_checkpoint([path])
    assert checkpoint.metadata["rgb_factors"] == {"bias": [0, 0, 0]}
    vae = load(checkpoint, VAE, dtype=torch.float32)
    assert vae.config.latents_mean == tiny_wan.VAE["latents_mean"]
    assert "looks like a Wan video autoencoder" in refusal(path)
    for facts in ({"class": "AutoencoderKLWan", "config": {"base_dim": "wide"}}, {"config": {"surprise": 1}}):
        odd = write(tmp_path / "odd.safetensors", dict(load_file(path)), kinora=json.dumps(facts))
        assert "cannot be built" in refusal(odd, architecture=VAE)


def test_a_file_of_several_networks_names_the_configuration_of_each_class(tmp_path: Path) -> None:
    path = tiny_wan.write(tmp_path / "vae.safetensors", tiny_wan.vae(), tiny_wan.VAE)
    for configs, told in (
        ({"Other": {}, "AutoencoderKLWan": tiny_wan.VAE}, tiny_wan.VAE["latents_mean"]),
        ({"AutoencoderKLWan": {"base_dim": "wide"}}, None),
    ):
        file = write(tmp_path / "both.safetensors", dict(load_file(path)), kinora=json.dumps({"configs": configs}))
        if told is None:
            assert "cannot be built" in refusal(file, architecture=VAE)
        else:
            assert load(open_checkpoint([file]), VAE, dtype=torch.float32).config.latents_mean == told


def test_a_malformed_network_is_told_apart_from_a_damaged_file(tmp_path: Path) -> None:
    tensors = published()
    del tensors["text_embedding.0.weight"]
    assert "is a Wan video transformer with tensors missing" in refusal(write(tmp_path / "model.pth", tensors))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file_is_one_sentence(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"model{suffix}", published())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert refusal(path).startswith(
        (f"model{suffix} cannot be read: it is truncated, damaged or no checkpoint.", f"model{suffix} is empty.")
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is only a pointer"),
        (b"\x00\xff" * 300, "cannot be read"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path: Path, suffix: str, content: bytes, sentence: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(content)
    assert sentence in refusal(tmp_path / f"model{suffix}")


class Evil:
    """Unpickling it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "evil": Evil(tmp_path / "touched")}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Evil(tmp_path / "touched"), protocol=2))
    for name in ("new.pth", "old.pth"):
        assert "holds more than tensors, so it is not opened" in refusal(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_pickles_of_other_shapes(tmp_path: Path) -> None:
    tensors = published()
    torch.save(tensors, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    assert len(load_file_of(tmp_path / "legacy.pth").state_dict()) == len(tensors)
    for content in ({"a": 1}, [1, 2], {"nested": {"deeper": 1}}):
        torch.save(content, tmp_path / "none.pth")
        assert "holds no tensors" in refusal(tmp_path / "none.pth")


def test_other_threads_may_build_networks_meanwhile() -> None:
    checkpoint, strays, done = Checkpoint("", published()), [], threading.Event()

    def build_layers() -> None:
        while not done.is_set():
            strays.extend(1 for _ in range(20) if torch.nn.Linear(2, 2).weight.is_meta)

    thread = threading.Thread(target=build_layers)
    thread.start()
    networks = [load(checkpoint, TRANSFORMER, dtype=torch.bfloat16) for _ in range(5)]
    done.set()
    thread.join(timeout=60)
    assert not strays
    assert not any(tensor.is_meta for network in networks for tensor in network.parameters())


def size(network: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def test_a_large_table_is_converted_piece_by_piece_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UMT5's table stands twice in the published file, in float32: a machine of little memory holds neither."""
    encoder = tiny_wan.text_encoder()
    tensors = {name: tensor.float().clone() for name, tensor in encoder.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert {"shared.weight", "encoder.embed_tokens.weight"} <= tensors.keys()
    given_back: list[tuple[torch.Size, int]] = []
    monkeypatch.setattr(memory_map, "PIECE_BYTES", 256)
    monkeypatch.setattr(memory_map, "release_pages", lambda tensor: given_back.append((tensor.shape, tensor.nbytes)))
    made = load_file_of(tmp_path / "model.safetensors", architecture=TEXT_ENCODER, dtype=torch.bfloat16)
    assert max(size for _, size in given_back) <= 256
    table = tensors["shared.weight"]
    assert sum(size for _, size in given_back) == sum(
        tensor.nbytes for name, tensor in tensors.items() if name != "encoder.embed_tokens.weight"
    )
    assert torch.equal(made.shared.weight, table.bfloat16())
    assert made.encoder.embed_tokens.weight.data_ptr() == made.shared.weight.data_ptr()
