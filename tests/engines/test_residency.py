"""Networks move by need and never take more than a budget: checked with real modules on a device that only counts."""

from __future__ import annotations

import random

import pytest
import torch

from engines.errors import OutOfMemory
from engines.memory import offload
from engines.memory.remembered import Remembered
from engines.memory.residency import ComponentCache
from engines.pyramid_flow.packing import Text
from engines.types import Component
from tests.engines.fake_device import FakeDevice

BLOCK = 4 * 100  # bytes of one Linear(10, 10, bias=False)


class Network(torch.nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(10, 10, bias=False) for _ in range(blocks))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            values = block(values)
        return values


def component(name: str, blocks: int, built: list[str] | None = None) -> Component:
    def build() -> torch.nn.Module:
        if built is not None:
            built.append(name)
        return Network(blocks).requires_grad_(requires_grad=False)

    return Component(key=name, build=build, size_bytes=blocks * BLOCK, blocks=("blocks",))


def cache(budget: int, *, ram: int = 100, is_ram: bool = False) -> ComponentCache:
    """A cache whose budgets are counted in blocks."""
    device = FakeDevice(budget * BLOCK, is_ram=is_ram)
    return ComponentCache(device, device_budget_bytes=budget * BLOCK, ram_budget_bytes=ram * BLOCK)


def places(held: ComponentCache) -> dict[str, str]:
    return {key: where for key, where, _ in held.state()}


def test_a_network_is_built_once_and_stays_warm():
    built: list[str] = []
    held = cache(10)
    for _ in range(3):
        with held.use(component("a", 4, built)) as network:
            assert network(torch.ones(1, 10)).shape == (1, 10)
    assert built == ["a"]
    assert places(held) == {"a": "device"}


def test_the_least_recently_used_goes_to_ram_and_comes_back_without_being_built():
    built: list[str] = []
    held = cache(10)
    for name in ("a", "b", "a", "c"):
        with held.use(component(name, 4, built)):
            pass
    assert places(held) == {"c": "device", "a": "device", "b": "ram"}
    with held.use(component("b", 4, built)):
        assert places(held)["a"] == "ram"
    assert built == ["a", "b", "c"]


def test_without_room_in_ram_the_oldest_are_dropped():
    held = cache(10, ram=16)
    for name in ("a", "b", "c", "d"):
        with held.use(component(name, 8)):
            pass
    assert places(held) == {"d": "device", "c": "ram"}


def test_on_a_device_that_is_ram_networks_are_dropped_not_moved():
    held = cache(10, is_ram=True)
    for name in ("a", "b", "c"):
        with held.use(component(name, 4), working_bytes=BLOCK):
            pass
    assert places(held) == {"c": "device", "b": "device"}
    held.free()
    assert held.state() == [] and held.device.held == {}


def test_a_network_in_use_is_never_moved():
    held = cache(10)
    with held.use(component("a", 6)):
        with held.use(component("b", 8)):
            assert places(held) == {"a": "device", "b": "grouped"}
        held.free()
        assert places(held) == {"a": "device"}
    assert held.device_bytes == 6 * BLOCK


def test_working_memory_is_reserved_and_given_back():
    held = cache(10)
    with held.use(component("a", 4)):
        pass
    with held.use(component("b", 4), working_bytes=4 * BLOCK):
        assert places(held) == {"b": "device", "a": "ram"}
        assert held.device_bytes == 8 * BLOCK
    assert held.device_bytes == 4 * BLOCK


def test_a_network_larger_than_the_device_runs_block_by_block_with_the_same_result():
    torch.manual_seed(0)
    held, large = cache(5), component("large", 12)
    values = torch.randn(3, 10)
    with held.use(large, working_bytes=BLOCK) as network:
        assert places(held) == {"large": "grouped"}
        assert held.device_bytes <= 5 * BLOCK
        grouped = network(values)
    assert held.device_bytes == 0
    held.device_budget_bytes = 20 * BLOCK
    held.device.capacity_bytes = 20 * BLOCK
    with held.use(large) as network:
        assert places(held) == {"large": "device"}
        assert torch.equal(network(values), grouped)


