"""The imports of a first job, made while nobody waits for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module

from engines import registry
from engines.memory.devices import ram

log = logging.getLogger(__name__)

ROOM_BYTES = 2 * 10**9
"""RAM that has to be free: the libraries take about 0.4 GB of it, the rest is for the first clip."""


def imports() -> Iterator[str]:
    """Import what every first job waits for, one module for each step; nothing on a machine that is too small."""
    engines = (spec.implementation.partition(":")[0] for spec in list(registry.SPECS.values()))
    for name in ("torch", "av", "engines.runtime.session", "engines.runtime.runner", *engines):
        if ram()[0] < ROOM_BYTES:
            return
        try:
            import_module(name)
        except Exception as error:  # the job that needs it will say so
            log.warning("%s could not be imported ahead of its first use", name, exc_info=error)
        yield name
