"""Pixels <-> latents with a Wan autoencoder, never tiled (tiling changes the numbers); published in float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from engines.sampling.finite import finite
from engines.wan.latents import denormalised, normalised


def to_pixels(picture: np.ndarray) -> torch.Tensor:
    """Picture uint8 [H,W,3] -> one-frame video [1,3,1,H,W] in [-1,1]."""
    return (torch.from_numpy(picture.astype(np.float32)) / 255 * 2 - 1).permute(2, 0, 1)[None, :, None]


@torch.no_grad()
def encode(vae: AutoencoderKLWan, video: torch.Tensor) -> torch.Tensor:
    """Video [B,3,T,H,W] in [-1,1] -> normalised mean latents [B,C,F,h,w]; nothing is sampled.

    Frames after the last full 4n+1 are dropped, as published.
    """
    try:
        mean = vae.encode(video.to(vae.device, vae.dtype)).latent_dist.mode()
    finally:
        vae.clear_cache()
    return normalised(finite(mean.float(), role="vae", when="from a picture"), vae.config)


def encode_grey(vae: AutoencoderKLWan, *, width: int, height: int, frames: int) -> torch.Tensor:
    """The normalised latents [C,F,h,w] of a clip of mid grey; one pixel of it is all the memory its video takes."""
    grey = torch.zeros(1, 1, 1, 1, 1, device=vae.device, dtype=vae.dtype)
    return encode(vae, grey.expand(1, 3, frames, height, width))[0]


@torch.no_grad()
def decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Normalised latents [B,C,F,h,w] -> video [B,3,T,H,W] in [-1,1] in pieces, one latent frame at a time.

    The first piece has one frame, every further one `temporal_stride`; together they are bit for bit what the class's
    own decode gives. The feature cache between pieces is let go when the generator ends, fails or is closed.
    """
    states = vae.post_quant_conv(denormalised(latents.to(vae.device, torch.float32), vae.config).to(vae.dtype))
    try:
        vae.clear_cache()
        for index in range(states.shape[2]):
            vae._conv_idx = [0]
            piece = vae.decoder(
                states[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                first_chunk=index == 0,
            )
            if vae.config.patch_size is not None:
                piece = unpatchify(piece, patch_size=vae.config.patch_size)
            yield finite(piece.float(), role="vae", when="while decoding").clamp(-1, 1)
    finally:
        vae.clear_cache()


def decode_frames(vae: AutoencoderKLWan, latents: torch.Tensor, *, rounded: bool = False) -> Iterator[np.ndarray]:
    """Normalised latents [C,F,h,w] of one clip -> frames uint8 [T,H,W,3] in pieces, as `decode`.

    Values are truncated to whole levels as Wan's own pipelines do, or `rounded`.
    """
    pieces = decode(vae, latents[None])
    try:
        for piece in pieces:
            levels = ((piece[0] + 1) / 2 * 255 + (0.5 if rounded else 0)).to(torch.uint8)
            yield levels.permute(1, 2, 3, 0).cpu().contiguous().numpy()
    finally:
        pieces.close()
