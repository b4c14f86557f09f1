"""One forward pass of a Wan video transformer, and how much memory it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from engines.adapters.applying import at_step
from engines.sampling.guidance import NetworkCall
from engines.wan import text_memory
from engines.wan.phases import BATCHED_TOKENS as BATCHED_TOKENS


@torch.no_grad()
def predict(
    network: WanTransformer3DModel,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    *,
    image: torch.Tensor | None = None,
    call: NetworkCall | None = None,
) -> torch.Tensor:
    """Velocity [B,C,F,h,w] in float32, computed in the network's own precision.

    Args:
        latents: [B,C,F,h,w], for image-to-video with the condition's channels appended.
        timestep: whole number(s) in 0..1000, a scalar for the whole batch, [B], or of every token [B,L] (Wan 2.2 5B).
        text: padded text states [B,text_len,D].
        image: image states [B,257,1280] of image-to-video networks.
        call: which passes at which step these are, for caches of step results.
    """
    dtype = network.patch_embedding.weight.dtype
    with told(network, call):
        velocity = network(
            hidden_states=latents.to(dtype),
            timestep=timestep.to(latents.device).expand(latents.shape[0], *timestep.shape[1:]),
            encoder_hidden_states=text.to(latents.device, dtype),
            encoder_hidden_states_image=None if image is None else image.to(latents.device, dtype),
            return_dict=False,
        )[0]
    return velocity.float()


@contextmanager
def told(network: WanTransformer3DModel, call: NetworkCall | None) -> Iterator[None]:
    """Tells the network's adapters, caches and memory of texts, where it has any, what it is called for.

    A batch of passes is one pass of its own to caches.
    """
    if call is None:
        yield
        return
    step = call.step
    at_step(network, step.index / step.total)
    with ExitStack() as said:
        said.enter_context(text_memory.reading(call.passes))
        if network.is_cache_enabled:
            facts = {"step_index": step.index, "num_inference_steps": step.total, "sigma": step.sigma}
            said.enter_context(network.cache_context("+".join(call.passes), **facts))
        yield


def token_count(config: Mapping[str, Any], frames: int, height: int, width: int) -> int:
    """Tokens of one pass over latents [C,frames,height,width]."""
    return frames * height * width // math.prod(config["patch_size"])
