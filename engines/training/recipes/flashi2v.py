"""The FlashI2V starter: the text-to-video base learns to begin with a picture, in the published way or in two others.

The text encoder is the base's, frozen, so the starters share it. `variant` is "full" (latent shifting and Fourier
guidance, as published), "concatenation" (the plain first-frame latent beside the clip, no shift) or "shift" (no
Fourier features): the paper's comparison, with the same seeds, data and steps. Objective: engines/training/shifted.py.
"""

import dataclasses
from pathlib import Path

import torch

from engines.flashi2v.network import PROJECTION_WIDTH, FlashI2VTransformer3DModel, ShiftProjection, Variant

from .. import networks
from ..attention import written_out
from ..files import read_network
from ..flow import noise_like
from ..recipe import Stage
from ..shifted import draw_shifted_sigmas, dynamic_shift, shifted_input
from ..world import WorldConfig
from .flow_task import FlowRecipe, FlowTask

WORLD = WorldConfig(
    subject_shares=(0.4, 0.45, 0.15, 0.0),
    two_subjects=0.15,
    paraphrase=0.3,
    photo_background=0.12,
    empty_photo=0.25,
    camera=0.85,
)
SMALL = dataclasses.replace(WORLD, width=64, height=48, frames=17)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlashI2VRecipe(FlowRecipe):
    """Settings of a run."""

    variant: Variant = "full"
    projection_kernel: tuple[int, int, int] = (1, 3, 3)
    ratio_low: float = 0.05  # the low-frequency ratio is drawn for each sample between these
    ratio_high: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in ("full", "concatenation", "shift"):
            raise ValueError(f"variant must be full, concatenation or shift, not {self.variant!r}.")


RECIPE = FlashI2VRecipe(
    name="flashi2v",
    # Steps, not minutes: the variants are compared after the same number of them.
    steps=2000,
    stages=(Stage(until=600, batch=16, world=SMALL), Stage(until=10**9, batch=8, world=WORLD)),
    learning_rate=8e-4,
    decay_share=0.5,
    drop_text=0.1,
    transformer_file="flashi2v.safetensors",
    start="assets/starter",
)


class FlashI2VTask(FlowTask):
    """Velocity of the whole clip, the first frame included; the picture is never dropped."""

    recipe: FlashI2VRecipe

    def build_transformer(self) -> FlashI2VTransformer3DModel:
        """The base with the picture's paths: Fourier's at zero, the shift as the first frame itself."""
        recipe = self.recipe
        width = max(PROJECTION_WIDTH, 2 * networks.TRANSFORMER["in_channels"])  # room for the identity
        told = {"variant": recipe.variant, "projection_kernel": recipe.projection_kernel, "projection_width": width}
        if not recipe.start:
            network = FlashI2VTransformer3DModel(**networks.TRANSFORMER, **told)
            torch.nn.init.zeros_(network.proj_out.weight)
            torch.nn.init.zeros_(network.proj_out.bias)
            return network
        tensors, facts = read_network(Path(recipe.start) / "wan_t2v.safetensors")
        network = FlashI2VTransformer3DModel(**facts["config"], **told)
        missing, unexpected = network.load_state_dict(tensors, strict=False)
        if unexpected or not all("fourier_embedding" in name or "learnable_proj" in name for name in missing):
            raise ValueError(f"wan_t2v.safetensors in {recipe.start} does not fit the network it describes.")
        if recipe.variant != "concatenation":
            subtract_the_first_frame(network.learnable_proj)
        return network

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean squared velocity error; what a clip's first latent frame holds is the picture encoded alone."""
        clean, recipe = batch["latents"], self.recipe
        count, _, frames, height, width = clean.shape
        sigmas = draw_shifted_sigmas(count, rng, factor=dynamic_shift(height * width)).to(clean.device)
        noise = noise_like(clean, rng)
        span = recipe.ratio_high - recipe.ratio_low
        ratio = (recipe.ratio_low + span * torch.rand(count, generator=rng)).to(clean.device)
        shift, features = self.transformer.shift_and_features(clean[:, :, :1], frames=frames, ratio=ratio)
        seen, timesteps, velocity = shifted_input(clean, noise, sigmas, shift)
        states = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=recipe.text_len)
        with written_out(enabled=clean.device.type == "cpu"):
            inputs = torch.cat([seen, features], 1)
            predicted = self.transformer(inputs, timesteps, states, return_dict=False)[0]
        errors = (predicted.float() - velocity).square().mean((1, 3, 4))
        first, later = errors[:, 0].mean(), errors[:, 1:].mean()
        return errors.mean(), {"loss_first": float(first.detach()), "loss_later": float(later.detach())}


@torch.no_grad()
def subtract_the_first_frame(projection: ShiftProjection) -> None:
    """Set a fresh projection to the identity: silu(x) - silu(-x) = x.

    The published run starts it at zero; in one so much shorter it stays there, and the picture is drowned in the noise
    (after 3000 steps the shift was a tenth of the latents, and clips hardly began with their pictures).
    """
    first, last = projection[0], projection[2]
    channels, middle = first.in_channels, tuple(side // 2 for side in first.kernel_size)
    same = torch.eye(channels)
    for row, sign in ((0, 1.0), (channels, -1.0)):
        hidden = slice(row, row + channels)
        first.weight[hidden] = 0
        first.weight[hidden, :, *middle] = sign * same
        last.weight[:, hidden, *middle] = sign * same


def build(recipe: FlashI2VRecipe) -> FlashI2VTask:
    """The task of this recipe."""
    return FlashI2VTask(recipe)
