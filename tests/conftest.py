"""What holds for every test, and how the whole suite is shared out among processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Read when torch is loaded: threads that spin while they wait slow everything else on a machine of few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # each process of the suite computes on a core of its own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MOST_PROCESSES = 2  # each may have a studio, its worker and a browser beside it: a gigabyte or two


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for whole folders; for single files one, without the time that starting others takes."""
    named = [Path(argument.partition("::")[0]) for argument in config.args]
    return MOST_PROCESSES if any(path.is_dir() for path in named) else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Who runs what: see ByFile."""
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):
    """Tests of a file stay in one process, and so do those of all files that share the browser."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "tests/browser" if path.startswith("tests/browser/") else path
