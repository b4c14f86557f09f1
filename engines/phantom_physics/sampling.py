"""Denoising pictures and physics together: per-token timesteps, clean given frames, one solver for each.

Source of the visual part: Wan2.2 wan/textimage2video.py (WanTI2V.t2v and i2v).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import WanTransformer3DModel

from engines.errors import NotFinite
from engines.phantom_physics.network import PhysicsBranch
from engines.sampling import caches, guidance
from engines.sampling.denoise import SamplingStep
from engines.sampling.extrapolated import Extrapolated
from engines.sampling.finite import finite
from engines.sampling.guidance import NetworkCall
from engines.wan.transformer import predict, told


class Latents(NamedTuple):
    """Latents of one clip: the pictures' [C,F,h,w], and the physics' [C',N,h',w'] where the branch runs."""

    visual: torch.Tensor
    physics: torch.Tensor | None = None

    def to(self, device: torch.device) -> Latents:
        """Both on a device."""
        return Latents(self.visual.to(device), None if self.physics is None else self.physics.to(device))


class DenoisedPair(NamedTuple):
    """The state after step `index` of `total`, and the `clean` pictures the network now aims at."""

    index: int
    total: int
    latents: Latents
    clean: torch.Tensor


def token_timesteps(
    timestep: torch.Tensor, shape: Sequence[int], *, patch: Sequence[int], clean_frames: int | torch.Tensor = 0
) -> torch.Tensor:
    """Timesteps of the tokens of latents [C,F,h,w], [L] in order frame, row, column; 0 for the given first frames.

    Args:
        timestep: a scalar; or [B], and the tokens' are [B,L].
        clean_frames: latent frames (or tubelets) at the start that are given; one number, or [B].
    """
    frames, rows, columns = (side // step for side, step in zip(shape[1:], patch, strict=True))
    clean = torch.as_tensor(clean_frames, device=timestep.device)
    drawn = torch.arange(frames, device=timestep.device) >= clean[..., None]
    return (timestep[..., None] * drawn).repeat_interleave(rows * columns, -1)


def with_given(latents: Latents, given: Latents | None) -> Latents:
    """The latents with the given frames in place at the start of both, to the bit."""
    if given is None:
        return latents

    def put(part: torch.Tensor | None, clean: torch.Tensor | None) -> torch.Tensor | None:
        if part is None or clean is None:
            return part
        return torch.cat([clean.to(part), part[:, clean.shape[1] :]], dim=1)

    return Latents(put(latents.visual, given.visual), put(latents.physics, given.physics))


def draw_noise(visual: Sequence[int], physics: Sequence[int] | None, *, seed: int) -> Latents:
    """Standard normal latents from one generator, on the CPU: the pictures' first, so that they are the base's."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.randn(tuple(visual), generator=generator)
    return Latents(seen, None if physics is None else torch.randn(tuple(physics), generator=generator))


class Sampler:
    """Velocities of both latents under guidance.

    Args:
        visual: the transformer of the pictures.
        branch: the physics branch, joined to `visual`; None for the base model alone.
        conditions: padded text states [text_len,D] by the name of their pass.
        weights: weight of each pass for the pictures, and for the physics: see engines.sampling.guidance.
        batched: all passes in one call, or one after another.
    """

    def __init__(
        self,
        visual: WanTransformer3DModel,
        branch: PhysicsBranch | None,
        *,
        conditions: Mapping[str, torch.Tensor],
        weights: Mapping[str, float],
        physics_weights: Mapping[str, float] | None = None,
        physics_scale: float = 1.0,
        batched: bool,
        control: Latents | None = None,
    ) -> None:
        self.visual, self.branch = visual, branch
        self.conditions, self.weights = conditions, dict(weights)
        self.physics_weights = dict(weights if physics_weights is None else physics_weights)
        self.physics_scale, self.batched, self.control = physics_scale, batched, control

    @property
    def passes(self) -> list[str]:
        """Names of the passes that are made, in their order: those that count for either branch."""
        counted = [self.weights] if self.branch is None else [self.weights, self.physics_weights]
        return [name for name in self.weights if any(weights[name] for weights in counted)]

    def velocity(
        self, latents: Latents, timestep: torch.Tensor, *, given: Latents | None, step: SamplingStep | None = None
    ) -> Latents:
        """The guided velocity of both, float32; `given` frames have timestep 0. `step` is told to the networks."""
        dealer = guidance.dealer()
        counts = dealer.own(dict.fromkeys(self.passes, 1.0))
        names = list(counts)
        groups = [names] if self.batched else [[name] for name in names]
        made: dict[str, Latents] = {}
        for group in groups:
            made |= dict(zip(group, self._predict(latents, timestep, group, given, step), strict=True))

        def guided(part: str, weights: Mapping[str, float]) -> torch.Tensor:
            counted = {name: weights[name] * counts[name] for name in names}
            counted = {name: weight for name, weight in counted.items() if weight} or {names[0]: 0.0}
            return dealer.total(sum(weight * getattr(made[name], part) for name, weight in counted.items()))

        physics = None if self.branch is None else guided("physics", self.physics_weights)
        return Latents(guided("visual", self.weights), physics)

    def _predict(
        self,
        latents: Latents,
        timestep: torch.Tensor,
        names: Sequence[str],
        given: Latents | None,
        step: SamplingStep | None,
    ) -> list[Latents]:
        """Velocities of one call, one for each of the passes `names`."""
        call = None if step is None else NetworkCall(tuple(names), step)
        count, device = len(names), latents.visual.device
        dtype = self.visual.patch_embedding.weight.dtype
        text = torch.stack([self.conditions[name] for name in names]).to(device, dtype)

        def steps(part: torch.Tensor, clean: torch.Tensor | None, patch: Sequence[int]) -> torch.Tensor:
            frames = 0 if clean is None else clean.shape[1]
            tokens = token_timesteps(timestep, part.shape, patch=patch, clean_frames=frames)
            return tokens.to(device).expand(count, -1)

        def batch(part: torch.Tensor) -> torch.Tensor:
            return part.expand(count, *part.shape)

        clean = given or Latents(None, None)
        seen_steps = steps(latents.visual, clean.visual, self.visual.config.patch_size)
        if self.branch is None or latents.physics is None:
            made = predict(self.visual, batch(latents.visual), seen_steps, text, call=call)
            return [Latents(part) for part in made]
        with told(self.visual, call):
            seen, felt = self.branch(
                self.visual,
                batch(latents.visual),
                batch(latents.physics),
                timestep=seen_steps,
                physics_timestep=steps(latents.physics, clean.physics, self.branch.config.patch_size),
                text=text,
                physics_scale=self.physics_scale,
                control=None if self.control is None else tuple(batch(part.to(device)) for part in self.control),
            )
        return [Latents(*parts) for parts in zip(seen.float(), felt.float(), strict=True)]


@torch.no_grad()
def denoise(
    sampler: Sampler,
    noise: Latents,
    *,
    given: Latents | None,
    scheduler: Callable[[], Any],
    step_cache: str = caches.NONE,
) -> Iterator[DenoisedPair]:
    """From noise to both latents, step by step; the given frames are clean from before the first step to the end.

    Args:
        scheduler: makes a solver; each of the latents gets one of its own, because its history has their shape.
        step_cache: of engines.sampling.caches.EXTRAPOLATING, of both velocities.
    """
    solvers = [scheduler() for _ in range(1 if noise.physics is None else 2)]
    grid = solvers[0]
    latents = with_given(noise, given)
    total, memory = len(grid.timesteps), Extrapolated(step_cache)
    for index, timestep in enumerate(grid.timesteps):
        step = SamplingStep(index, total, grid.sigmas[index].item())

        def computed(
            now: Latents = latents, timestep: torch.Tensor = timestep, step: SamplingStep = step
        ) -> Sequence[torch.Tensor]:
            return [part for part in sampler.velocity(now, timestep, given=given, step=step) if part is not None]

        velocity = Latents(*memory.at(index, computed))
        _check_finite(sampler, velocity, latents, timestep, when=f"at step {index + 1} of {total}")
        aim = latents.visual - step.sigma * velocity.visual
        stepped = [
            solver.step(speed, timestep, part, return_dict=False)[0]
            for solver, speed, part in zip(solvers, velocity, latents, strict=False)
        ]
        latents = with_given(Latents(*stepped), given)
        yield DenoisedPair(index + 1, total, latents, with_given(Latents(aim), given).visual)


def _check_finite(sampler: Sampler, velocity: Latents, latents: Latents, timestep: torch.Tensor, *, when: str) -> None:
    """Raises NotFinite of the network whose fault it is: what one branch says, the other hears."""
    try:
        finite(velocity.visual, role="transformer", when=when)
        if velocity.physics is not None:
            finite(velocity.physics, role="physics", when=when)
    except NotFinite as error:
        if sampler.branch is None:
            raise
        alone = Sampler(
            sampler.visual, None, conditions=sampler.conditions, weights=sampler.weights, batched=sampler.batched
        )
        with sampler.branch.silent():
            pictures = alone.velocity(Latents(latents.visual), timestep, given=None)
        finite(pictures.visual, role="transformer", when=when)
        raise NotFinite("physics", when=when) from error
