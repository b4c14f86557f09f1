"""Networks are found, described once, checked to fit, and computed in one precision that is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, UMT5Config, UMT5EncoderModel

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading import networks, reading
from engines.loading.networks import find_network
from engines.loading.store import Store
from engines.memory import offload
from engines.memory.devices import abilities
from engines.memory.planning import Abilities
from engines.memory.precision import BFLOAT16, FLOAT32
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
from engines.wan.text import encode_tokens
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.fake_device import FakeDevice
from tests.engines.test_checkpoints import published, size, write
from tests.engines.tiny_wan import CountingContext
from tests.manifests.run import ARCHITECTURES

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("able", "half"), [(True, "bfloat16"), (False, "float16")])
def test_an_accelerator_computes_in_the_half_precision_it_has(
    able: bool, half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert abilities(CUDA) == Abilities("cuda", half)
    assert abilities(CPU).kind == "cpu" and abilities(CPU).half in ("", "bfloat16")


def test_weights_are_counted_as_they_are_held(tmp_path: Path) -> None:
    """What the planner reckons with is what the built network takes, in every precision."""
    network = find_network("transformer", (write(tmp_path / "model.pth", published()),), TRANSFORMER)
    for kind in (FLOAT32, BFLOAT16):
        way = network.counted_in(kind).way(kind.name, kind.storage.itemsize)
        assert way.size_bytes == network.size_bytes(kind) == size(network.component(kind).build())
        assert way.turn_bytes == network.streamed_bytes(kind)


def test_a_network_is_planned_for_the_room_there_is(tmp_path: Path) -> None:
    context = CountingContext(tiny_wan.write_model(tmp_path))
    network = WanModel.find(context).transformer
    manners = {"at once": lambda itemsize: 3000 * itemsize, "one by one": lambda itemsize: 1000 * itemsize}
    whole = network.counted_in(FLOAT32).way("float32", 4).size_bytes

    def planned(budget: int) -> tuple[str, str, bool]:
        context.budget_bytes = budget
        found = network.plan(context, manners)
        return found.plan.mode, found.manner, found.component.in_turns

    assert planned(whole + 12_000) == ("resident", "at once", False)
    assert planned(whole + 11_999) == ("resident", "one by one", False)
    context.lower = {"transformer": network.plan(context, manners).component.rung + 1}
    found = network.plan(context, manners)
    assert found.component.rung >= context.lower["transformer"]
    context.lower = {}
    context.budget_bytes = 10
    assert not network.plan(context, manners).plan.possible


@pytest.mark.parametrize(("wanted", "form"), [("auto", "float32"), ("float32", "float32"), ("half", "bfloat16")])
def test_a_precision_that_is_wanted_is_the_one_it_computes_in(tmp_path: Path, wanted: str, form: str) -> None:
    context = CountingContext(tiny_wan.write_model(tmp_path))
    context.wanted = wanted
    model = WanModel.find(context)
    assert model.transformer.planned(context).component.precision == form
    assert model.transformer.precision(context).name == form
    assert model.transformer.precision(context).instead_of == ""


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
    decoding = model.decoder(context, width=32, height=16)
    with context.use(decoding.component, working_bytes=decoding.working_bytes):
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


# Blocks


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.class_name)
def test_declared_blocks_are_most_of_a_network(architecture: Any, manifests: dict[Any, Any]) -> None:
    network = manifests[architecture]
    if not architecture.blocks:
        assert "autoencoder" in architecture.title
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
