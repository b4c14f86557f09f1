"""Networks, clips and a recipe for a tiny run of the physics trainer; and one such run by several processes.

torchrun --nproc-per-node 2 -m tests.training.tiny_physics_run FOLDER OUT
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from engines.media.video import VideoWriter
from engines.training.recipes import phantom_physics
from engines.training.recipes.phantom_physics import RECIPE, PhysicsRecipe
from engines.training.share import ALONE, Share, joined
from engines.training.trainer import Trainer
from engines.training.video_list import Bucket, write_samples
from engines.training.world.physics import make_scene
from tests.engines import tiny_physics, tiny_wan

BUCKET = Bucket(width=32, height=32, frames=9, fps=24.0, min_area=1)
FORCES = {
    "bounce": {"angle": 270, "force": 3.0, "coordx": 32, "coordy": 48, "width": 64, "height": 64},
    "incline": {"wind_angle": -30, "wind_speed": 2.0},
}


def write(folder: Path) -> None:
    """Tiny networks of Wan 2.2's kind, and a list of two simulated clips with a force in each."""
    tiny_wan.write_model(folder)
    tiny_wan.write(folder / "transformer.safetensors", tiny_physics.visual(), tiny_physics.VISUAL)
    tiny_wan.write(folder / "vae.safetensors", tiny_wan.vae(tiny_physics.VAE), tiny_physics.VAE)
    tiny_wan.write(folder / "encoder.safetensors", tiny_physics.encoder(), tiny_physics.ENCODER)
    samples = []
    for name, force in FORCES.items():
        writer = VideoWriter(folder / f"{name}.mp4", fps=24, tags={})
        writer.write(make_scene(name, 1).frames())
        writer.close()
        samples.append({"path": str(folder / f"{name}.mp4"), "cap": "a red circle falls", "fps": 24, "force": force,
                        "num_frames": 33, "resolution": {"height": 64, "width": 64}, "bucket": 0})  # fmt: skip
    write_samples(folder / "clips.lmdb", samples)


def small(recipe: Any, folder: Path) -> Any:
    """A recipe of the trainer over what `write` wrote."""
    return dataclasses.replace(
        recipe, steps=6, warmup=1, samples=str(folder), start=str(folder), buckets=(BUCKET,), batch=2,
        encoder=str(folder / "encoder.safetensors"), text_len=tiny_wan.TEXT_LEN, physics_dim=32, physics_ffn_dim=48,
        physics_num_heads=2, coupling_head_dim=16, crop=64, max_frames=8, statistics_clips=2, alpha_ramp=4,
        alpha_limit=1e9, given_share=0.8, bfloat16=False, learning_rate=1e-3,
    )  # fmt: skip


def run(recipe: PhysicsRecipe, out: Path, *, resume: bool = False, share: Share = ALONE) -> Trainer:
    """A run of the recipe, or the rest of one."""
    torch.manual_seed(0)
    trainer = Trainer(recipe, phantom_physics.build(recipe), out, workers=0, share=share)
    if resume:
        trainer.resume()
    trainer.run(log_every=1)
    trainer.task.dataset().close()
    return trainer


def stopped_and_resumed(recipe: PhysicsRecipe, out: Path, share: Share = ALONE) -> Trainer:
    """The same run in two halves, the second from what the first wrote."""
    run(dataclasses.replace(recipe, steps=recipe.steps // 2), out, share=share)
    share.sum(0.0)  # nobody reads before the first process has written
    return run(recipe, out, resume=True, share=share)


if __name__ == "__main__":
    torch.set_num_threads(1)
    ours = joined("cpu")
    stopped_and_resumed(small(RECIPE, Path(sys.argv[1])), Path(sys.argv[2]), ours)
    ours.leave()
