"""The devices of this machine, whichever it has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engines.errors import DeviceError
from engines.loading.networks import find_network
from engines.memory.devices import (
    DeviceInfo,
    PeakMeter,
    TorchDevice,
    device_error,
    discover,
    is_out_of_memory,
    ram,
)
from engines.memory.precision import FLOAT32
from engines.wan.transformer_keys import TRANSFORMER
from tests.engines import tiny_wan
from tests.engines.fake_device import FakeDevice

ROOT = Path(__file__).parents[2]


def test_the_cpu_is_always_there_and_last():
    found = discover()
    assert found[-1].name == "cpu"
    assert 0 < found[-1].free_bytes <= found[-1].total_bytes


def test_another_process_can_ask_without_torch():
    listed = subprocess.run(
        [sys.executable, "-m", "engines.memory.devices"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    devices = [DeviceInfo(**json.loads(line)) for line in listed.stdout.splitlines()]
    assert [device.name for device in devices] == [device.name for device in discover()]


def test_a_device_that_is_not_there_is_a_sentence():
    for name, usable in (("mps", torch.backends.mps.is_available()), ("cuda:99", False), ("xpu", False)):
        if not usable:
            with pytest.raises(DeviceError):
                TorchDevice(name)


def test_a_device_says_what_it_has_and_what_this_process_holds():
    now = TorchDevice("cpu").now()
    assert 0 < now.free <= now.total == ram()[1] and 10**7 < now.held < now.total


def test_the_meter_sees_memory_that_is_gone_again():
    meter = PeakMeter(torch.device("cpu"))
    before = meter.peak_bytes()
    block = torch.ones(30_000_000)
    meter.sample()
    del block
    assert meter.peak_bytes() > before + 100_000_000
    assert PeakMeter(torch.device("cpu")).peak_bytes() < before + 60_000_000


def test_failures_are_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("shape"))
    assert isinstance(device_error(RuntimeError("CUDA error: an illegal memory access")), DeviceError)
    assert device_error(RuntimeError("shape")) is None


def test_the_fake_device_is_full_when_it_is():
    device, module = FakeDevice(100), torch.nn.Linear(1, 1)
    device.place(module, 100)
    with pytest.raises(MemoryError):
        device.place(torch.nn.Linear(1, 1), 1)


def test_weights_that_lie_in_their_file_are_not_copied_back(tmp_path: Path) -> None:
    """The meta device keeps no numbers, so whatever were copied back from it could not be."""
    device = TorchDevice("cpu")
    device._device = torch.device("meta")
    path, facts = tmp_path / "network.safetensors", {"class": "WanTransformer3DModel", "config": tiny_wan.TRANSFORMER}
    save_file(tiny_wan.transformer().state_dict(), path, metadata={"kinora": json.dumps(facts)})
    network = find_network("transformer", (path,), TRANSFORMER).component(FLOAT32).build()
    before = {name: value.clone() for name, value in network.named_parameters()}
    device.place(network, 0)
    assert all(value.is_meta for value in network.parameters())
    TRANSFORMER.restore(network)  # its tables stand in no file
    device.withdraw(network, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