def test_what_fits_nowhere_is_refused_with_what_would_fit():
    held = cache(5, is_ram=True)
    built: list[str] = []
    with pytest.raises(OutOfMemory, match="does not fit"), held.use(component("a", 6, built)):
        pass
    with pytest.raises(OutOfMemory) as refused, held.use(component("a", 3, built), working_bytes=4 * BLOCK):
        pass
    assert "50 %" in refused.value.hint
    assert built == [] and held.state() == []
    with held.use(component("a", 3)):
        pass


def test_a_network_larger_than_ram_is_refused_before_it_is_read():
    held, built = cache(20, ram=5), []
    with pytest.raises(OutOfMemory, match="RAM"), held.use(component("a", 6, built)):
        pass
    assert built == []


def test_an_exception_inside_a_use_releases_the_network():
    held = cache(10)
    with pytest.raises(ZeroDivisionError), held.use(component("a", 4), working_bytes=BLOCK):
        raise ZeroDivisionError
    assert held.device_bytes == 4 * BLOCK
    held.free()
    assert held.state() == []


def test_a_builder_that_fails_leaves_nothing():
    def build() -> torch.nn.Module:
        raise OSError("gone")

    held = cache(10)
    with pytest.raises(OSError), held.use(Component("a", build, 4 * BLOCK)):
        pass
    assert held.state() == [] and held.device_bytes == 0


@pytest.mark.parametrize("is_ram", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_budgets_hold_over_any_sequence_of_switches(seed, is_ram):
    draw = random.Random(seed)
    held = cache(12, ram=15, is_ram=is_ram)

    def within() -> None:
        assert held.device_bytes <= held.device_budget_bytes
        assert sum(held.device.held.values()) <= held.device_bytes
        assert is_ram or held.ram_bytes <= held.ram_budget_bytes

    networks = [component(f"n{index}", draw.randint(1, 8 if is_ram else 16)) for index in range(7)]
    served = 0
    for _ in range(60):
        outer, inner = draw.choice(networks), draw.choice(networks)
        try:
            with held.use(outer, working_bytes=draw.randint(0, 6) * BLOCK):
                within()
                with held.use(inner, working_bytes=draw.randint(0, 4) * BLOCK):
                    within()
                    served += 1
                within()
        except OutOfMemory:
            within()
        if draw.random() < 0.05:
            held.free()
        within()
    assert held.device.peak_bytes <= held.device_budget_bytes
    assert served > 5
    held.free()
    assert held.state() == [] and held.device.held == {} and held.device_bytes == 0


def test_step_caches_of_an_earlier_run_are_forgotten():
    from diffusers.hooks import HookRegistry, ModelHook

    class Cache(ModelHook):
        _is_stateful = True
        resets = 0

        def reset_state(self, module):
            Cache.resets += 1
            return module

    network = Network(2)
    HookRegistry.check_if_exists_or_initialize(network).register_hook(Cache(), "cache")
    held = cache(10)
    with pytest.raises(ZeroDivisionError), held.use(Component("a", lambda: network, 2 * BLOCK)):
        raise ZeroDivisionError
    assert Cache.resets == 2


def test_sizes_count_shared_parameters_once():
    network = Network(3)
    network.tied = network.blocks[0]
    assert offload.size_bytes(network) == 3 * BLOCK
    assert offload.grouped_bytes(network, ("blocks",)) == 2 * BLOCK


def test_remembered_values_are_kept_within_a_limit_by_recent_use():
    remembered, computed = Remembered(limit_bytes=100), []

    def value(name: str, count: int = 10) -> torch.Tensor:
        def compute() -> dict[str, torch.Tensor]:
            computed.append(name)
            return {"states": torch.zeros(count)}

        return remembered.get(name, compute)

    for name in ("a", "b", "a", "c", "a", "b"):
        value(name)
    assert computed == ["a", "b", "c", "b"]
    assert remembered.held_bytes == 80
    value("huge", 1000)
    assert remembered.held_bytes == 80
    text = Text(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 4))
    assert remembered.get("text", lambda: text) is text and remembered.held_bytes == 40 + 24 + 2 + 16
