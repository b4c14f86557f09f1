"""Who may import whom: the engine layer knows no page, and the web process runs without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tree import drawn_modules

ROOT = Path(__file__).parents[1]


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions, relative imports resolved."""
    found: set[str] = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            found.add(".".join((*start, *([node.module] if node.module else []))))
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", modules("engines"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_layer_knows_no_page(path):
    assert not roots(path) & {"gradio", "studio", "app", "tests", "benchmarks"}


@pytest.mark.parametrize("path", modules("studio"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_studio_touches_no_tensor(path):
    assert not roots(path) & {"torch", "diffusers", "transformers", "safetensors"}


@pytest.mark.parametrize("path", sorted((ROOT / "engines").glob("*/engine.py")), ids=lambda path: path.parent.name)
def test_an_engine_knows_nothing_of_processes_and_devices(path):
    forbidden = ("engines.runtime", "engines.memory.devices", "engines.memory.residency", "engines.media.video")
    assert not [name for name in imported(path) if name.startswith(forbidden)]


def test_what_the_architecture_does_not_star_needs_no_torch():
    free = [path for path, starred in drawn_modules().items() if path.startswith("engines/") and not starred]
    needed = [path.removesuffix(".py").replace("/", ".") for path in free]
    program = """
import sys
for name in ("torch", "diffusers", "transformers", "gradio"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    __import__(name)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, *needed], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(needed) > 20
