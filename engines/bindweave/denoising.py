"""The denoising loop of BindWeave: two passes a step, each with texts of its own length.

Source: BindWeave s2v/tasks/inference/pipeline/wan_pipeline_s2v.py (WanS2VPipeline.model_predict).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.sampling.denoise import Denoised, SamplingStep, Scheduler, denoise
from engines.sampling.guidance import NetworkCall, guided
from engines.wan.transformer import told


class Reading(NamedTuple):
    """A text as the transformer takes it: MLLM states [S,D] that know the pictures, padded T5 states [L,E]."""

    mllm: torch.Tensor
    text: torch.Tensor


def sample(
    network: BindWeaveTransformer3DModel,
    *,
    noise: torch.Tensor,
    condition: torch.Tensor,
    clip: torch.Tensor,
    readings: Mapping[str, Reading],
    weights: dict[str, float],
    scheduler: Scheduler,
) -> Iterator[Denoised]:
    """Latents are [C,F,h,w], normalised, float32. The passes are never one batch: their texts differ in length.

    Args:
        noise: [C,F,h,w].
        condition: [4+C,R+F,h,w], clip: [T,1280]: the pictures, which both passes see.
        readings: of the passes cond and uncond; only of those that `weights` needs.
        weights: of the passes: see guidance.text_weights.
    """
    dtype, device = network.patch_embedding.weight.dtype, noise.device
    pictures = {"condition": condition[None].to(device, dtype), "clip": clip[None].to(device, dtype)}
    conditions = {
        name: {part: states[None].to(device, dtype) for part, states in reading._asdict().items()}
        for name, reading in readings.items()
    }

    @torch.no_grad()
    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        def one_pass(conditions: list[dict[str, torch.Tensor]], call: NetworkCall) -> torch.Tensor:
            (reading,) = conditions
            with told(network, call):
                return network(latents[None].to(dtype), timestep.to(device)[None], **reading, **pictures).float()

        return guided(one_pass, conditions, weights, batched=False, step=SamplingStep.of(scheduler))

    return denoise(noise, scheduler, velocity)
