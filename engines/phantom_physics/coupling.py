"""What the two branches say to each other in a block: two cross-attentions whose tokens share places and moments.

Every token has coordinates on the grid of visual tokens, as real numbers; rotary angles come from them, so a token
finds the same place and moment in the other branch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn

THETA = 10_000.0


class Grid(NamedTuple):
    """Tokens of one branch: latent frames (or tubelets), rows, columns."""

    frames: int
    rows: int
    columns: int


def visual_coordinates(grid: Grid) -> torch.Tensor:
    """Coordinates (time, row, column) of visual tokens [L,3], float64: their own indices."""
    axes = [torch.arange(count, dtype=torch.float64) for count in grid]
    return torch.cartesian_prod(*axes).view(-1, 3)


def physics_coordinates(grid: Grid, *, visual: Grid) -> torch.Tensor:
    """Coordinates (time, row, column) of physics tokens [L,3] on the visual grid, float64.

    Tubelet 0 lies at 0 and tubelet n at (2n+1)/4, so the two tubelets of latent frame k have the mean k; rows and
    columns are the middles of their cells.
    """
    tubelets = torch.arange(grid.frames, dtype=torch.float64)
    times = torch.where(tubelets > 0, (2 * tubelets + 1) / 4, 0.0)
    rows, columns = (
        (torch.arange(own, dtype=torch.float64) + 0.5) * other / own - 0.5
        for own, other in zip(grid[1:], visual[1:], strict=True)
    )
    return torch.cartesian_prod(times, rows, columns).view(-1, 3)


def rotations(coordinates: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Coordinates [L,3] -> unit complex numbers [L,head_dim/2], complex64, split over time, row, column as Wan does."""
    third = head_dim // 6
    shares = (head_dim // 2 - 2 * third, third, third)
    angles = [
        coordinate[:, None] * THETA ** (-torch.arange(share, dtype=torch.float64) / max(share, 1))
        for coordinate, share in zip(coordinates.double().unbind(1), shares, strict=True)
    ]
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotated(values: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Values [B,L,heads,d] with neighbouring channels turned by [L,d/2]."""
    pairs = torch.view_as_complex(values.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns[:, None]).flatten(-2).type_as(values)


class CrossAttention(nn.Module):
    """One branch's question to the other: its output is added to the asking branch's self-attention.

    Starts at zero, so that fresh couplings change nothing.

    Args:
        width: channels of the asking branch, also of queries, keys and values.
        other_width: channels of the branch that answers.
        head_dim: channels of one head.
    """

    def __init__(self, width: int, other_width: int, *, head_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.heads = max(1, width // head_dim)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(other_width, width)
        self.v = nn.Linear(other_width, width)
        self.o = nn.Linear(width, width)
        self.norm_q = nn.RMSNorm(width, eps=eps)
        self.norm_k = nn.RMSNorm(width, eps=eps)
        for layer in (self.q, self.k, self.v):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.o.weight)
        nn.init.zeros_(self.o.bias)

    def forward(
        self,
        asking: torch.Tensor,
        answering: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """[B,L,width] asks [B,M,other_width] -> [B,L,width]; `turns` are both sides' rotations, None for none."""
        dtype = self.q.weight.dtype
        query = self.norm_q(self.q(asking.to(dtype)))
        key, value = self.norm_k(self.k(answering.to(dtype))), self.v(answering.to(dtype))
        query, key, value = (part.unflatten(2, (self.heads, -1)) for part in (query, key, value))
        if turns is not None:
            query, key = rotated(query, turns[0]), rotated(key, turns[1])
        heard = dispatch_attention_fn(query, key, value).flatten(2)
        return self.o(heard).type_as(asking)


class Coupling(nn.Module):
    """Both questions of one block: the picture asks the physics, the physics asks the picture."""

    def __init__(self, visual_width: int, physics_width: int, *, head_dim: int) -> None:
        super().__init__()
        self.vis_attn = CrossAttention(visual_width, physics_width, head_dim=head_dim)
        self.phy_attn = CrossAttention(physics_width, visual_width, head_dim=head_dim)
