"""One of two processes that make clips together over gloo: test_parallel.py starts both and reads what they found.

Both run the same cases in the same order on tiny real networks, each first alone and then in a group of the two.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from engines.messages import Membership
from engines.parallel import member, reading
from engines.parallel.group import joined
from engines.registry import SPECS, implementation
from engines.types import Frames, LatentStep
from tests.engines.test_contract import Bench, session
from tests.engines.test_quantised_of_engines import quantised
from tests.engines.tiny_models import TINY


class Member:
    """This process, with the tiny model of every engine."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        self.benches = {name: Bench(TINY[name], _made(folder / f"{name}-{rank}")) for name in SPECS}
        self.meetings = iter(range(1000))

    @contextmanager
    def part(self, engine: str, split: str, **values: Any) -> Iterator[member.Part]:
        bench = self.benches[engine]
        meeting = f"file://{self.folder}/meeting-{next(self.meetings)}"
        membership = Membership(rank=self.rank, size=2, meeting=meeting, split=split, devices=("CPU", "CPU"))
        context = bench.session.context(engine, bench.spec.model("tiny"))
        with member.part(membership, implementation(bench.spec), bench.request(**values), context) as part:
            yield part

    def together(self, engine: str, split: str, **values: Any) -> dict[str, Any]:
        """What a clip made by both has of one made here alone: frames in levels, and calls of the network."""
        bench = self.benches[engine]
        with counted(bench) as alone:
            expected = bench.clip(**values)
        if split == "weights":  # the encoders' too
            bench.session.remembered.clear()
        with self.part(engine, split, **values) as part, counted(bench) as here, shares(bench) as held:
            made = [
                item.pixels for item in part.engine.generate(part.request, part.context) if isinstance(item, Frames)
            ]
            told, notes = dict(part.context.computed), list(part.context.notes)
        found: dict[str, Any] = {"calls": [len(here), len(alone)], "rows": [sum(here), sum(alone)], "told": told}
        found |= {"held": held, "notes": notes}
        found["kept"] = [key for key, _, _ in bench.session.cache.state() if "shared" in key]
        if made:
            found["levels"] = int(np.abs(np.concatenate(made).astype(int) - expected.astype(int)).max())
        after = bench.clip(**values)
        return found | {"as it was": bool(np.array_equal(after, expected)), "frames": len(made)}

    def read(self, engine: str, *, leaves: bool = False) -> dict[str, Any]:
        """A clip whose prompts the second member reads: which networks each used, and how far it is from one's own."""
        bench = self.benches[engine]
        expected = bench.clip()
        bench.session.remembered.clear()
        found: dict[str, Any] = {"roles": [], "levels": []}
        for _ in range(2):  # the second time nothing is left to read
            meeting = f"file://{self.folder}/meeting-{next(self.meetings)}"
            group = Membership(rank=self.rank, size=2, meeting=meeting, split="reading", devices=("CPU", "CPU"))
            context = bench.session.context(engine, bench.spec.model("tiny"))
            with used(bench) as roles:
                if self.rank and leaves:
                    with joined(group, context.device):
                        pass
                elif self.rank:
                    reading.read(group, implementation(bench.spec), bench.request(), context)
                else:
                    with reading.read_by_another(group, context) as given:
                        items = implementation(bench.spec).generate(bench.request(), given)
                        made = [item.pixels for item in items if isinstance(item, Frames)]
                    found["levels"].append(int(np.abs(np.concatenate(made).astype(int) - expected.astype(int)).max()))
                    found["told"] = dict(context.precisions)
            found["roles"].append(sorted(roles))
            if self.rank:
                bench.session.remembered.clear()  # it knows nothing: the first one remembers
        return found

    def changed(self, how: str) -> dict[str, Any]:
        """A clip with shared weights of a network that is quantised, or that an adapter changes."""
        bench = self.benches["flashi2v"]
        if how in ("adapter", "norms"):
            names = ("to_q.weight",) if how == "adapter" else ("to_q.weight", "norm2.weight")
            return self.together(
                "flashi2v", "weights", adapters=[{"path": difference(bench.files["transformer"][0], *names)}]
            )
        quantised_bench = copy.copy(bench)
        quantised_bench.session = session(bench.tiny, bench.files | {"transformer": (quantised(bench, how),)})
        self.benches["flashi2v"] = quantised_bench
        try:
            return self.together("flashi2v", "weights")
        finally:
            self.benches["flashi2v"] = bench

    def left(self, engine: str, split: str) -> dict[str, Any]:
        """The first member stops after its first step: the other one ends, and both can meet again."""
        with self.part(engine, split) as part:
            if self.rank:
                member.follow(part)
                return {"ended": True}
            with closing(part.engine.generate(part.request, part.context)) as made:
                next(item for item in made if isinstance(item, LatentStep))
        return {"ended": True}


