"""Sampling while training: a private loop to look at what a network has learned. The product has its own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from engines.pyramid_flow.vae import CausalVideoVAE
from engines.sampling.denoise import TRAINING_STEPS
from engines.wan.starter import FIRST_VAE
from engines.wan.strides import spatial_stride, temporal_stride

from . import networks
from .data import fit_on_canvas, pad_tokens
from .files import read_network
from .latents import BlockLatents, Blocks, to_levels, to_unit
from .recipes.flow_task import load_text
from .tokens import load_tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How to sample. Scales as in the published systems; `image_scale` only counts with references."""

    width: int = 96
    height: int = 64
    frames: int = 33
    steps: int = 12
    shift: float = 3.0
    text_scale: float = 4.0
    image_scale: float = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starter:
    """A set of starter networks ready to sample. `decode` and `encode` map latents [B,Z,F,h,w] and video.

    One latent stands for `blocks`: space x space pixels, and time frames after the first.
    """

    blocks: Blocks
    transformer: WanTransformer3DModel
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerFast
    encode: Callable[[torch.Tensor], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    text_len: int

    def latent_shape(self, settings: Settings) -> tuple[int, int, int, int]:
        """[Z, F, h, w]."""
        space, time = self.blocks
        frames = (settings.frames - 1) // time + 1
        return self.transformer.config.in_channels, frames, settings.height // space, settings.width // space

    @torch.inference_mode()
    def states(self, prompts: list[str]) -> torch.Tensor:
        """Prompts -> text states [B, text_len, D]."""
        ids, mask = pad_tokens([self.tokenizer(prompt)["input_ids"] for prompt in prompts], longest=self.text_len)
        return networks.text_states(self.text_encoder, ids, mask, text_len=self.text_len)

    @torch.inference_mode()
    def references(self, pictures: list[np.ndarray], settings: Settings) -> torch.Tensor:
        """Reference pictures uint8 -> latents [Z,R,h,w]."""
        size = {"width": settings.width, "height": settings.height}
        padded = torch.stack([to_unit(fit_on_canvas(picture, **size)[None]) for picture in pictures])
        return self.encode(padded)[:, :, 0].transpose(0, 1)


def load_vae(path: Path) -> AutoencoderKLWan:
    """A starter VAE file as a network."""
    tensors, facts = read_network(path)
    vae = AutoencoderKLWan(**facts["config"])
    vae.load_state_dict(tensors)
    return vae.eval()


def load_pyramid_vae(path: Path) -> CausalVideoVAE:
    """The starter autoencoder of Pyramid Flow in a file."""
    tensors, facts = read_network(path)
    vae = CausalVideoVAE(**facts["config"])
    vae.load_state_dict(tensors)
    return vae.eval()


def load_starter(
    folder: Path, *, transformer: str | Path = "wan_t2v.safetensors", files: Path | None = None, linear: bool = False
) -> Starter:
    """Read a starter from a folder; `files` holds the parts that are not in it; `linear` decodes without the VAE."""
    files = files or folder

    def part(name: str | Path) -> Path:
        return next((path for path in (folder / name, files / name) if path.exists()), Path(name))

    tensors, facts = read_network(part(transformer))
    network = WanTransformer3DModel(**facts["config"])
    network.load_state_dict(tensors)
    text_encoder = networks.build_text_encoder()
    load_text(text_encoder, part("text_encoder.safetensors"))
    if linear:
        code = BlockLatents.load(part(facts["recipe"]["recipe"]["latents_file"]))
        encode, decode, blocks = code.encode, code.decode, Blocks(code.space, code.time)
    else:
        vae = load_vae(part(facts.get("vae", FIRST_VAE)))
        blocks = Blocks(spatial_stride(vae.config), temporal_stride(vae.config))

        def encode(video: torch.Tensor) -> torch.Tensor:
            return vae.encode(video).latent_dist.mode()

        def decode(latents: torch.Tensor) -> torch.Tensor:
            return vae.decode(latents).sample

    return Starter(
        blocks=blocks,
        transformer=network.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=load_tokenizer(part("tokenizer")),
        encode=encode,
        decode=decode,
        text_len=facts["text_len"],
    )


@torch.inference_mode()
def sample(
    starter: Starter,
    prompts: list[str],
    *,
    settings: Settings,
    references: list[list[np.ndarray]] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Videos uint8 [B,T,H,W,3] for prompts; all must bring the same number of references (or none)."""
    count = len(references[0]) if references else 0
    shape = starter.latent_shape(settings)
    state = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed + index)) for index in range(len(prompts))]
    )
    text, none = starter.states(prompts), starter.states([""]).expand(len(prompts), -1, -1)
    if count:
        shown = torch.stack([starter.references(pictures, settings) for pictures in references])
        passes = [(text, shown), (none, shown), (none, torch.zeros_like(shown))]
    else:
        passes = [(text, None), (none, None)]
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=settings.shift,
        num_train_timesteps=TRAINING_STEPS,
    )
    scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, settings.steps + 1)[:-1])
    for t in scheduler.timesteps:
        outputs = []
        for states, shown in passes:
            inputs = state if shown is None else torch.cat([state, shown], 2)
            times = t.expand(len(prompts))
            with torch.autocast("cpu", torch.bfloat16):
                velocity = starter.transformer(inputs, times, states, return_dict=False)[0]
            outputs.append(velocity[:, :, : state.shape[2]].float())
        if count:
            both, picture, nothing = outputs
            velocity = nothing + settings.image_scale * (picture - nothing) + settings.text_scale * (both - picture)
        else:
            both, nothing = outputs
            velocity = nothing + settings.text_scale * (both - nothing)
        state = scheduler.step(velocity, t, state, return_dict=False)[0]
    return to_levels(starter.decode(state))


def contact_sheet(
    videos: list[np.ndarray] | np.ndarray, *, columns: int = 5, references: list[list[np.ndarray]] | None = None
) -> np.ndarray:
    """One row a video [B,T,H,W,3]: its references on white, then `columns` frames over the clip; uint8 RGB.

    A video with fewer references than another has white in their place.
    """
    height, width = videos[0].shape[1:3]
    picks = np.linspace(0, len(videos[0]) - 1, columns).round().astype(int)
    rows = []
    most = max(map(len, references[: len(videos)]), default=0) if references else 0
    for index, video in enumerate(videos):
        given = references[index] if references else []
        shown = [fit_on_canvas(picture, width=width, height=height) for picture in given]
        shown += [np.full((height, width, 3), 255, np.uint8)] * (most - len(given))
        row = np.concatenate([*shown, *video[picks]], 1)
        rows.append(np.pad(row, ((0, 2), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(rows, 0)
