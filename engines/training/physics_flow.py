"""Joint flow matching of pictures and physics: which frames are given, the two losses, and the weight of the second.

Design: docs/phantom_physics.md, after the paper (arXiv 2604.08503).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch
from diffusers import WanTransformer3DModel

from engines.phantom_physics.network import PhysicsBranch
from engines.phantom_physics.sampling import Latents, token_timesteps
from engines.sampling.denoise import TRAINING_STEPS

from .flow import noise_like
from .share import ALONE, Share

MOST_GIVEN = 45  # frames


@dataclasses.dataclass
class LossWeight:
    """alpha_z: 0 at the start, a little more every step, 0 again when the physics branch's gradient is too large.

    The norm is that of the weighted loss's gradient: without the weight the rule could never leave 0.
    """

    most: float = 1.0
    ramp: int = 1000  # steps from 0 to the most
    limit: float = 1.0  # eta_z, of the gradient norm
    value: float = 0.0
    resets: int = 0

    def update(self, norm: float) -> None:
        """After the step whose gradient had this norm over the physics branch, couplings left out, before clipping."""
        if not math.isfinite(norm) or norm > self.limit:
            self.resets += self.value > 0
            self.value = 0.0
        else:
            self.value = min(self.most, self.value + self.most / self.ramp)


def gradient_norm(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> float:
    """L2 norm of the gradients of a branch's named parameters, its couplings and drawn forces left out."""
    own = [p.grad for name, p in parameters if p.grad is not None and not {"coupling", "force"} & set(name.split("."))]
    return float(torch.nn.utils.get_total_norm(own)) if own else 0.0


def draw_given(count: int, frames: int, rng: torch.Generator, *, share: float = 0.5) -> list[int]:
    """Given frames of `count` clips of `frames`: none for 1 - `share` of them, else 1, 5, 9 ... 45, fewer than all."""
    choices = list(range(1, min(MOST_GIVEN, frames - 1) + 1, 4))
    drawn = []
    for _ in range(count):
        none, which = torch.rand(2, generator=rng).tolist()
        drawn.append(0 if none >= share or not choices else choices[int(which * len(choices))])
    return drawn


def draw_sigmas(count: int, rng: torch.Generator, *, shift: float) -> torch.Tensor:
    """Noise levels [count] in (0,1): uniform, then shifted."""
    uniform = torch.rand(count, generator=rng)
    return shift * uniform / (1 + (shift - 1) * uniform)


def latent_frames(given: int) -> tuple[int, int]:
    """Clean latent frames and tubelets of `given` frames (0, or 4n+1)."""
    return (0, 0) if given == 0 else ((given - 1) // 4 + 1, (given + 1) // 2)


@dataclasses.dataclass(frozen=True)
class Losses:
    """Mean squared velocity errors over what is not given."""

    visual: torch.Tensor
    physics: torch.Tensor | None


def joint_losses(
    visual: WanTransformer3DModel,
    branch: PhysicsBranch | None,
    clean: Latents,
    text: torch.Tensor,
    rng: torch.Generator,
    *,
    given: list[int],
    given_physics: list[torch.Tensor] | None = None,
    shift: float,
    control: tuple[torch.Tensor, torch.Tensor] | None = None,
    share: Share = ALONE,
) -> Losses:
    """Both losses of one batch, with the same noise level and independent noise; without a branch the first alone.

    Args:
        branch: joined to `visual`.
        clean: latents in batches, visual [B,C,F,h,w] and physics [B,C',N,h',w'].
        given: frames of each clip that are given: see draw_given.
        given_physics: for each clip its given tubelets [C',M,h',w'], encoded from the given frames alone; those of
            `clean` saw the future.
        text: padded states [B,text_len,D].
        control: a drawn force: see PhysicsBranch.forward.
        share: of a batch of several processes, of which these are some rows: the losses are their share of the whole's.
    """
    count, device = share.whole(len(given)), clean.visual.device
    sigmas = share.rows(draw_sigmas(count, rng, shift=shift)).to(device)
    marks = [latent_frames(frames) for frames in given]
    seen = _Part(clean.visual, sigmas, [frames for frames, _ in marks], rng, visual.config.patch_size, share)
    if branch is None:
        made = visual(hidden_states=seen.noisy, timestep=seen.timesteps, encoder_hidden_states=text, return_dict=False)[
            0
        ]
        return Losses(seen.loss(made), None)
    assert clean.physics is not None
    felt = _Part(clean.physics, sigmas, [tubelets for _, tubelets in marks], rng, branch.config.patch_size, share)
    for index, tubelets in enumerate(felt.clean):
        if tubelets and given_physics is None:
            raise ValueError("given frames need their own physics latents: those of the whole clip saw the future")
        if tubelets:
            felt.noisy[index, :, :tubelets] = given_physics[index].to(felt.noisy)
    made, made_physics = branch(
        visual,
        seen.noisy,
        felt.noisy,
        timestep=seen.timesteps,
        physics_timestep=felt.timesteps,
        text=text,
        control=control,
    )
    return Losses(seen.loss(made), felt.loss(made_physics))


class _Part:
    """One branch's side of a batch: noisy latents with clean beginnings, timesteps, the target."""

    def __init__(
        self,
        clean: torch.Tensor,
        sigmas: torch.Tensor,
        given: list[int],
        rng: torch.Generator,
        patch: Any,
        share: Share,
    ) -> None:
        whole = clean.new_empty((share.whole(len(clean)), *clean.shape[1:]))
        noise, self.share = share.rows(noise_like(whole, rng)), share
        level = sigmas.view(-1, 1, 1, 1, 1)
        self.clean, self.target = given, noise - clean
        self.noisy = (1 - level) * clean + level * noise
        # All rows at once: a GPU would be asked for a thousand small things otherwise.
        counts = torch.tensor(given, device=clean.device)
        drawn = (torch.arange(clean.shape[2], device=clean.device) >= counts[:, None])[:, None, :, None, None]
        self.noisy = torch.where(drawn, self.noisy, clean)
        self.weight = drawn.to(clean.dtype).expand_as(clean[:, :1])
        self.timesteps = token_timesteps(sigmas * TRAINING_STEPS, clean.shape[1:], patch=patch, clean_frames=counts)

    def loss(self, made: torch.Tensor) -> torch.Tensor:
        """Mean squared error over what is not given, all positions of the whole batch alike."""
        errors = (made.float() - self.target).square() * self.weight
        return errors.sum() / (self.share.total(self.weight.sum()) * made.shape[1])
