"""Blocks take turns from the mapped file where RAM is short: the same numbers, within the budget."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from engines.errors import OutOfMemory
from engines.loading import networks, reading, streaming
from engines.loading.networks import Network, find_network
from engines.loading.streaming import block_of
from engines.memory import precision
from engines.memory.activations import wan_transformer
from engines.memory.planning import Abilities, Room, Way, forms, plan
from engines.memory.precision import BFLOAT16, FLOAT32, PRECISIONS
from engines.memory.residency import ComponentCache
from engines.pyramid_flow import keys
from engines.pyramid_flow.packing import Text
from engines.sampling.caches import CACHES
from engines.sampling.denoise import SamplingStep
from engines.sampling.guidance import NetworkCall
from engines.wan import transformer
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import encode_tokens
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_pyramid, tiny_wan
from tests.engines.fake_device import FakeDevice
from tests.engines.test_checkpoints import size
from tests.engines.tiny_wan import seeded

IDS = torch.tensor([[3, 4, 6, 1]])
PHANTOM_14B = Path(__file__).parents[1] / "manifests" / "files" / "phantom-wan-14B.json"


def wan(folder: Path) -> tuple[Network, Any]:
    config = tiny_wan.TRANSFORMER | {"num_layers": 6}
    path = tiny_wan.write(folder / "a.safetensors", seeded(lambda: WanTransformer3DModel(**config)), config)
    values = {"hidden_states": torch.ones(1, 4, 2, 4, 4), "timestep": torch.tensor([7]),
              "encoder_hidden_states": torch.ones(1, 3, 16)}  # fmt: skip

    def run(module: Any) -> torch.Tensor:
        dtype = module.patch_embedding.weight.dtype
        cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in values.items()}
        return module(**cast, return_dict=False)[0]

    return find_network("transformer", (path,), TRANSFORMER), run


def umt5(folder: Path) -> tuple[Network, Any]:
    path = tiny_wan.write(folder / "b.safetensors", tiny_wan.text_encoder(), tiny_wan.TEXT_ENCODER)
    run = lambda module: encode_tokens(module, IDS, torch.tensor([4]))  # noqa: E731
    return find_network("text_encoder", (path,), TEXT_ENCODER), run


def miniflux(folder: Path) -> tuple[Network, Any]:
    path = tiny_wan.write(folder / "c.safetensors", tiny_pyramid.transformer("miniflux"), tiny_pyramid.MINIFLUX)
    text = Text(torch.ones(1, 5, 16), torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 16))

    def run(module: Any) -> torch.Tensor:
        dtype = next(module.parameters()).dtype
        return module(
            [torch.ones(1, 4, 1, 4, 4, dtype=dtype)], text.on(torch.device("cpu"), dtype), torch.tensor([5.5])
        )

    return find_network("transformer", (path,), keys.MINIFLUX), run


def held(budget: int) -> ComponentCache:
    return ComponentCache(FakeDevice(2**40, is_ram=True), device_budget_bytes=budget, ram_budget_bytes=0)


@pytest.mark.parametrize("kind", [FLOAT32, BFLOAT16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("of", [wan, umt5, miniflux])
@torch.no_grad()
def test_blocks_from_the_file_give_the_same(of: Any, kind: precision.Precision, tmp_path: Path) -> None:
    network, run = of(tmp_path)
    component = network.component(kind)
    assert component.streamed is not None and component.streamed.size_bytes < 1.5 * component.size_bytes
    expected = run(component.build())
    module = component.streamed.build()
    before = [parameter.data_ptr() for parameter in module.parameters()]
    for _ in range(2):
        assert torch.equal(run(module), expected)
    assert [parameter.data_ptr() for parameter in module.parameters()] == before, "nothing of a block is kept"
    assert {p.dtype for n, p in module.named_parameters() if block_of(n, network.architecture.blocks)} == {
        torch.bfloat16
    }


@torch.no_grad()
def test_a_block_that_a_step_cache_leaves_out_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = wan(tmp_path)
    module, read, begin = network.component(FLOAT32).streamed.build(), Counter(), streaming._Turn.begin

    def counted(turn: Any) -> None:
        read[step.index] += 1
        begin(turn)

    monkeypatch.setattr(streaming._Turn, "begin", counted)
    text, config = torch.randn(1, 8, network.config["text_dim"]), network.config
    for name in ("none", "half"):
        read.clear()
        with CACHES[name].on(module):
            for index in range(9):
                step = SamplingStep(index, 9, 1 - index / 9)
                latents = torch.randn(1, config["in_channels"], 2, 4, 4)
                transformer.predict(module, latents, torch.tensor([500.0]), text, call=NetworkCall(("cond",), step))
        left_out = {index for index in range(9) if not read[index]}
        assert left_out == (set() if name == "none" else {5, 7}), name


@torch.no_grad()
def test_a_block_that_fails_lets_go_of_its_weights(tmp_path: Path) -> None:
    network, run = wan(tmp_path)
    module = network.component(FLOAT32).streamed.build()
    handle = module.blocks[1].ffn.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(module)
    handle.remove()
    assert module.blocks[1].ffn.net[2].weight.dtype == torch.bfloat16
    assert torch.equal(run(module), run(network.component(FLOAT32).build()))


def test_a_network_larger_than_ram_runs_block_by_block_and_whole_once_it_fits(tmp_path: Path) -> None:
    network, _ = wan(tmp_path)
    component = network.component(FLOAT32)
    whole, at_a_time = component.size_bytes, component.streamed.size_bytes
    cache = held(whole + 100)
    assert at_a_time < whole
    cache.device_budget_bytes = whole - 1
    with cache.use(component, working_bytes=0):
        assert cache.state() == [(component.key, "grouped", at_a_time)]
        assert cache.device_bytes == at_a_time
    with pytest.raises(OutOfMemory), cache.use(component, working_bytes=whole):
        pass
    cache.device_budget_bytes = 10 * whole
    with cache.use(component, working_bytes=100) as module:
        assert cache.state() == [(component.key, "device", size(module))]
    cache.device_budget_bytes = whole + 99
    with cache.use(component, working_bytes=100):
        assert cache.state() == [(component.key, "grouped", at_a_time)]
    cache.free()
    assert cache.state() == [] and cache.device_bytes == 0


def test_an_idle_streamed_network_makes_room(tmp_path: Path) -> None:
    network, _ = wan(tmp_path)
    component = network.component(FLOAT32)
    other = umt5(tmp_path)[0].component(FLOAT32)
    cache = held(component.streamed.size_bytes + other.size_bytes // 2)
    with cache.use(component):
        pass
    with cache.use(other):
        assert {key for key, _, _ in cache.state()} == {other.key}


def test_a_file_that_cannot_be_mapped_is_not_streamed(tmp_path: Path) -> None:
    torch.save(tiny_wan.text_encoder().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = find_network("text_encoder", (tmp_path / "old.pth",), TEXT_ENCODER)
    assert network.component(FLOAT32).streamed is None


def test_the_14b_runs_in_the_memory_of_a_small_machine() -> None:
    """By calculation at full size, for a clip of the default length, where the processor only emulates bfloat16."""
    shapes = json.loads(PHANTOM_14B.read_text(encoding="utf-8"))["keys"]
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    blueprint, empty = networks.outline(reading.Checkpoint("14B", tensors), TRANSFORMER)
    tokens = transformer.token_count(blueprint.config, 22, 60, 104)
    counted = networks.counted(empty, TRANSFORMER)
    names, patient = forms(Abilities("cpu"), TRANSFORMER.precisions, float32_bytes=counted.whole.size_bytes(4))

    def way(name: str) -> Way:
        itemsize = PRECISIONS[name].storage.itemsize
        return counted.way(name, itemsize, wan_transformer(blueprint.config, tokens=tokens, itemsize=itemsize))

    ways = {name: way(name) for name in names}
    assert ways["bfloat16"].turn_bytes == pytest.approx(1.9e9, rel=0.15)
    assert ways["float32"].turn_bytes == pytest.approx(3.8e9, rel=0.15)

    def chosen(budget: float) -> tuple[str, str]:
        made = plan([*ways.values()], Room(int(budget)), turns_first=patient)
        return made.mode, made.way.form

    assert chosen(100e9) == ("resident", "float32")
    assert chosen(21.3e9) == ("turns", "float32")
    assert chosen(8e9) == ("turns", "bfloat16")
