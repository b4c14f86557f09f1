"""One latent frame through the decoder of a Wan autoencoder, in less memory than the class's own forward.

Its last levels, where time is no longer stretched, are most of its memory: their causal convolutions remember what they
need of the frames before, so the frames may go through one after another. After the middle block nothing looks further
than a few pixels, so a strip of the picture may go through alone.
Source: diffusers' WanDecoder3d.forward.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import CACHE_T, WanResample

from engines.wan.strides import spatial_stride
from engines.wan.tiles import Strip


def longer(latents: torch.Tensor) -> int:
    """The dimension that strips cut: -2 of a picture that is taller than wide, else -1."""
    return -2 if latents.shape[-2] > latents.shape[-1] else -1


def decoded(
    vae: AutoencoderKLWan, states: torch.Tensor, *, first: bool, apart: bool, strip: Strip | None
) -> torch.Tensor:
    """One latent frame [B,C,1,h,w] -> its frames as the decoder gives them, before pixels are unfolded.

    Args:
        first: whether it is the clip's first, which is one frame.
        apart: whether its frames go through the last levels one after another.
        strip: the part of the longer side that is decoded; what is used of it comes back.
    """
    decoder, cache, index = vae.decoder, vae._feat_map, vae._conv_idx
    if not apart and strip is None:
        return decoder(states, feat_cache=cache, feat_idx=index, first_chunk=first)
    dim = longer(states)
    hidden = _remembering(decoder.conv_in, states, cache, index)
    hidden = decoder.mid_block(hidden, feat_cache=cache, feat_idx=index)
    if strip is not None:
        hidden = hidden.narrow(dim, strip.begin, strip.size)
    stretching = _stretching(decoder)
    for block in decoder.up_blocks[:stretching]:
        hidden = block(hidden, feat_cache=cache, feat_idx=index, first_chunk=first)
    frames, begin = [], index[0]
    for frame in hidden.split(1, dim=2):
        index[0] = begin
        for block in decoder.up_blocks[stretching:]:
            frame = block(frame, feat_cache=cache, feat_idx=index, first_chunk=first)
        frame = _remembering(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(frame)), cache, index)
        frames.append(_used(frame, vae, dim, strip))
    return torch.cat(frames, dim=2)


def _stretching(decoder: Any) -> int:
    """How many of the decoder's levels, from the first, stretch time or come before one that does."""
    stretches = [
        any(isinstance(part, WanResample) and part.mode == "upsample3d" for part in block.modules())
        for block in decoder.up_blocks
    ]
    return max((index + 1 for index, one in enumerate(stretches) if one), default=0)


def _used(frame: torch.Tensor, vae: AutoencoderKLWan, dim: int, strip: Strip | None) -> torch.Tensor:
    """What is used of a strip's frame, where a folded pixel is still one."""
    if strip is None:
        return frame
    grain = spatial_stride(vae.config) // (vae.config.patch_size or 1)
    return frame.narrow(dim, (strip.first - strip.begin) * grain, (strip.last - strip.first) * grain).clone()


def _remembering(layer: Any, hidden: torch.Tensor, cache: list[Any], index: list[int]) -> torch.Tensor:
    """A causal convolution over `hidden` and the frames before, of which it keeps the last for the next call."""
    kept, before = hidden[:, :, -CACHE_T:].clone(), cache[index[0]]
    if kept.shape[2] < CACHE_T and before is not None:
        kept = torch.cat([before[:, :, -1:], kept], dim=2)
    result = layer(hidden, before)
    cache[index[0]] = kept
    index[0] += 1
    return result
