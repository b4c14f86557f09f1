"""What is known of a model's networks without opening them: their counted weights and what formulas need of their
configuration. Imports no torch.

Of published files it stands in outlines.json, which `python -m tests.manifests.outlines` writes from their key lists;
the built-in models' own files say it in their headers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.errors import IncompatibleCheckpoint
from engines.loading import integrity
from engines.memory.planning import NOTHING, Abilities, Counted, Forms, Share, Way, as_wanted, forms
from engines.types import ModelSpec, Weights

FILE = Path(__file__).with_name("outlines.json")
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Outline:
    """A network that is not opened.

    Attributes:
        counted: its weights.
        config: of its class's arguments, those that formulas use.
        right, makeshifts: names of the precisions in which its numbers are right, and a little off.
        facts: what else a built-in file says of itself.
        narrow: its weights with those of its blocks made 8 bits wide; None where that is not done.
    """

    counted: Counted
    config: Mapping[str, Any]
    right: tuple[str, ...]
    makeshifts: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    narrow: Counted | None = None

    def forms(self, able: Abilities) -> Forms:
        """The precisions to try on a device, best first, makeshifts last."""
        tried = forms(able, self.right, float32_bytes=self.counted.way("float32", 4).size_bytes)
        return Forms(tuple(dict.fromkeys((*tried.names, *self.makeshifts))), tried.turns_first)

    def ways(self, able: Abilities, manners: Mapping[str, Callable[[int], int]]) -> tuple[list[Way], list[Way]]:
        """Every way in which it can be run on a device, best first, and those with weights made 8 bits wide.

        Args:
            manners: how a run can be made -> bytes of activations for numbers of so many bytes.
        """
        tried = self.forms(able).names
        ways = [
            replace(self.counted.way(form, ITEMSIZE[form], working(ITEMSIZE[form])), manner=manner)
            for form in tried
            for manner, working in manners.items()
        ]
        if self.narrow is None or find_spec("torchao") is None:
            return ways, []
        form, itemsize = f"int8 in {tried[0]}", ITEMSIZE[tried[0]]
        narrow = [
            replace(self.narrow.way(form, itemsize, working(itemsize)), manner=manner)
            for manner, working in manners.items()
        ]
        if able.is_ram:
            narrow = [replace(way, turn_bytes=None) for way in narrow]
        return as_wanted(ways, narrow, able)


def outlines(model: ModelSpec, *, assets: Path) -> dict[str, Outline]:
    """The networks of a model by role, those of which nothing is known left out.

    Args:
        assets: folder of the files shipped with this project.
    """
    found = {weights.role: _outline(weights, assets) for weights in model.weights}
    return {role: outline for role, outline in found.items() if outline is not None}


def _outline(weights: Weights, assets: Path) -> Outline | None:
    known = _known()
    if weights.repo:
        name = known["files"].get(f"{weights.repo}/{weights.files[0]}")
        return None if name is None else _read(known["networks"][name], known["kinds"])
    path = assets / weights.files[0]
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _of_file(path, weights.role, stamp) if stamp else None


@lru_cache(maxsize=1)
def _known() -> Any:
    return json.loads(FILE.read_text(encoding="utf-8"))


def _read(entry: Mapping[str, Any], kinds: Mapping[str, Any]) -> Outline:
    kind = kinds[entry["kind"]]
    buffers = entry["buffer_bytes"]
    counted = Counted(*(Share(*entry[name]) for name in ("whole", "outside", "block")), buffers)
    narrow = Counted(*(Share(*numbers) for numbers in entry["narrow"]), buffers) if "narrow" in entry else None
    made = Outline(counted, entry["config"], tuple(kind["precisions"]), tuple(kind["makeshifts"]))
    return replace(made, narrow=narrow)


@lru_cache(maxsize=32)
def _of_file(path: Path, role: str, stamp: int) -> Outline | None:
    """What the header of one of this project's own files says; one that holds several networks tells of each."""
    try:
        header, _ = integrity.safetensors_header(path)
        facts = integrity.facts_of(header, path)
    except (OSError, IncompatibleCheckpoint):
        return None
    if told := facts.get("outlines", {}).get(role):
        return replace(_read(told, _known()["kinds"]), facts=facts)
    kind = _known()["kinds"].get(facts.get("class"))
    if kind is None or not isinstance(facts.get("config"), Mapping):
        return None
    whole, blocks = Counter[bool](), dict[str, Counter[bool]]()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        numbers = 1
        for side in entry["shape"]:
            numbers *= side
        single = any(part in kind["keep_float32"] for part in name.split("."))
        inside = filter(None, (re.match(rf"{re.escape(blocks_)}\.\d+\.", name) for blocks_ in kind["blocks"]))
        whole[single] += numbers
        blocks.setdefault(next((found[0] for found in inside), ""), Counter())[single] += numbers
    outside = blocks.pop("", Counter())
    largest = max(blocks.values(), key=lambda numbers: numbers.total(), default=Counter())

    def share(numbers: Counter[bool]) -> Share:
        return Share(numbers.total(), numbers[True])

    counted = Counted(share(whole), share(outside) if blocks else NOTHING, share(largest))
    return Outline(counted, facts["config"], tuple(kind["precisions"]), tuple(kind["makeshifts"]), facts)
