"""python -m tests.hardware_table: what each published model does on cards of 8 to 80 GB, as README.md has it.

Reckoned by the planner itself (engines/memory/estimating.py), for the model's default clip, with main memory enough.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.loading.store import ASSETS
from engines.memory import budget, estimating
from engines.memory.estimating import Estimate, Machine
from engines.memory.outlines import outlines
from engines.memory.planning import Abilities
from engines.registry import SPECS
from engines.types import EngineSpec, ModelSpec
from studio.estimating import request_of

CARDS = (8, 12, 16, 24, 48, 80)
SEVERAL = ((2, 12), (4, 12), (2, 16), (4, 16), (2, 24), (4, 24), (2, 48))
REPORTED = 0.965  # what a driver leaves free of an empty card
PICTURE = {"path": "picture.png"}


def card(gib: int, *, devices: int = 1) -> Machine:
    """An empty card of so many GB, as its maker writes them, and no limit stated; so many of them share the weights."""
    total = gib * 2**30
    free = int(total * REPORTED)
    allowed = budget.allowed_bytes("cuda", budget.Memory(free, total, 0), None)
    return Machine(Abilities("cuda", "bfloat16"), allowed, ram_bytes=10**12, devices=devices)


def on(gib: int, spec: EngineSpec, model: ModelSpec, *, devices: int = 1) -> Estimate:
    """What the model's default clip takes of a card."""
    values = {"model": model.name} | (
        {"references": [PICTURE]} if "references" in spec.request_type.model_fields else {}
    )
    request = request_of(spec, values)
    assert request is not None
    return estimating.of_request(spec, request, outlines(model, assets=ASSETS), card(gib, devices=devices))


def cell(made: Estimate) -> str:
    """One card's word: "whole", which network takes turns or how it decodes, or a dash."""
    if made.verdict == "refused":
        return "–"
    turns = {one.role for one in made.unusual if one.plan.mode == "turns"}
    words = []
    if turns & {"transformer", "physics"}:
        words.append("turns")
    elif turns:
        words.append("text in turns")
    decoding = [one for one in made.unusual if one.role == "vae"]
    words += dict.fromkeys(one.plan.way.manner or one.plan.way.form for one in decoding)
    return ", ".join(words) or "whole"


def rows() -> Iterator[str]:
    """The table, line by line."""
    yield f"| default clip of | {' | '.join(f'{gib} GB' for gib in CARDS)} | RAM |"
    yield f"| --- | {' | '.join('---' for _ in CARDS)} | --- |"
    for spec in SPECS.values():
        for model in spec.models:
            if not any(weights.repo for weights in model.weights):
                continue
            made = [on(gib, spec, model) for gib in CARDS]
            size = model.defaults.get("width", 832), model.defaults.get("height", 480)
            name = f"`{spec.name}/{model.name}`, {size[0]}x{size[1]}"
            ram = max(one.ram_bytes for one in made if one.verdict != "refused")
            yield f"| {name} | {' | '.join(map(cell, made))} | {ram / 1e9:.0f} GB |"


def shared() -> Iterator[str]:
    """The table of the models that no card of 24 GB holds whole, on several of a kind, line by line."""
    yield f"| default clip of | {' | '.join(f'{count} x {gib} GB' for count, gib in SEVERAL)} |"
    yield f"| --- | {' | '.join('---' for _ in SEVERAL)} |"
    for spec in SPECS.values():
        for model in spec.models:
            if any(weights.repo for weights in model.weights) and "turns" in cell(on(24, spec, model)).split(", "):
                made = [on(gib, spec, model, devices=count) for count, gib in SEVERAL]
                yield f"| `{spec.name}/{model.name}` | {' | '.join(map(share, made))} |"


def share(made: Estimate) -> str:
    """What one of several cards takes, if they hold the network between them."""
    stepping = [one for step in made.steps for one in step.networks if one.role in ("transformer", "physics")]
    if made.verdict == "refused" or any(one.plan.mode != "split" for one in stepping):
        return "turns" if made.verdict != "refused" else "–"
    return f"shared, {made.device_bytes / 1e9:.0f} GB each"


if __name__ == "__main__":
    print("\n".join([*rows(), "", *shared()]))
