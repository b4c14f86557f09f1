"""The starter of Phantom-physics on scenes that it was not trained on, gone on from their first frames; its encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics.encoder import VideoEncoder
from engines.phantom_physics.keys import VIDEO_PREDICTOR
from engines.phantom_physics.latents import PhysicsSpace, encode
from engines.phantom_physics.spec import starter
from engines.phantom_physics.surprise import surprise
from engines.training.physics_clips import HELD_OUT
from engines.training.sample import load_vae
from engines.training.world.physics import GIVEN, SCENES, Scene, Split, constant_velocity, frozen, make_scene

from .figures import Figure, share
from .physics import average, measure
from .product import Product

SEED = 300
SPACE = PhysicsSpace(size=64, pool=1)
RESIDUALS: dict[Split, float] = {"inside": 0.25, "outside": 0.4}
TRAJECTORIES: dict[Split, float] = {"inside": 4.0, "outside": 6.0}  # pixels of 64
IN_WORDS: dict[Split, str] = {"inside": "in range", "outside": "out of range"}


def held_out(count: int, split: Split) -> list[Scene]:
    """So many scenes, every kind in turn."""
    names = list(SCENES)
    return [make_scene(names[index % len(names)], (SEED, HELD_OUT, index), split=split) for index in range(count)]


def measure_clips(folder: Path, transformer: Path, *, count: int, device: str) -> tuple[list[Figure], list[np.ndarray]]:
    """Figures of `count` clips of each range, and the clips; through the product's own engine."""
    from .starter import round_trip

    product = Product("phantom-physics", model=starter(folder), folder=folder, transformer=transformer, device=device)
    vae = load_vae(product.session.context(product.spec.name, product.model).paths("vae")[0])
    figures, made = [], []
    for split, target in RESIDUALS.items():
        scenes = held_out(count, split)
        clips = [
            product.make(scene.caption, (), clip=scene.frames()[:GIVEN], seed=index)
            for index, scene in enumerate(tqdm(scenes, desc=f"phantom-physics, {IN_WORDS[split]}", disable=None))
        ]
        seen = average([measure(clip, scene) for clip, scene in zip(clips, scenes, strict=True)])
        figures += [
            Figure(name=f"permanence, {IN_WORDS[split]}", value=100 * seen.permanence, target=90.0),
            Figure(name=f"law residual, {IN_WORDS[split]}", value=seen.residual, unit="", target=target, lower=True),
            Figure(
                name=f"trajectory error, {IN_WORDS[split]}",
                value=seen.trajectory,
                unit="px",
                target=TRAJECTORIES[split],  # without one a clip that stands still would pass for a good one
                lower=True,
            ),
        ]
        made += clips
    floor = average([measure(round_trip(vae, scene.frames()), scene) for scene in held_out(count, "inside")])
    figures.append(Figure(name="law residual of the autoencoder alone", value=floor.residual, unit=""))
    return figures, made


def measure_encoder(file: Path, *, count: int) -> list[Figure]:
    """What an encoder's features tell of a scene, and whether what cannot happen surprises it."""
    network = load(open_checkpoint([file]), VIDEO_PREDICTOR, dtype=torch.float32)
    fitted, tested = held_out(3 * count, "inside"), held_out(4 * count, "inside")[3 * count :]
    figures = [
        Figure(name="place of a disc read from its features", value=100 * probe(network, fitted, tested), target=90.0)
    ]
    for name, change in {"stops": frozen, "goes straight on": constant_velocity, "runs backwards": _backwards}.items():
        hits = [_surprised(network, scene, change(scene)) for scene in tested]
        figures.append(share(f"more surprised where it {name}", hits, target=90.0))
    return figures


def _backwards(scene: Scene) -> np.ndarray:
    frames = scene.frames()
    return np.concatenate([frames[:GIVEN], frames[GIVEN:][::-1]])


def _surprised(network: VideoEncoder, scene: Scene, changed: np.ndarray) -> bool:
    return surprise(network, changed, SPACE) > surprise(network, scene.frames(), SPACE)


def probe(network: VideoEncoder, fitted: list[Scene], tested: list[Scene]) -> float:
    """Share of the variance of the first disc's place that a ridge regression on the features of a moment explains."""

    def of(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
        features, places = [], []
        for scene in scenes:
            shown = scene.in_view()[::2]
            found = encode(network, scene.frames(), SPACE).transpose(0, 1).flatten(1).numpy()  # [N,C*h*w]
            features.append(found[shown])
            places.append(scene.centres[::2, 0][shown])
        return np.concatenate(features), np.concatenate(places)

    (x, y), (new_x, new_y) = of(fitted), of(tested)
    mean, spread, middle = x.mean(0), x.std(0) + 1e-6, y.mean(0)
    x, new_x = (x - mean) / spread, (new_x - mean) / spread
    # Ridge in the dual: there are about as many features as moments.
    weights = x.T @ np.linalg.solve(x @ x.T + 0.1 * x.shape[1] * np.eye(len(x)), y - middle)
    left = ((new_x @ weights + middle - new_y) ** 2).sum()
    return float(1 - left / ((new_y - new_y.mean(0)) ** 2).sum())
