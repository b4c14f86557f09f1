"""The page's own JavaScript, run by one node for all tests that ask it something."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.studio.server import ROOT

SCRIPTS = sorted((ROOT / "studio" / "page").glob("*.js"))
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")

# Each line is an expression as a JSON string; each answer is its value, or the fault that it raised.
PROGRAM = f"""
for (const path of {json.dumps([str(path) for path in SCRIPTS])}) require(path);
require("readline").createInterface({{ input: process.stdin }}).on("line", (line) => {{
  let said;
  try {{
    said = {{ value: (0, eval)(JSON.parse(line)) }};
  }} catch (fault) {{
    said = {{ fault: String(fault.stack) }};
  }}
  console.log(JSON.stringify(said));
}});
"""


@functools.cache
def _node() -> subprocess.Popen[str]:
    """Started once: a start takes longer than any answer."""
    node = subprocess.Popen(
        [str(NODE), "-e", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    atexit.register(node.communicate, timeout=10)  # without input it ends
    return node


def evaluated(code: str) -> Any:
    """What an expression gives once the page's files are read; raises AssertionError with the fault that it raised."""
    node = _node()
    assert node.stdin and node.stdout
    node.stdin.write(json.dumps(code) + "\n")
    node.stdin.flush()
    said = json.loads(node.stdout.readline())
    assert "fault" not in said, said["fault"]
    return said["value"]


def called(*calls: tuple[str, list[Any]]) -> list[Any]:
    """What the functions return, each of (name, arguments)."""
    return evaluated(f"{json.dumps(calls)}.map(([name, given]) => kinora[name](...given))")
