"""Running golden cases through the product's code."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch

from tests.golden.case import Case, Verdict, compare

# The engine of a case -> the module that runs its components.
ENGINES = ("phantom_wan", "flashi2v", "pyramid_flow", "phantom_physics", "bindweave")
ADAPTERS = {name: f"tests.golden.adapters.{name}" for name in ENGINES}


def find(root: Path) -> list[Path]:
    """Folders of all cases below `root`; a folder with either file of a case counts as one."""
    return sorted({path.parent for name in ("case.json", "expected.safetensors") for path in root.rglob(name)})


def run(folder: Path) -> Verdict:
    """Runs one case; a broken case or a failing product is a verdict, not an exception."""
    try:
        case = Case.read(folder)
        if case.engine not in ADAPTERS:
            return Verdict(False, float("nan"), "no adapter")
        adapter = import_module(ADAPTERS[case.engine]).COMPONENTS.get(case.component)
        if adapter is None:
            return Verdict(False, float("nan"), "no adapter")
        with torch.no_grad():
            return compare(case, adapter(case))
    except Exception as error:  # whatever a case does, the others still run
        return Verdict(False, float("nan"), f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def run_all(root: Path) -> Iterator[tuple[str, Verdict]]:
    """(path below root, verdict) of every case."""
    for folder in find(root):
        yield str(folder.relative_to(root)), run(folder)
