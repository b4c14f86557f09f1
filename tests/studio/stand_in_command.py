"""The words that start a worker with the stand-in engine."""

from __future__ import annotations

import os
import sys


def stand_in_command() -> tuple[str, ...]:
    """The true words, with another module; KINORA_TEST_WORKER names one that makes nothing."""
    return (sys.executable, "-m", os.environ.get("KINORA_TEST_WORKER", "tests.studio.stand_in"))
