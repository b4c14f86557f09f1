"""The words that start a worker with the stand-in engine."""

from __future__ import annotations

import os
from pathlib import Path

from studio.jobs import local
from studio.settings import Settings


def stand_in_command(settings: Settings, device: str, *, output: Path | None = None) -> list[str]:
    """The true words, with another module; KINORA_TEST_WORKER names one that makes nothing."""
    module = os.environ.get("KINORA_TEST_WORKER", "tests.studio.stand_in")
    words = local.worker_command(settings, device, output=output)
    return [module if word == "engines.runtime.worker" else word for word in words]
