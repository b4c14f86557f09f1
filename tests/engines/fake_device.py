"""A device for tests of the residency cache: it counts the bytes of what is placed on it."""

from __future__ import annotations

from typing import Any

import torch


class FakeDevice:
    """A device that only counts: modules stay where they are, their bytes are booked here."""

    def __init__(self, capacity_bytes: int, *, is_ram: bool = False) -> None:
        self.name, self.capacity_bytes, self._is_ram = "fake", capacity_bytes, is_ram
        self.held: dict[int, int] = {}
        self.peak_bytes = 0

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def is_ram(self) -> bool:
        return self._is_ram

    def place(self, module: Any, size_bytes: int) -> None:
        self.held[id(module)] = size_bytes
        self.peak_bytes = max(self.peak_bytes, sum(self.held.values()))
        if sum(self.held.values()) > self.capacity_bytes:
            raise MemoryError("the fake device is full")

    def withdraw(self, module: Any, size_bytes: int) -> None:
        del self.held[id(module)]

    def forget(self, module: Any) -> None:
        del self.held[id(module)]

    def empty_cache(self) -> None:
        return
