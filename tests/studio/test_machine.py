"""What is said of this machine, and the button that gives memory back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import pytest

from engines.memory.budget import Limits
from studio.jobs.worker_process import DeviceState
from studio.page.machine import Machine
from studio.service import Studio
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
        with gr.Tabs(), gr.Tab("Settings") as opened:
            machine.render(opened)
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


def test_the_chip_needs_no_torch(idle: Studio) -> None:
    machine = drawn(idle)
    assert "Looking" in machine.look()[machine.devices]
    found = drawn(idle, DeviceState("cuda:0", "<Big>", total_bytes=24 * 2**30))
    shown = found.look()
    assert "&lt;Big&gt; · 24 GB" in shown[found.devices] and found.watch in shown
