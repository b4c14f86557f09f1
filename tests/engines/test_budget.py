"""One honest number: read as people write it, divided as it must be, and held to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engines.errors import OutOfMemory
from engines.loading.store import Store
from engines.memory import budget
from engines.memory.budget import Memory, allowed_bytes, limit_of, networks_bytes, ram_bytes, read_limits
from engines.memory.devices import TorchDevice, abilities, processor_half
from engines.runtime.session import Session
from engines.runtime.settings import MachineSettings
from tests.engines.tiny import TINY, write_checkpoint

GB = 10**9


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("8", {"": 8.0}),
        (" 7.5 ", {"": 7.5}),
        ("cuda:0=8,cuda:1=20", {"cuda:0": 8.0, "cuda:1": 20.0}),
        ("cuda=8, 4", {"cuda:0": 8.0, "": 4.0}),
        ("CPU=2", {"cpu": 2.0}),
        ("", {}),
    ],
)
def test_limits_are_read_as_people_write_them(text, limits):
    assert read_limits(text) == limits


@pytest.mark.parametrize(
    "text", ["0", "-1", "much", "nan", "inf", "1e9", "cuda:0=", "disk=3", "8,9", "=8", "cuda:0=8 GB"]
)
def test_what_is_no_limit_is_a_sentence(text):
    with pytest.raises(ValueError, match="cuda:0=8,cuda:1=20"):
        read_limits(text)


def test_a_device_has_its_own_limit_or_that_of_all():
    limits = {"cuda:0": 8.0, "": 4.0}
    assert [limit_of(limits, name) for name in ("cuda:0", "cpu")] == [8 * GB, 4 * GB]
    assert limit_of({"cuda:0": 8.0}, "cpu") is None


def test_what_is_stated_is_the_most_and_never_more_than_there_is():
    memory = Memory(free=5 * GB, total=24 * GB, held=2 * GB)
    assert allowed_bytes("cuda", memory, 6 * GB) == 6 * GB
    assert allowed_bytes("cuda", memory, 60 * GB) == 7 * GB
    assert allowed_bytes("cuda", memory, None) == 7 * GB - int(0.05 * 24 * GB)
    assert allowed_bytes("cpu", memory, None) == 7 * GB - GB // 2
    assert networks_bytes("cuda", 6 * GB) == 6 * GB - budget.OWN_BYTES["cuda"]


def test_less_than_the_program_itself_takes_is_a_sentence():
    with pytest.raises(OutOfMemory, match=r"Only 0\.1 GB .* the program alone takes"):
        networks_bytes("cuda", GB // 10)


def test_processes_divide_the_ram():
    assert ram_bytes(100 * GB, workers=1) == 70 * GB
    assert sum(ram_bytes(100 * GB, workers=4) for _ in range(4)) == 70 * GB
    assert MachineSettings().runtime("cuda:0", outputs=Path(), workers=4).workers == 4


def test_a_session_looks_at_the_memory_before_every_job(tmp_path, monkeypatch):
    write_checkpoint(tmp_path)
    session = Session("cpu", store=Store(models=tmp_path), memory_bytes=4 * GB)
    now = [Memory(10 * GB, 16 * GB, GB)]
    monkeypatch.setattr(TorchDevice, "now", lambda self: now[0])
    own = budget.OWN_BYTES["cpu"]

    def room() -> int:
        return session.context("tiny", TINY.model("small")).room().budget_bytes

    assert 0 <= 4 * GB - own - room() < 0.05 * 4 * GB, "all of it but what is remembered"
    now[0] = Memory(GB, 16 * GB, GB)  # somebody else took the rest
    assert room() <= 2 * GB - own
    session.allow(3 * GB)
    now[0] = Memory(10 * GB, 16 * GB, GB)
    assert 2.8 * GB - own < room() <= 3 * GB - own and session.status().budget_bytes == 3 * GB
    session.allow(GB // 2)
    with pytest.raises(OutOfMemory, match="program alone"):
        session.context("tiny", TINY.model("small"))


def test_torch_is_held_to_the_number_on_a_gpu(monkeypatch):
    held = []
    device = TorchDevice("cpu")
    device._device = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (20 * GB, 24 * GB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, where: held.append((share, where)))
    device.hold(12 * GB + budget.CONTEXT_BYTES)
    device.hold(100 * GB)
    assert held == [(0.5, torch.device("cuda:1")), (1.0, torch.device("cuda:1"))]


def test_an_apple_gpu_is_held_to_it_too_and_computes_in_what_it_has(monkeypatch):
    """By torch's own functions for it, which say nothing on another machine: not run on an Apple GPU."""
    held, device = [], TorchDevice("cpu")
    device._device = torch.device("mps")
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 16 * GB)
    monkeypatch.setattr(torch.mps, "set_per_process_memory_fraction", held.append)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 3 * GB)
    device.hold(8 * GB)
    assert held == [0.5]
    assert device.now().held > 3 * GB and device.is_ram
    for new, half in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor, new=new: new)
        assert abilities(torch.device("mps")).half == half


def test_the_studio_knows_without_torch_what_the_processor_computes_in():
    assert processor_half() == abilities(torch.device("cpu")).half
