"""The causal autoencoder of the Pyramid Flow starter, taught as the Wan starter's: its latents are given.

It begins as a linear code of 4x4x8 blocks and its inverse; the encoder learns the code of a video's first frame, the
decoder to undo the code better than linearly.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engines.pyramid_flow.vae import CausalVideoVAE

from .. import networks
from ..files import read_network, save_network
from ..latents import BlockLatents
from ..linear_start import write_code
from .vae import RECIPE as WAN_RECIPE
from .vae import VaeDataset, VaeRecipe, lay_out, noisy, rgb_factors

FILE, CODE = "pyramid_vae4.safetensors", "pyramid_code4.safetensors"
WIDTHS = [24, 48, 96]
NETWORK: dict[str, Any] = {
    "encoder_out_channels": networks.PYRAMID_CHANNELS,
    "encoder_block_out_channels": WIDTHS,
    "encoder_layers_per_block": [1, 1, 1],
    "encoder_spatial_down_sample": [True, True, False],
    "encoder_temporal_down_sample": [True, True, True],
    "encoder_norm_num_groups": 8,
    "decoder_in_channels": networks.PYRAMID_CHANNELS,
    "decoder_block_out_channels": WIDTHS,
    "decoder_layers_per_block": [1, 1, 1],
    "decoder_spatial_up_sample": [False, True, True],
    "decoder_temporal_up_sample": [True, True, True],
    "decoder_norm_num_groups": 8,
}
# The code has mean square 1 for pictures and videos alike, so nothing is shifted or scaled.
STATISTICS = {"picture_shift": 0.0, "picture_scale": 1.0, "video_shift": 0.0, "video_scale": 1.0}

RECIPE = dataclasses.replace(
    WAN_RECIPE,
    name="pyramid-vae",
    sizes=((96, 64, 9), (96, 64, 9), (64, 96, 9), (96, 64, 17), (64, 64, 17)),
    learning_rate=3e-4,
    own_latents_from=200,
    latents_file=CODE,
)


def build_vae(code: BlockLatents) -> CausalVideoVAE:
    """An autoencoder that begins as the code."""
    vae = CausalVideoVAE(**NETWORK)
    write_code(vae, code)
    lay_out(vae)
    return vae


class PyramidVaeTask:
    """Encoder regression to the block latents, and decoder training on them."""

    def __init__(self, recipe: VaeRecipe) -> None:
        self.recipe = recipe
        self.code = BlockLatents.load(Path(recipe.files) / recipe.latents_file)
        self.vae = build_vae(self.code)
        if recipe.start:
            self.vae.load_state_dict(read_network(Path(recipe.start) / FILE)[0])

    def networks(self) -> dict[str, nn.Module]:
        """The autoencoder."""
        return {"vae": self.vae}

    def dataset(self) -> VaeDataset:
        """World clips with pixel weights."""
        return VaeDataset(self.recipe)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted picture error of the decoder plus latent error of the encoder."""
        recipe, video = self.recipe, batch["video"]
        wanted = self.code.to(video.device).encode(video)
        latents, figures, total = wanted, {}, 0.0
        if step % recipe.encoder_every == 0:
            own = self.vae.encode(video, {}).float().chunk(2, dim=1)[0]
            latent_error = (own - wanted).square().mean()
            figures["latent_error"] = float(latent_error.detach())
            total = total + latent_error
            if step >= recipe.own_latents_from:
                given = own if step >= recipe.joint_from else own.detach()
                latents = torch.cat([given[: len(own) // 2], wanted[len(own) // 2 :]])
        latents = noisy(latents, rng, recipe.latent_noise)
        error = self.vae.decode(latents, {}).float() - video
        weights = batch["weights"] / batch["weights"].mean()
        picture_error = (error.square() * weights).mean() + 0.05 * (error.abs() * weights).mean()
        plain = error.detach().square().mean((1, 2, 3, 4)) / 4
        figures["psnr"] = float((-10 * plain.clamp_min(1e-8).log10()).mean())
        return total * 0.3 + picture_error * 4, figures

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Write the autoencoder's starter file with its statistics and the preview factors."""
        facts = {
            "class": "CausalVideoVAE",
            "config": dict(NETWORK),
            "statistics": STATISTICS,
            "rgb_factors": rgb_factors(self.code),
            "recipe": record,
        }
        save_network(folder / FILE, weights["vae"], facts=facts)


def build(recipe: VaeRecipe) -> PyramidVaeTask:
    """The task of this recipe."""
    return PyramidVaeTask(recipe)
