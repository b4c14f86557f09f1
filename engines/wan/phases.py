"""Which networks of Wan a clip uses at the same time, and what a run of each takes, for the estimate. Imports no torch.

What is said here of a run is what the run itself books: engines/wan/components.py plans by the same formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engines.memory import activations
from engines.sampling import caches
from engines.types import Need, Phase
from engines.wan import decoding
from engines.wan.strides import spatial_stride, temporal_stride

TEXT_LEN = 512  # tokens of a prompt that the published text encoder reads
BATCHED_TOKENS = 8_192
"""Below this many tokens a pass leaves the device half idle, and several passes are faster as one batch."""
TOGETHER, ONE_BY_ONE = "all passes at once", "one pass at a time"


def manners_of(
    working: Callable[[int], Callable[[int], int]], tokens: int, count: int, *, batched: int = BATCHED_TOKENS
) -> dict[str, Callable[[int], int]]:
    """The manners of `count` passes over so many tokens each: small ones in one batch, where there is the memory.

    Args:
        working: tokens in all -> bytes of activations for numbers of so many bytes.
        batched: up to how many tokens a pass is small.
    """
    if tokens > batched:
        return {"": working(tokens)}
    return {TOGETHER: working(count * tokens), ONE_BY_ONE: working(tokens)}


def latent_frames(config: Mapping[str, Any], frames: int) -> int:
    """Latent frames of a clip: the first alone, then one per temporal stride."""
    return (frames - 1) // temporal_stride(config) + 1


def tokens(transformer: Mapping[str, Any], vae: Mapping[str, Any], *, wide: int, high: int, latents: int) -> int:
    """Tokens of a pass over so many latent frames of `wide` x `high` pixels."""
    stride = spatial_stride(vae)
    return latents * (high // stride) * (wide // stride) // math.prod(transformer["patch_size"])


def reading(outlines: Mapping[str, Any]) -> Phase:
    """Prompts are read."""
    told = outlines["text_encoder"].facts | outlines["transformer"].facts
    working = partial(_text_bytes, outlines["text_encoder"].config, int(told.get("text_len", TEXT_LEN)))
    return Phase("Reading the prompt", (Need("text_encoder", {"": working}),))


def looking(outlines: Mapping[str, Any], device: str, *, wide: int, high: int, frames: int = 1) -> Phase:
    """Pictures, or `frames` frames of a clip, are encoded."""
    working = partial(_encoding_bytes, outlines["vae"].config, wide, high, frames, device)
    return Phase("Reading the pictures", (Need("vae", {"": working}),))


def denoising(
    config: Mapping[str, Any], count: int, passes: int, *, role: str = "transformer", step_cache: str = caches.NONE
) -> Need:
    """The transformer over `count` tokens: `passes` of guidance in one batch where they are small."""
    manners = manners_of(lambda tokens: partial(_pass_bytes, config, tokens), count, passes)
    kept = caches.CACHES[step_cache].kept(config) * count * passes
    return Need(role, {manner: plus(working, kept) for manner, working in manners.items()})


def single(
    config: Mapping[str, Any],
    count: int,
    *,
    role: str = "transformer",
    own_timesteps: bool = False,
    passes: int = 1,
    step_cache: str = caches.NONE,
) -> Need:
    """A transformer over `count` tokens in all, in each of `passes` one after another."""
    kept = caches.CACHES[step_cache].kept(config) * count * passes
    return Need(role, {"": plus(partial(_pass_bytes, config, count, own_timesteps=own_timesteps), kept)})


def plus(working: Callable[[int], int], numbers: int) -> Callable[[int], int]:
    """The bytes of a run that keeps so many numbers beside."""
    return lambda itemsize: working(itemsize) + numbers * itemsize


def decoded(outlines: Mapping[str, Any], device: str, *, wide: int, high: int) -> Phase:
    """The clip is decoded."""
    manners = decoding.manners(outlines["vae"].config, wide=wide, high=high, device=device)
    return Phase("Decoding", (Need("vae", manners),))


def _text_bytes(config: Mapping[str, Any], count: int, itemsize: int) -> int:
    return activations.text_encoder(config, tokens=count, itemsize=itemsize)


def _encoding_bytes(config: Mapping[str, Any], wide: int, high: int, frames: int, device: str, itemsize: int) -> int:
    told = {"wide": wide, "high": high, "itemsize": itemsize, "device": device}
    return activations.wan_encoder(config, frames=frames, **told)


def _pass_bytes(config: Mapping[str, Any], count: int, itemsize: int, *, own_timesteps: bool = False) -> int:
    return activations.wan_transformer(config, tokens=count, itemsize=itemsize, own_timesteps=own_timesteps)
