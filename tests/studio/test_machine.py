"""The fold about this machine, and the button that gives memory back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import pytest

from engines.memory.budget import Limits
from studio import allowances
from studio.jobs.local import LocalExecutor
from studio.jobs.worker_process import DeviceState
from studio.page.machine import Machine
from studio.service import Studio, open_studio
from studio.settings import Settings
from tests.studio.conftest import LOOPS_LEFT_OPEN

pytestmark = LOOPS_LEFT_OPEN


class Devices:
    """An executor's devices, of which the idle ones give back what they keep when they are asked to."""

    def __init__(self, *states: DeviceState) -> None:
        self.states = list(states)
        self.allowed: Limits = {}

    def limits(self) -> Limits:
        return self.allowed

    def allow(self, limits: Limits) -> None:
        self.allowed = limits

    def devices(self) -> list[DeviceState]:
        return list(self.states)

    def free(self) -> None:
        self.states = [state if state.busy else replace(state, held_bytes=0) for state in self.states]


def drawn(studio: Studio, *states: DeviceState) -> Machine:
    with gr.Blocks(analytics_enabled=False):
        machine = Machine(replace(studio, executor=Devices(*states)))
        machine.chip()
        machine.fold()
    return machine


@pytest.fixture
def machine(idle: Studio) -> Iterator[Machine]:
    yield drawn(
        idle,
        DeviceState("cuda:0", "Big", total_bytes=24 * 2**30, held_bytes=2_500_000_000),
        DeviceState("cuda:1", "Small", total_bytes=8 * 2**30, held_bytes=700_000_000, busy=True),
    )


def test_memory_is_given_back_where_nothing_is_made(machine: Machine) -> None:
    before = machine.open()[machine.table]
    assert "2.5 GB of models kept warm" in before and "0.7 GB of models kept warm" in before
    shown = machine.free()
    assert "2.5 GB were given back on Big." in shown[machine.said]
    assert "Small is making a clip and keeps what it needs." in shown[machine.said]
    assert "nothing kept" in shown[machine.table] and "0.7 GB of models kept warm" in shown[machine.table]
    again = machine.free()
    assert "Nothing was kept on Big." in again[machine.said]


def test_how_much_may_be_used_is_said_here_and_kept(machine: Machine) -> None:
    shown = machine.allow("cuda:0=12, cuda:1=6.5")
    assert "at most cuda:0=12,cuda:1=6.5 GB" in shown[machine.said] and shown[machine.most] == "cuda:0=12,cuda:1=6.5"
    assert "at most 12.0 GB used" in shown[machine.table] and "at most 6.5 GB used" in shown[machine.table]
    assert allowances.kept(machine.studio.settings.outputs) == {"cuda:0": 12.0, "cuda:1": 6.5}
    wrong = machine.allow("lots")
    assert "you gave &quot;lots&quot;" in wrong[machine.said] and [*wrong] == [machine.said]
    assert machine.open()[machine.most] == "cuda:0=12,cuda:1=6.5"
    machine.allow("")
    assert allowances.kept(machine.studio.settings.outputs) == {} == machine.studio.executor.limits()


def test_what_was_kept_holds_for_a_later_start_that_says_nothing(settings: Settings, specs: dict) -> None:
    settings.outputs.mkdir()
    allowances.keep(settings.outputs, {"": 6.0})
    for given, holds in (({}, {"": 6.0}), ({"cpu": 3.0}, {"cpu": 3.0})):
        studio = open_studio(replace(settings, memory_gb=given), LocalExecutor)
        assert studio.executor.limits() == holds
        studio.store.close()
    (settings.outputs / allowances.NAME).write_text("[1", encoding="utf-8")
    assert allowances.kept(settings.outputs) == {}


def test_strangers_unload_nothing(idle: Studio) -> None:
    public = replace(idle, settings=replace(idle.settings, public=True))
    machine = drawn(public, DeviceState("cuda:0", "Big", held_bytes=5))
    assert not hasattr(machine, "said"), "the fold is not drawn"


def test_the_chip_needs_no_torch(idle: Studio) -> None:
    machine = drawn(idle)
    assert "Looking" in machine.look()[machine.devices]
    found = drawn(idle, DeviceState("cuda:0", "<Big>", total_bytes=24 * 2**30))
    shown = found.look()
    assert "&lt;Big&gt; · 24 GB" in shown[found.devices] and found.watch in shown
