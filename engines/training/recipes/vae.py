"""The starter VAE: encoder taught the block latents, decoder trained on them.

First only the skeleton trains (input, resampling and output convolutions; every residual block passes its input on):
it is cheap, nearly linear, and is at 25 dB within minutes. Then the residual blocks join, starting from zero.
"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import nn

from .. import networks
from ..files import read_network, save_network
from ..flow import noise_like
from ..latents import BlockLatents, to_unit
from ..recipe import Recipe, Stage
from ..world import WorldConfig, make_clip

FILE, CODE = "wan_vae.safetensors", "wan_code.safetensors"
WORLD = WorldConfig(
    frames=9,
    subject_shares=(0.25, 0.5, 0.2, 0.05),
    two_subjects=0.3,
    three_or_four=0.03,
    photo_background=0.1,
    empty_photo=0.12,
    camera=0.7,
    references=False,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeRecipe(Recipe):
    """Settings of the VAE run."""

    latents_file: str = CODE
    skeleton_steps: int = 1500
    encoder_every: int = 1
    object_weight: float = 8.0
    photo_weight: float = 1.5
    latent_noise: float = 0.02
    own_latents_from: int = 1500  # from this step on some samples decode what the encoder itself makes
    joint_from: int = 10**9  # from this step on the picture loss reaches the encoder too
    sizes: tuple[tuple[int, int, int], ...] = ((96, 64, 9), (96, 64, 9), (64, 64, 9), (96, 64, 17), (128, 64, 5))


RECIPE = VaeRecipe(
    name="vae",
    steps=12_000,
    minutes=75.0,
    stages=(Stage(until=10**9, batch=4, world=WORLD),),
    learning_rate=5e-4,  # of a file that is trained on, as the shipped one was; from nothing 2e-3 is quicker
    weight_decay=0.0,
    ema=0.997,
    decay_share=0.5,
)


class VaeDataset(torch.utils.data.Dataset):
    """Step index -> `video` [B,3,T,H,W] in [-1,1] and `weights` [B,1,T,H,W] of its pixels."""

    def __init__(self, recipe: VaeRecipe) -> None:
        self.recipe = recipe

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        recipe, stage = self.recipe, self.recipe.stage(step)
        width, height, frames = recipe.sizes[step % len(recipe.sizes)]
        world = dataclasses.replace(stage.world, width=width, height=height, frames=frames)
        count = stage.batch if frames <= 9 else max(1, stage.batch // 2)
        clips = [make_clip((recipe.seed, step, index), world, with_masks=True) for index in range(count)]
        masks = torch.from_numpy(np.stack([clip.masks for clip in clips]))[:, None]
        photos = torch.tensor([float(not clip.tracks) for clip in clips]).view(-1, 1, 1, 1, 1)
        weights = 1 + (recipe.object_weight - 1) * (masks > 0.02) + (recipe.photo_weight - 1) * photos
        return {"video": torch.stack([to_unit(clip.frames) for clip in clips]), "weights": weights}


def _pass_on(self, x, feat_cache=None, feat_idx=(0,)):
    return self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x


@contextlib.contextmanager
def skeleton(vae: AutoencoderKLWan):
    """Inside, residual and middle blocks pass their input on."""
    blocks = [m for m in vae.modules() if type(m).__name__ in ("WanResidualBlock", "WanMidBlock")]
    for block in blocks:
        block.forward = _pass_on.__get__(block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def prepare(vae: AutoencoderKLWan) -> None:
    """Start residual branches at zero, give the output norm one constant channel (so that it keeps scale at first),
    and lay weights out channels last."""
    with torch.no_grad():
        for module in vae.modules():
            if type(module).__name__ == "WanResidualBlock":
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
            if type(module).__name__ == "WanAttentionBlock":
                module.proj.weight.zero_()
                module.proj.bias.zero_()
        shortcut = vae.decoder.up_blocks[-1].resnets[0].conv_shortcut
        if isinstance(shortcut, nn.Conv3d):
            shortcut.weight[0].zero_()
            shortcut.bias[0] = 3.0
        lay_out(vae)


def lay_out(vae: nn.Module) -> None:
    """Channels-last weights: 1.5 to 2 times faster on a CPU."""
    for parameter in vae.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        elif parameter.dim() == 4 and parameter.shape[-1] > 1:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def decode_unclamped(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The class's own decode without its clamp, which has no gradient outside [-1,1]."""
    vae.clear_cache()
    hidden, parts = vae.post_quant_conv(latents), []
    for index in range(latents.shape[2]):
        vae._conv_idx = [0]
        frame = hidden[:, :, index : index + 1]
        parts.append(vae.decoder(frame, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=index == 0))
    vae.clear_cache()
    video = torch.cat(parts, 2)
    return video if vae.config.patch_size is None else unpatchify(video, patch_size=vae.config.patch_size)


