"""Small results kept between jobs, such as text encodings, within a budget of bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any


class Remembered:
    """Small results by key, for example text encodings; the least recently used go when their bytes exceed a limit."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._values: dict[str, tuple[Any, int]] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of all tensors remembered."""
        return sum(size for _, size in self._values.values())

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of `key`, computed if it is not remembered; one larger than the limit is not kept."""
        if key in self._values:
            self._values[key] = self._values.pop(key)
            return self._values[key][0]
        value = compute()
        size = _tensor_bytes(value)
        if size <= self.limit_bytes:
            self._values[key] = (value, size)
        while self.held_bytes > self.limit_bytes:
            del self._values[next(iter(self._values))]
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()


def content_key(*parts: object) -> str:
    """A key that names the content of its parts: equal for equal ones. The first says what is remembered."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return f"{parts[0]} {digest.hexdigest()}"


def _tensor_bytes(value: Any) -> int:
    if hasattr(value, "element_size"):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_tensor_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_tensor_bytes, value))
    return int(getattr(value, "nbytes", 0))