@contextmanager
def watching(bench: Bench, watch: Callable[[Any, Any], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside the block, what `watch` does around every use of a network, told its component and the module."""
    use = bench.session.cache.use

    @contextmanager
    def watched(component: Any, **working: Any) -> Iterator[Any]:
        with use(component, **working) as module, watch(component, module):
            yield module

    bench.session.cache.use = watched
    try:
        yield
    finally:
        bench.session.cache.use = use


@contextmanager
def used(bench: Bench) -> Iterator[set[str]]:
    """The roles of the networks that are used inside the block."""
    roles: set[str] = set()

    @contextmanager
    def watch(component: Any, _module: Any) -> Iterator[None]:
        roles.add(component.role)
        yield

    with watching(bench, watch):
        yield roles


@contextmanager
def counted(bench: Bench) -> Iterator[list[int]]:
    """Rows of every call of the transformer inside the block."""
    rows: list[int] = []

    def count(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = kwargs.get("hidden_states", args[0] if args else None)
        rows.append(len(first[-1] if isinstance(first, list) else first))

    @contextmanager
    def watch(component: Any, module: Any) -> Iterator[None]:
        if component.role != "transformer":
            yield
            return
        handle = module.register_forward_pre_hook(count, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    with watching(bench, watch):
        yield rows


@contextmanager
def shares(bench: Bench) -> Iterator[dict[str, float]]:
    """What this process holds of each network's blocks that are shared inside the block, by role."""
    held: dict[str, float] = {}

    @contextmanager
    def watch(component: Any, module: Any) -> Iterator[None]:
        shared = [one for one in module.parameters() if isinstance(one, DTensor)]
        if shared:
            held[component.role] = sum(one.to_local().numel() for one in shared) / sum(map(torch.numel, shared))
        yield

    with watching(bench, watch):
        yield held


def difference(network: Path, *endings: str) -> Path:
    """An adapter that changes every parameter of the blocks with one of these endings."""
    draw = torch.Generator().manual_seed(0)
    numbers = {name: one for name, one in load_file(network).items() if name.endswith(endings) and "blocks." in name}
    made = {
        f"diffusion_model.{name.removesuffix('.weight')}.diff": torch.randn(one.shape, generator=draw) * 0.3
        for name, one in numbers.items()
    }
    path = network.with_name(f"{len(made)}.safetensors")
    save_file(made, path)
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


CASES: dict[str, Callable[[Member], dict[str, Any]]] = {
    **{f"guidance {name}": lambda here, name=name: here.together(name, "guidance") for name in SPECS},
    **{f"sequence {name}": lambda here, name=name: here.together(name, "sequence") for name in SPECS},
    **{f"weights {name}": lambda here, name=name: here.together(name, "weights") for name in SPECS},
    "weights, odd tokens": lambda here: here.together("flashi2v", "weights", width=24, height=24),
    "weights, adapter": lambda here: here.changed("adapter"),
    "weights, adapter of norms": lambda here: here.changed("norms"),
    "weights, GGUF": lambda here: here.changed("GGUF"),
    "weights, float8": lambda here: here.changed("float8"),
    "sequence, odd tokens": lambda here: here.together("flashi2v", "sequence", width=24, height=24),
    "guidance, one pass": lambda here: here.together("flashi2v", "guidance", guidance=1.0),
    **{
        f"cached, {split}": lambda here, split=split: here.together("flashi2v", split, step_cache="third", steps=7)
        for split in ("guidance", "sequence", "weights")
    },
    "left": lambda here: here.left("phantom-wan", "guidance"),
    "met again": lambda here: here.together("phantom-wan", "guidance", seed=9),
}


READING: dict[str, Callable[[Member], dict[str, Any]]] = {
    **{name: lambda here, name=name: here.read(name) for name in SPECS},
    "left": lambda here: here.read("phantom-wan", leaves=True),
}


def main() -> None:
    """Run every case, or with a third word those of reading, and write what was found."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    here = Member(folder, rank)
    found = {name: case(here) for name, case in (READING if sys.argv[3:] else CASES).items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