def noisy(latents: torch.Tensor, rng: torch.Generator, most: float) -> torch.Tensor:
    """Latents with noise of up to `most` deviations, another amount for each clip of the batch."""
    amount = torch.rand(len(latents), 1, 1, 1, 1, generator=rng) * most
    return latents + amount.to(latents.device) * noise_like(latents, rng)


class VaeTask:
    """Encoder regression to the block latents and decoder training on them."""

    def __init__(self, recipe: VaeRecipe) -> None:
        self.recipe, self.step = recipe, 0
        self.code = BlockLatents.load(Path(recipe.files) / recipe.latents_file)
        self.vae = networks.build_vae()
        prepare(self.vae)
        if recipe.start:
            self.vae.load_state_dict(read_network(Path(recipe.start) / FILE)[0])
            lay_out(self.vae)

    def networks(self) -> dict[str, nn.Module]:
        """The VAE."""
        return {"vae": self.vae}

    def dataset(self) -> VaeDataset:
        """World clips with pixel weights."""
        return VaeDataset(self.recipe)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Weighted picture error of the decoder plus latent error of the encoder."""
        recipe, video = self.recipe, batch["video"]
        bare = step < recipe.skeleton_steps
        with skeleton(self.vae) if bare else contextlib.nullcontext():
            wanted = self.code.to(video.device).encode(video)
            latents, figures, total = wanted, {}, 0.0
            if bare or step % recipe.encoder_every == 0:
                own = self.vae.encode(video.contiguous(memory_format=torch.channels_last_3d)).latent_dist.mode().float()
                latent_error = (own - wanted).square().mean()
                figures["latent_error"] = float(latent_error.detach())
                total = total + latent_error
                if step >= recipe.own_latents_from:
                    joint = step >= recipe.joint_from
                    latents = torch.cat([(own if joint else own.detach())[: len(own) // 2], wanted[len(own) // 2 :]])
            latents = noisy(latents, rng, recipe.latent_noise)
            latents = latents.contiguous(memory_format=torch.channels_last_3d)
            error = decode_unclamped(self.vae, latents).float() - video
        weights = batch["weights"] / batch["weights"].mean()
        picture_error = (error.square() * weights).mean() + 0.05 * (error.abs() * weights).mean()
        plain = error.detach().square().mean((1, 2, 3, 4)) / 4
        figures["psnr"] = float((-10 * plain.clamp_min(1e-8).log10()).mean())
        return total * 0.3 + picture_error * 4, figures

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Write the starter file with the preview factors."""
        facts = {
            "class": "AutoencoderKLWan",
            "config": dict(networks.VAE),
            "rgb_factors": rgb_factors(self.code),
            "recipe": record,
        }
        save_network(folder / FILE, weights["vae"], facts=facts)


def rgb_factors(code: BlockLatents, *, clips: int = 60) -> dict[str, Any]:
    """Least-squares map from latents to the mean colour of their block, for previews: weight [Z][3] and bias [3]."""
    world = dataclasses.replace(WORLD, frames=9)
    video = torch.stack([to_unit(make_clip((11, index), world).frames) for index in range(clips)])
    latents = code.encode(video)
    small = nn.functional.avg_pool3d(video, (1, code.space, code.space))
    colour = torch.cat([small[:, :, :1], nn.functional.avg_pool3d(small[:, :, 1:], (code.time, 1, 1))], 2)
    inputs = latents.movedim(1, -1).flatten(0, -2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    solution = torch.linalg.lstsq(inputs, colour.movedim(1, -1).flatten(0, -2)).solution
    return {"weight": solution[:-1].tolist(), "bias": solution[-1].tolist()}


def build(recipe: VaeRecipe) -> VaeTask:
    """The task of this recipe."""
    return VaeTask(recipe)
