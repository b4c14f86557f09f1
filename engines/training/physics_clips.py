"""Batches of the physics world: simulated clips and their captions in tokens; the same for the same step.

Seeds of training begin with the recipe's own number and `TRAINING`; held-out ones never do.
"""

from __future__ import annotations

import numpy as np
import torch

from .data import own_numbers, pad_tokens
from .latents import to_unit
from .recipe import Recipe
from .world.physics import SCENES, Scene, make_scene

TRAINING, HELD_OUT = 1, 2  # second number of a scene's seed


def training_scene(seed: int, step: int, index: int) -> Scene:
    """Clip `index` of the batch of a step: any scene, its parameters from the training range."""
    rng = np.random.default_rng((seed, TRAINING, step, index))
    return make_scene(str(rng.choice(list(SCENES))), (seed, TRAINING, step, index, 1))


class PhysicsClips(torch.utils.data.Dataset):
    """Step index -> `video` [B,3,33,64,64] in [-1,1] and, with a tokenizer, `ids` and `mask` [B,L]."""

    def __init__(self, recipe: Recipe, tokenizer: object | None = None, *, text_len: int = 0, drop_text: float = 0.0):
        self.recipe, self.tokenizer = recipe, tokenizer
        self.text_len, self.drop_text = text_len, drop_text

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        seed, count = self.recipe.seed, self.recipe.stage(step).batch
        scenes = [training_scene(seed, step, index) for index in range(count)]
        batch = {"video": torch.stack([to_unit(scene.frames()) for scene in scenes])}
        if self.tokenizer is not None:
            dropped = own_numbers(seed, TRAINING, step).random(count) < self.drop_text
            texts = ["" if drop else scene.caption for scene, drop in zip(scenes, dropped, strict=True)]
            rows = [self.tokenizer(text)["input_ids"] for text in texts]
            batch["ids"], batch["mask"] = pad_tokens(rows, longest=self.text_len)
        return batch
