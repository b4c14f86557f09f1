"""Networks are found, described once, checked to fit, and computed in one precision that is told."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, UMT5Config, UMT5EncoderModel

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading import networks, reading
from engines.loading.networks import find_network
from engines.loading.store import Store
from engines.memory import offload, precision
from engines.memory.precision import BFLOAT16, FLOAT16, FLOAT32, SMALL_BYTES, choose
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.qwen.keys import QWEN
from engines.registry import SPECS
from engines.runtime.attention import KERNELS, Attention
from engines.runtime.context import WorkerContext
from engines.training.recipes.flashi2v_full import UMT5_XXL
from engines.types import Component
from engines.wan.components import WanModel
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import encode_tokens, working_bytes
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.fake_device import FakeDevice
from tests.engines.test_checkpoints import published, size, write
from tests.engines.tiny_wan import CountingContext
from tests.manifests.run import ARCHITECTURES

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ALL = ("bfloat16", "float16", "float32")


def chosen(*names: str, device: torch.device = CPU, weights: int = 10, working: int = 0, budget: int = 100) -> str:
    """The precision of a network of `weights` and `working` bytes in float32."""
    made = choose(
        device,
        names or ALL,
        weights=lambda precision: weights * precision.storage.itemsize // 4,
        working=lambda precision: working * precision.compute.itemsize // 4,
        budget_bytes=budget,
    )
    return made.name


def test_a_cpu_computes_in_float32_wherever_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "half_precision", lambda device: None)
    assert chosen(weights=5 * SMALL_BYTES, budget=5 * SMALL_BYTES) == "float32"
    assert chosen(weights=5 * SMALL_BYTES, working=1, budget=5 * SMALL_BYTES) == "bfloat16"
    assert chosen("float32", weights=101) == "float32"


def test_a_cpu_that_multiplies_bfloat16_does_so_for_large_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "half_precision", lambda device: torch.bfloat16)
    assert chosen(weights=SMALL_BYTES, budget=2**50) == "float32"
    assert chosen(weights=SMALL_BYTES + 4, budget=2**50) == "bfloat16"
    assert chosen(weights=60, working=60) == "bfloat16"


@pytest.mark.parametrize(("able", "half"), [(True, BFLOAT16), (False, FLOAT16)])
def test_an_accelerator_computes_in_the_half_precision_it_has(
    able: bool, half: precision.Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert chosen(device=CUDA) == half.name
    found = choose(CUDA, ("float32",), weights=lambda _: 1, working=lambda _: 0, budget_bytes=1)
    assert found == FLOAT32 and found.instead_of == half.name


def test_a_file_is_opened_and_matched_once_and_followed_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    for name in ("_read_pickle", "_read_safetensors"):
        real = getattr(reading, name)

        def counted(path: Path, real: Any = real, **told: Any) -> Any:
            opened.append(path)
            return real(path, **told)

        monkeypatch.setattr(reading, name, counted)
    built: list[Any] = []
    real_outline = networks.outline
    monkeypatch.setattr(networks, "outline", lambda *all: built.append(all) or real_outline(*all))
    path = write(tmp_path / "model.pth", published())
    network = find_network("transformer", (path,), TRANSFORMER)
    again = find_network("visual", (path,), TRANSFORMER)
    assert network.checkpoint is again.checkpoint and (network.role, again.role) == ("transformer", "visual")
    component = network.component(BFLOAT16)
    assert str(tmp_path) not in component.key and component.key != network.component(FLOAT32).key
    assert (component.role, component.precision, component.blocks) == ("transformer", "bfloat16", ("blocks",))
    for _ in range(2):
        module = component.build()
        assert component.size_bytes == size(module) and not any(p.is_meta for p in module.parameters())
    assert len(opened) == len(built) == 1
    write(path, {key: value.bfloat16() for key, value in published().items()})
    assert find_network("transformer", (path,), TRANSFORMER).identity != network.identity
    write(path, published() | {"more": torch.zeros(1)})
    with pytest.raises(IncompatibleCheckpoint, match="1 unexpected"):
        find_network("transformer", (path,), TRANSFORMER)


def test_a_file_that_cannot_be_mapped_is_not_kept_in_memory(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = find_network("transformer", (tmp_path / "old.pth",), TRANSFORMER)
    assert not network.checkpoint.tensors
    assert network.component(FLOAT32).size_bytes == size(network.component(FLOAT32).build())


def test_what_ran_is_told_per_network(tmp_path: Path) -> None:
    context = CountingContext(tiny_wan.write_model(tmp_path))
    model = WanModel.find(context)
    model.text(context, "a red star")
    component, room = model.decoder(context, width=32, height=16)
    with context.use(component, working_bytes=room):
        pass
    assert context.precisions == {"text_encoder": "float32", "vae": "float32"}
    assert model.vae.precision(context).name == "float32"


def test_what_ran_is_told_of_remembered_results_too() -> None:
    """A prompt read in an earlier job: its encoder is not used again, but made what is used."""
    cache = ComponentCache(FakeDevice(1000), device_budget_bytes=1000, ram_budget_bytes=1000)
    remembered = Remembered(limit_bytes=100)

    def context() -> WorkerContext:
        model = SPECS["phantom-wan"].model("starter")
        return WorkerContext(
            "phantom-wan",
            model,
            cache=cache,
            store=Store(),
            remembered=remembered,
            attention=Attention(KERNELS["torch"]),
        )

    def component(role: str) -> Component:
        return Component(role, lambda: torch.nn.Linear(1, 1), 8, role=role, precision="bfloat16", notes=(f"of {role}",))

    def read(here: WorkerContext) -> torch.Tensor:
        with here.use(component("text_encoder")) as encoder:
            return encoder.weight.detach()

    for _ in range(2):
        here = context()
        here.remember("text", lambda here=here: read(here))
        with here.use(component("vae")):
            pass
        assert here.precisions == {"text_encoder": "bfloat16", "vae": "bfloat16"}
        assert here.notes == ["of text_encoder", "of vae"]
    assert "text_encoder" not in context().precisions


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: Counter[int] = Counter()
        self.bytes = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.bytes += storage.nbytes() * (self.held[storage.data_ptr()] == 0)
                self.held[storage.data_ptr()] += 1
                weakref.finalize(tensor, self._gone, storage.data_ptr(), storage.nbytes())
        self.most = max(self.most, self.bytes)
        return made

    def _gone(self, place: int, size: int) -> None:
        self.held[place] -= 1
        self.bytes -= size * (self.held[place] == 0)


def test_text_encoders_reserve_what_they_need() -> None:
    config = {"d_model": 256, "num_heads": 8, "d_kv": 32, "d_ff": 1024, "vocab_size": 64, "num_layers": 2}
    encoder = UMT5EncoderModel(UMT5Config(**config, feed_forward_proj="gated-gelu")).eval().requires_grad_(False)
    tokens = 512
    with Live() as live:
        encode_tokens(encoder, torch.ones(1, tokens, dtype=torch.long), torch.tensor([tokens]))
    reserved = working_bytes(config, tokens=tokens, dtype=torch.float32)
    assert 0.5 * reserved < live.most <= reserved


# Blocks


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.class_name)
def test_declared_blocks_are_most_of_a_network(architecture: Any, manifests: dict[Any, Any]) -> None:
    network = manifests.get(architecture)
    if network is None or not architecture.blocks:
        assert "autoencoder" in architecture.title or network is None
        return
    inside = [block for path in architecture.blocks for block in network.get_submodule(path)]
    assert sum(map(size, inside)) > 0.5 * size(network)
    owners = {path.rpartition(".")[0] for path in architecture.blocks}
    assert not any(a != b and (f"{a}.".startswith(f"{b}.") or not b) for a in owners for b in owners)


@pytest.fixture(scope="module")
def manifests() -> dict[Any, Any]:
    """One published network of every architecture, at full size on the meta device."""
    found: dict[Any, Any] = {}
    for path in sorted((Path(__file__).parents[1] / "manifests" / "files").glob("*.json")):
        keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
        tensors = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
        architecture = next((a for a in ARCHITECTURES if a not in found and a.places(tensors)), None)
        if architecture is not None:
            found[architecture] = networks.outline(reading.Checkpoint(path.name, tensors), architecture)[1]
    return found


def test_the_large_text_encoder_takes_turns_by_blocks() -> None:
    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(**UMT5_XXL)).to(torch.bfloat16)
    assert offload.grouped_bytes(encoder, TEXT_ENCODER.blocks) == pytest.approx(2.87e9, rel=0.01)
    assert offload.grouped_bytes(encoder) == pytest.approx(4.2e9, rel=0.01)


def test_nested_blocks_take_turns_and_give_the_same() -> None:
    encoder, ids = tiny_wan.text_encoder(), torch.tensor([[3, 4, 6, 1]])
    expected = encode_tokens(encoder, ids, torch.tensor([4]))
    offload.group(encoder, TEXT_ENCODER.blocks, device=CPU)
    grouped = {name for name, module in encoder.named_modules() if hasattr(module, "_diffusers_hook")}
    assert {"encoder.block.0", "encoder.block.1"} <= grouped
    assert torch.equal(encode_tokens(encoder, ids, torch.tensor([4])), expected)
    offload.ungroup(encoder)
    assert torch.equal(encode_tokens(encoder, ids, torch.tensor([4])), expected)


# A configuration beside the weights

QWEN_TINY = {
    "text_config": {
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4,
        "fullatt_block_indexes": [1],
    },
    "image_token_id": 37, "video_token_id": 38, "vision_start_token_id": 35, "vision_end_token_id": 36,
}  # fmt: skip
FROM_FILE = replace(QWEN, configure=None, config_file="config.json")


@pytest.fixture
def multimodal(tmp_path: Path) -> tuple[Path, Qwen2_5_VLForConditionalGeneration]:
    """A tiny Qwen2.5-VL with its configuration beside it; head counts are not those that shapes are read for."""
    network = tiny_wan.seeded(lambda: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN_TINY)))
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text(json.dumps(QWEN_TINY))
    return tmp_path / "model.safetensors", network


def test_a_configuration_may_lie_beside_the_weights(
    multimodal: tuple[Path, Qwen2_5_VLForConditionalGeneration],
) -> None:
    path, network = multimodal
    ids = torch.tensor([[1, 2, 3, 4]])
    for paths in ((path,), (path.with_name("config.json"), path)):
        found = find_network("mllm", paths, FROM_FILE)
        assert found.name == "model.safetensors" and found.config == QWEN_TINY
        loaded = found.component(FLOAT32).build()
        assert torch.equal(loaded(input_ids=ids).logits, network(input_ids=ids).logits)
    offload.group(loaded, found.architecture.blocks, device=CPU)
    assert torch.equal(loaded(input_ids=ids).logits, network(input_ids=ids).logits)


def test_a_configuration_that_is_missing_or_odd_is_said(
    multimodal: tuple[Path, Qwen2_5_VLForConditionalGeneration],
) -> None:
    path, _ = multimodal
    config = path.with_name("config.json")
    for content, sentence in (
        ("{", "config.json cannot be read"),
        ("[" * 100_000, "config.json cannot be read"),
        ("[1]", 'its "config"'),
        (json.dumps({"vision_config": {"depth": 10**9}}), 'its "config"'),
        (json.dumps({"text_config": {"hidden_size": "wide"}}), "cannot be built"),
    ):
        config.write_text(content)
        with pytest.raises(IncompatibleCheckpoint, match=sentence):
            find_network("mllm", (path,), FROM_FILE)
    config.unlink()
    with pytest.raises(MissingWeights, match=r"config\.json is not beside the weights"):
        find_network("mllm", (path,), FROM_FILE)
