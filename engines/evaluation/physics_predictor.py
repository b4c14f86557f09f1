"""A trained arm of the physics experiment as something that goes on from given frames, without the studio around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from engines.loading.checkpoints import load, open_checkpoint
from engines.phantom_physics.checkpoint import architecture, settings_of
from engines.phantom_physics.keys import VISUAL
from engines.phantom_physics.latents import tubelet_count
from engines.phantom_physics.sampling import Latents, Sampler, denoise, draw_noise
from engines.sampling.denoise import unipc
from engines.training import networks
from engines.training.data import pad_tokens
from engines.training.latents import BlockLatents, to_levels, to_unit
from engines.training.physics_branch import Targets
from engines.training.recipes.flow_task import load_text
from engines.training.recipes.phantom_physics_starter import StarterRecipe, eyes_of
from engines.training.sample import load_vae
from engines.training.tokens import load_tokenizer
from engines.training.world.physics import GIVEN, Scene

STEPS = 12


class Predictor:
    """The networks of one arm.

    Args:
        recipe: how it was trained.
        file: what its training exported.
    """

    def __init__(self, recipe: StarterRecipe, file: Path) -> None:
        self.recipe, files = recipe, Path(recipe.files)
        opened = open_checkpoint([file])
        self.visual = load(opened, VISUAL, dtype=torch.float32)
        self.branch, self.targets = None, None
        if recipe.arm != "none":
            self.branch = load(opened, architecture(settings_of([file])), dtype=torch.float32)
            eyes = eyes_of(recipe, self.branch.config.in_channels)
            self.targets = Targets(eyes, recipe.space, self.branch.physics_latents)
            self.branch.join(self.visual)
        self.code = BlockLatents.load(files / recipe.latents_file)
        self.vae = load_vae(files / recipe.vae_file)
        self.tokenizer = load_tokenizer(files / "tokenizer")
        self.text_encoder = networks.build_text_encoder()
        load_text(self.text_encoder, files / "text_encoder.safetensors")

    @torch.no_grad()
    def go_on(self, scene: Scene, *, seed: int) -> np.ndarray:
        """The clip uint8 [33,64,64,3] that begins with the first frames of `scene`; no guidance."""
        video = to_unit(scene.frames())
        latents = self.code.encode(video[None, :, :GIVEN])[0]
        shape = (latents.shape[0], (video.shape[1] - 1) // self.code.time + 1, *latents.shape[2:])
        felt, physics = None, None
        if self.targets is not None:
            felt = self.targets.look(video[None, :, :GIVEN])[0]
            physics = (felt.shape[0], tubelet_count(video.shape[1]), *felt.shape[2:])
        ids, mask = pad_tokens([self.tokenizer(scene.caption)["input_ids"]], longest=self.recipe.text_len)
        text = networks.text_states(self.text_encoder, ids, mask, text_len=self.recipe.text_len)[0]
        sampler = Sampler(self.visual, self.branch, conditions={"cond": text}, weights={"cond": 1.0}, batched=True)
        *_, last = denoise(
            sampler,
            draw_noise(shape, physics, seed=seed),
            given=Latents(latents, felt),
            scheduler=lambda: unipc(STEPS, shift=self.recipe.shift),
        )
        return to_levels(self.vae.decode(last.latents.visual[None]).sample)[0]
