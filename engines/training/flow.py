"""Flow matching as Wan does it: x_t = (1-s) x0 + s noise, the network predicts noise - x0, timestep 1000 s."""

import torch


def draw_sigmas(count: int, rng: torch.Generator, *, centre: float = 0.4, uniform: float = 0.1) -> torch.Tensor:
    """Noise levels [count] in (0,1): sigmoid of a normal around `centre`, a share of them uniform."""
    bell = torch.sigmoid(torch.randn(count, generator=rng) + centre)
    flat = torch.rand(count, generator=rng)
    return torch.where(torch.rand(count, generator=rng) < uniform, flat, bell).clamp(1e-3, 0.9995)


def noise_like(latents: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Normal noise of the latents' shape, where they are.

    On a CPU from the run's own numbers, so that a resumed run goes on exactly; a GPU draws its own, for sending it
    millions of numbers takes longer than a step.
    """
    if latents.device.type == "cpu":
        return torch.randn(latents.shape, generator=rng)
    return torch.randn(latents.shape, device=latents.device)


def noised(latents: torch.Tensor, sigmas: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents [B,C,F,H,W] and sigmas [B] -> noisy latents and the velocity to predict, same shape."""
    noise = noise_like(latents, rng)
    level = sigmas.to(latents.device).view(-1, 1, 1, 1, 1)
    return (1 - level) * latents + level * noise, noise - latents
