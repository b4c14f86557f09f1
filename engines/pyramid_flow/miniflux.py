"""The miniFLUX family's network: FLUX blocks over clips of several resolutions, causal over frames.

Source: Pyramid-Flow pyramid_dit/flux_modules/modeling_pyramid_flux.py, class PyramidFluxTransformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from engines.pyramid_flow.attention import CausalAttention, Visibility
from engines.pyramid_flow.packing import (
    Grid,
    Text,
    axis_positions,
    from_patches,
    grids,
    padding_first,
    to_patches,
    visibility,
)


class PyramidFlux(FluxTransformer2DModel):
    """diffusers' FLUX transformer with clips for input; its arguments and parameter names are unchanged."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.set_attn_processor(CausalAttention())
        # How the video's tokens are shared by several devices: see engines/parallel/sequence.py.
        self.share: Any = None

    def forward(self, clips: Sequence[torch.Tensor], text: Text, timesteps: torch.Tensor) -> torch.Tensor:
        """Velocity [B,C,t,h,w] of the last clip.

        Args:
            clips: [B,C,t,h,w] each, oldest first; every clip has the last one's size or that size halved.
            timesteps: [B] on the 0..1000 scale.
        """
        places = grids(clips)
        states, seen, rotary = text.once(tuple(places), lambda: self._laid_out(text, places))
        kwargs = {"visibility": seen, "share": self.share}
        video = self.x_embedder(torch.cat([to_patches(clip) for clip in clips], dim=1))
        if self.share is not None:
            video = self.share.mine(video, dim=1)
        condition = self.time_text_embed(timesteps, text.pooled)
        states = self.context_embedder(states)
        for block in (*self.transformer_blocks, *self.single_transformer_blocks):
            states, video = self._run(block, video, states, condition, rotary, kwargs)
        if self.share is not None:
            video = self.share.all(video)
        made = video[:, -places[-1].frames * places[-1].frame_tokens :]
        return from_patches(self.proj_out(self.norm_out(made, condition)), places[-1])

    def _laid_out(self, text: Text, places: list[Grid]) -> tuple[torch.Tensor, Visibility, Any]:
        """What is the same for every step of a stage: text without its padding, who sees whom, and the angles."""
        states, padding = padding_first(text.states, text.mask)
        seen = visibility(states.shape[1], padding, places)
        return states, seen, self._rotary(states.shape[1], places, states.device)

    def _run(self, block: Any, video: Any, states: Any, condition: Any, rotary: Any, kwargs: dict[str, Any]) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, video, states, condition, rotary, kwargs)
        return block(video, states, condition, rotary, kwargs)

    def _rotary(self, text_length: int, places: list[Grid], device: torch.device) -> Any:
        """Angles of (frame time, row, column); rows and columns count on the last clip's grid."""
        current = places[-1]
        ids = [torch.zeros(text_length, 3)]
        for grid in places:
            axes = (
                torch.arange(grid.first_frame, grid.first_frame + grid.frames, dtype=torch.float32),
                axis_positions(grid.rows, of=current.rows),
                axis_positions(grid.columns, of=current.columns),
            )
            ids.append(torch.cartesian_prod(*axes).reshape(-1, 3))
        return self.pos_embed(torch.cat(ids).to(device))
