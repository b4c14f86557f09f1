"""python -m benchmarks.physics: what the physics branch costs, that a scale of 0 costs nothing, how a clip is decoded.

Whole runs of the engine on random weights, in one process, by seconds of CPU: other processes do not count. Every round
makes each clip once, every second one in the opposite order; ratios are medians of the rounds, so that noise cancels.
The cost at published size is counted in multiplications and additions of one pass, on no memory at all. Decoding is
what is alive at once for clips of three lengths. Nothing needs a GPU; a figure above its target is marked.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine_layer import peaks
from benchmarks.rounds import Judged, in_rounds, paired
from engines.loading.store import Store
from engines.phantom_physics.checkpoint import SETTINGS, WEIGHTS, Encoder, describe, write_folder
from engines.phantom_physics.latents import tubelet_count
from engines.phantom_physics.network import PhysicsBranch
from engines.registry import SPECS, implementation
from engines.runtime.session import Session
from engines.training.physics_branch import build_branch
from engines.training.recipes.phantom_physics import RECIPE, VJEPA2_L, WAN22_5B, WAN22_VAE
from engines.types import EngineSpec, Frames, ModelSpec, Weights
from engines.validation import build_request
from engines.wan.latents import latent_shape
from engines.wan.vae import decode_frames
from tests.engines import tiny_physics, tiny_wan
from tests.engines.fake_peak import peak_bytes

ENGINE = "phantom-physics"
FREE, FLAT = 1.02, 1.05  # targets: scale 0 against the base, memory of a long clip against that of a short one
HEADS = {"num_attention_heads": 4, "attention_head_dim": 64, "num_layers": 4, "ffn_dim": 1024}
VALUES = {"width": 256, "height": 256, "frames": 9, "steps": 4, "seed": 1, "prompt": "a red star falls"}
VARIANTS = {"mirror": (3072, 14_336, 24), "narrow 1536": (1536, 7168, 12), "narrow 1024": (1024, 4096, 8)}
LENGTHS, DECODED_SIDE = (33, 121, 481), 96  # frames, pixels
ROUNDS, PROCESSES = 9, 3
DECODED = {"base_dim": 12, "z_dim": 4}


@dataclass(frozen=True)
class Line(Judged):
    """A figure, and its target; none where it is a cost that is only told."""

    what: str
    figure: float
    detail: str
    target: float | None = None

    def __str__(self) -> str:
        return f"| {self.what} | {self.figure:.3f} | {self.goal} | {self.detail} |"


class Bench:
    """The engine with a model of the real classes, larger than those of the tests, with its branch and without."""

    def __init__(self, folder: Path, **sizes: Any) -> None:
        self.files = write_model(folder, **(HEADS | sizes))
        geometry = SPECS[ENGINE].models[-1].geometry
        made = [
            ModelSpec(name, name, "", tuple(Weights(role, ()) for role in self.files if role in roles), geometry)
            for name, roles in (("base", self.base), ("physics", tuple(self.files)))
        ]
        self.spec: EngineSpec = replace(SPECS[ENGINE], models=tuple(made))
        overrides = {(ENGINE, model.name, one.role): self.files[one.role] for model in made for one in model.weights}
        self.session = Session("cpu", store=Store(overrides=overrides))

    base = ("transformer", "vae", "text_encoder", "tokenizer")

    def clip(self, model: str, **changes: Any) -> np.ndarray:
        """Frames uint8 [T,H,W,3] of a whole run."""
        values = self.spec.default_values(model) | VALUES | changes
        request = build_request(self.spec, values)
        context = self.session.context(ENGINE, self.spec.model(model))
        made = implementation(self.spec).generate(request, context)
        return np.concatenate([item.pixels for item in made if isinstance(item, Frames)])


def write_model(folder: Path, **sizes: Any) -> dict[str, Path]:
    """All files of the model, by role; the couplings say something, or their cost would not be one."""
    files = {role: paths[0] for role, paths in tiny_physics.write_model(folder).items()}
    tiny_wan.write(
        files["transformer"], tiny_physics.visual(**sizes), tiny_physics.VISUAL | sizes, text_len=tiny_wan.TEXT_LEN
    )
    width = sizes["num_attention_heads"] * sizes["attention_head_dim"]
    branch = tiny_physics.spoken(**sizes, visual_width=width, coupling_head_dim=sizes["attention_head_dim"])
    space = tiny_physics.SPACE
    told = Encoder(
        hidden_size=tiny_physics.CHANNELS, crop_size=space.size, max_frames=space.max_frames, pool=space.pool
    )
    write_folder(folder / "physics", branch.state_dict(), describe(branch, encoder=told), dtype=None)
    assert files["physics"] == folder / "physics" / WEIGHTS and (folder / "physics" / SETTINGS).is_file()
    return files


@contextmanager
def branch_calls() -> Iterator[list[int]]:
    """Counts the passes of the physics branch inside."""
    calls: list[int] = []

    def count(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, PhysicsBranch):
            calls.append(1)

    hook = register_module_forward_pre_hook(count)
    try:
        yield calls
    finally:
        hook.remove()


def speed(folder: Path, **sizes: Any) -> Iterator[Line]:
    """A scale of 0 against the base model, and the branch against both, as whole runs of the engine."""
    bench = Bench(folder, **sizes)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "base": lambda: bench.clip("base", physics_scale=0.0),
        "scale 0": lambda: bench.clip("physics", physics_scale=0.0),
        "scale 1": lambda: bench.clip("physics", physics_scale=1.0),
    }
    clips, calls = {}, {}
    for name, make in ways.items():  # warms up, too
        with branch_calls() as counted:
            clips[name] = make()
        calls[name] = len(counted)
    same = np.array_equal(clips["base"], clips["scale 0"])
    base, silent, coupled = in_rounds(*ways.values(), rounds=ROUNDS)
    detail = (
        f"{median(silent):.2f} s / {median(base):.2f} s, {len(base)} pairs; "
        f"{'same' if same else 'OTHER'} frames, {calls['scale 0']} passes of the branch"
    )
    yield Line("physics_scale 0 against the base model", paired(silent, base), detail, FREE)
    width = "as wide as the pictures' network, a third of its tokens at published size"
    yield Line(
        "with the branch against the base model, here", paired(coupled, base), f"{median(coupled):.2f} s; {width}"
    )


def published() -> Iterator[Line]:
    """Operations of one pass with each published variant of the branch, against the base alone."""
    shape = latent_shape(WAN22_VAE, width=832, height=480, frames=121)
    with torch.device("meta"):
        visual = WanTransformer3DModel(**WAN22_5B).requires_grad_(False)
        seen, text = torch.empty(1, *shape), torch.empty(1, RECIPE.text_len, WAN22_5B["text_dim"])
        steps = torch.empty(1, shape[1] * shape[2] * shape[3] // 4)
    base = operations(lambda: visual(seen, steps, text))
    yield Line("5B, a pass of the base: 1", 1.0, f"{base:.2e} operations at 832x480, 121 frames")
    side, channels = RECIPE.space.side(), VJEPA2_L["hidden_size"]
    for name, (dim, ffn, heads) in VARIANTS.items():
        recipe = replace(RECIPE, physics_dim=dim, physics_ffn_dim=ffn, physics_num_heads=heads)
        with torch.device("meta"):
            branch = build_branch(recipe, visual.config, channels=channels)
            felt = torch.empty(1, channels, tubelet_count(121), side, side)
            felt_steps = torch.empty(1, tubelet_count(121) * side * side)
        with branch.joined(visual):
            told = {"timestep": steps, "physics_timestep": felt_steps, "text": text}
            count = operations(lambda branch=branch, felt=felt, told=told: branch(visual, seen, felt, **told))
        yield Line(f"5B-physics {name} against it", count / base, f"{count:.2e} operations")


def operations(run: Callable[[], Any]) -> int:
    """Multiplications and additions of a run on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def decoding() -> Iterator[Line]:
    """Memory of clips of each length, their pieces handed out as they come: of tensors, counted, and of the process.

    The target is for what is counted. The process's peak scatters by what its allocator keeps, which is no less of a
    short clip: so it is told for two long ones.
    """
    vae = tiny_wan.vae(tiny_wan.RESIDUAL_VAE | DECODED)

    def streamed(frames: int) -> None:
        latents = torch.randn(vae.config.z_dim, (frames - 1) // 4 + 1, DECODED_SIDE // 8, DECODED_SIDE // 8)
        assert sum(len(piece) for piece in decode_frames(vae, latents)) == frames

    streamed(9)
    short, long, longest = (peak_bytes(lambda frames=frames: streamed(frames), vae) for frames in LENGTHS)
    told = f"{long / 1e6:.2f} and {short / 1e6:.2f} MB at {DECODED_SIDE}x{DECODED_SIDE}; {LENGTHS[2]} frames "
    told += f"{longest / short:.3f}, of which a part is their latents"
    yield Line(f"decoding {LENGTHS[1]} frames against {LENGTHS[0]}, tensors alive at once", long / short, told, FLAT)
    some, many = (min(peaks(*[streamed] * PROCESSES, small=9, full=frames)) for frames in LENGTHS[1:])
    told = f"{many / 1e6:.1f} and {some / 1e6:.1f} MB above the process, the least of {PROCESSES} runs"
    yield Line(f"decoding {LENGTHS[2]} frames against {LENGTHS[1]}, memory of the process", many / max(some, 1), told)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a figure is above its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.physics", description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| what | ratio | target | |\n| --- | --- | --- | --- |")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for line in chain(speed(Path(folder)), published(), decoding()):
            print(line, flush=True)
            missed += line.missed
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
