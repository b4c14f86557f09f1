"""The Fast quality: where a step-distillation adapter lies in the folder, a few steps with it and without guidance.

Such an adapter taught its network to go far in one step, guidance included; a strength of guidance that leaves one pass
is declared by each engine (`EngineSpec.one_pass`). Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from engines.adapters.files import adapter_problem, listed
from engines.adapters.naming import parts_of
from engines.errors import IncompatibleCheckpoint
from engines.loading.integrity import kind_of, safetensors_header
from engines.types import EngineSpec

# How those that are published are called, and how many steps they say that they want.
_WORDS = re.compile(
    r"lightx2v|lightning|causvid|accvid|distil|turbo|dmd|fusionx|lcm|hyper|[48]-?_?steps?", re.IGNORECASE
)
_STEPS = re.compile(r"(?<!\d)([4-8])-?_?steps?", re.IGNORECASE)
FEWEST_STEPS = 4
_QUERY = re.compile(r"(.*[._])?blocks[._]0[._](self_attn[._]q|attn1[._]to_q)\b.*")


class Distillation(NamedTuple):
    """A step-distillation adapter: its name in the folder, the steps it wants, and the width of its network."""

    name: str
    steps: int
    width: int


def distillations(folder: Path | None) -> list[Distillation]:
    """Those in a folder whose names say that they are."""
    found = []
    for name in listed(folder):
        if folder is not None and _WORDS.search(name):
            path = folder / name
            status = path.stat()
            if (width := _width(path, status.st_mtime_ns, status.st_size)) is not None:
                said = _STEPS.search(name)
                found.append(Distillation(name, int(said[1]) if said else FEWEST_STEPS, width))
    return found


def fast_values(spec: EngineSpec, transformer: Path | None, folder: Path | None) -> dict[str, Any] | None:
    """What the Fast quality sets for a model whose transformer is in this file; None where no such adapter fits it.

    The path of the adapter is its name in the folder.
    """
    if not spec.one_pass or transformer is None:
        return None
    wanted = network_width(transformer)
    fitting = next((one for one in distillations(folder) if one.width == wanted), None)
    if fitting is None:
        return None
    return {"adapters": [{"path": fitting.name}], "steps": fitting.steps, **spec.one_pass}


def network_width(path: Path) -> int | None:
    """How many channels a transformer's queries have, by the header of its file; None where that is not told."""
    return _query_rows(path, lambda key: key.endswith("weight") and "lora" not in key)


@lru_cache(maxsize=256)
def _width(path: Path, modified: int, size: int) -> int | None:
    """Of an adapter; None for a file that is none."""
    if adapter_problem(path) is not None:
        return None
    return _query_rows(path, lambda key: any("up" in parts for parts in parts_of([key])[0].values()))


def _query_rows(path: Path, wanted: Any) -> int | None:
    try:
        if kind_of(path) != "safetensors":
            return None
        header: Mapping[str, Any] = safetensors_header(path)[0]
        key = next(key for key in header if _QUERY.fullmatch(key) and wanted(key))
        return int(header[key]["shape"][0])
    except (IncompatibleCheckpoint, StopIteration, KeyError, TypeError, IndexError, OSError):
        return None
