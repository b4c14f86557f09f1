"""Flow matching as Wan does it: x_t = (1-s) x0 + s noise, the network predicts noise - x0, timestep 1000 s."""

import torch


def draw_sigmas(count: int, rng: torch.Generator, *, centre: float = 0.4, uniform: float = 0.1) -> torch.Tensor:
    """Noise levels [count] in (0,1): sigmoid of a normal around `centre`, a share of them uniform."""
    bell = torch.sigmoid(torch.randn(count, generator=rng) + centre)
    flat = torch.rand(count, generator=rng)
    return torch.where(torch.rand(count, generator=rng) < uniform, flat, bell).clamp(1e-3, 0.9995)


def noised(latents: torch.Tensor, sigmas: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents [B,C,F,H,W] and sigmas [B] -> noisy latents and the velocity to predict, same shape."""
    noise = torch.randn(latents.shape, generator=rng).to(latents.device)
    level = sigmas.to(latents.device).view(-1, 1, 1, 1, 1)
    return (1 - level) * latents + level * noise, noise - latents
