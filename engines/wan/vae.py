"""Pixels <-> latents with a Wan autoencoder, in any manner of decoding.py; published in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from engines.sampling.finite import finite
from engines.wan import pieces
from engines.wan.decoding import FRAME_BY_FRAME, strips_of
from engines.wan.latents import denormalised, normalised
from engines.wan.strides import spatial_stride
from engines.wan.tiles import Strip, margin, strips


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
def decode(
    vae: AutoencoderKLWan, latents: torch.Tensor, *, apart: bool = False, strip: Strip | None = None
) -> Iterator[torch.Tensor]:
    """Normalised latents [B,C,F,h,w] -> video [B,3,T,H,W] in [-1,1] in pieces, one latent frame at a time.

    The first piece has one frame, every further one `temporal_stride`; together they are bit for bit what the class's
    own decode gives. The feature cache between pieces is let go when the generator ends, fails or is closed.

    Args:
        apart: the frames of a piece go through the last levels one after another: the same up to rounding.
        strip: which part of the longer side to decode; the pieces hold what is used of it.
    """
    states = vae.post_quant_conv(denormalised(latents.to(vae.device, torch.float32), vae.config).to(vae.dtype))
    try:
        vae.clear_cache()
        for index in range(states.shape[2]):
            vae._conv_idx = [0]
            piece = pieces.decoded(vae, states[:, :, index : index + 1], first=index == 0, apart=apart, strip=strip)
            if vae.config.patch_size is not None:
                piece = unpatchify(piece, patch_size=vae.config.patch_size)
            yield finite(piece.float(), role="vae", when="while decoding").clamp(-1, 1)
    finally:
        vae.clear_cache()


def decode_frames(
    vae: AutoencoderKLWan, latents: torch.Tensor, *, manner: str = "", rounded: bool = False
) -> Iterator[np.ndarray]:
    """Normalised latents [C,F,h,w] of one clip -> frames uint8 [T,H,W,3] in pieces, as `decode`.

    In strips the frames are whole only with the last of them: until then pieces of no frames say that it goes on.

    Args:
        manner: of engines/wan/decoding.py.
        rounded: values are rounded to whole levels, not truncated as Wan's own pipelines do.
    """
    count = strips_of(manner)
    if count == 1:
        with closing(decode(vae, latents[None], apart=manner == FRAME_BY_FRAME)) as found:
            for piece in found:
                yield _levels(piece, rounded=rounded)
        return
    stride, dim = spatial_stride(vae.config), pieces.longer(latents)
    clip: list[np.ndarray] = []
    for strip in strips(latents.shape[dim], count, margin=margin(vae.config)):
        with closing(decode(vae, latents[None], apart=True, strip=strip)) as found:
            for index, piece in enumerate(found):
                part = _levels(piece, rounded=rounded)
                if strip.first == 0:
                    height, width = (side * stride for side in latents.shape[-2:])
                    clip.append(np.empty((len(part), height, width, 3), np.uint8))
                used = slice(strip.first * stride, strip.last * stride)
                clip[index][(slice(None), used) if dim == -2 else (slice(None), slice(None), used)] = part
                yield clip[index] if strip.last == latents.shape[dim] else clip[index][:0]


def _levels(video: torch.Tensor, *, rounded: bool) -> np.ndarray:
    """Video [1,3,T,H,W] in [-1,1] -> uint8 [T,H,W,3] on the CPU."""
    levels = ((video[0] + 1) / 2 * 255 + (0.5 if rounded else 0)).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).cpu().contiguous().numpy()
