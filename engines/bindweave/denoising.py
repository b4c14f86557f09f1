"""The denoising loop of BindWeave: two passes a step, each with texts of its own length.

Source: BindWeave s2v/tasks/inference/pipeline/wan_pipeline_s2v.py (WanS2VPipeline.model_predict).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.sampling import guidance
from engines.sampling.denoise import Denoised, Scheduler, denoise


class Reading(NamedTuple):
    """A text as the transformer takes it: MLLM states [S,D] that know the pictures, padded T5 states [L,E]."""

    mllm: torch.Tensor
    text: torch.Tensor


def text_weights(scale: float) -> dict[str, float]:
    """Weights of the passes with and without the prompt; a scale of 1 or less leaves the second out, as published."""
    return guidance.classifier_free(max(scale, 1.0))


def sample(
    network: BindWeaveTransformer3DModel,
    *,
    noise: torch.Tensor,
    condition: torch.Tensor,
    clip: torch.Tensor,
    prompt: Reading,
    negative: Reading,
    weights: dict[str, float],
    scheduler: Scheduler,
) -> Iterator[Denoised]:
    """Latents are [C,F,h,w], normalised, float32. The passes are never one batch: their texts differ in length.

    Args:
        noise: [C,F,h,w].
        condition: [4+C,R+F,h,w], clip: [T,1280]: the pictures, which both passes see.
        weights: of the passes cond, uncond: see text_weights.
    """
    dtype, device = network.patch_embedding.weight.dtype, noise.device
    pictures = {"condition": condition[None].to(device, dtype), "clip": clip[None].to(device, dtype)}
    readings = {
        name: {part: states[None].to(device, dtype) for part, states in reading._asdict().items()}
        for name, reading in (("cond", prompt), ("uncond", negative))
    }

    @torch.no_grad()
    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        def one_pass(readings: list[dict[str, torch.Tensor]]) -> torch.Tensor:
            (reading,) = readings
            return network(latents[None].to(dtype), timestep.to(device)[None], **reading, **pictures).float()

        return guidance.guided(one_pass, readings, weights, batched=False)

    return denoise(noise, scheduler, velocity)
