"""The SD3 family's network: SD3 blocks over clips of several resolutions, causal over frames, rotated by frame time.

Source: Pyramid-Flow pyramid_dit/mmdit_modules/modeling_pyramid_mmdit.py, class PyramidDiffusionMMDiT, with the four
switches that its loader sets (text mask, temporal rotary, interpolated history positions, causal attention).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from torch.nn.functional import interpolate

from engines.pyramid_flow.attention import CausalAttention, Visibility
from engines.pyramid_flow.packing import PATCH, Grid, Text, frame_times, from_patches, grids, padding_first, visibility

QK_NORM_EPS = 1e-5
ROTARY_BASE = 10_000


class PyramidMMDiT(SD3Transformer2DModel):
    """diffusers' SD3 transformer with clips for input; its arguments and parameter names are unchanged.

    The fixed table of positions is computed, not loaded: published files carry a copy of it.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.temporal_embed = FluxPosEmbed(ROTARY_BASE, [self.config.attention_head_dim])
        for block in self.transformer_blocks:
            block.attn.processor = CausalAttention()
            for norm in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
                getattr(block.attn, norm).eps = QK_NORM_EPS
        self.compute_positions()
        # How the video's tokens are shared by several devices: see engines/parallel/sequence.py.
        self.share: Any = None

    def compute_positions(self, device: torch.device | None = None) -> None:
        """Fills the table of positions [1,side*side,D], which no file needs to hold."""
        side, base = self.config.pos_embed_max_size, self.config.sample_size // self.config.patch_size
        table = get_2d_sincos_pos_embed(self.inner_dim, side, base_size=base, device=device, output_type="pt")
        self.pos_embed.register_buffer("pos_embed", table.float()[None], persistent=False)

    def forward(self, clips: Sequence[torch.Tensor], text: Text, timesteps: torch.Tensor) -> torch.Tensor:
        """Velocity [B,C,t,h,w] of the last clip.

        Args:
            clips: [B,C,t,h,w] each, oldest first; every clip has the last one's size or that size halved.
            timesteps: [B] on the 0..1000 scale.
        """
        places = grids(clips)
        states, seen, rotary = text.once(tuple(places), lambda: self._laid_out(text, places))
        kwargs = {"image_rotary_emb": rotary, "visibility": seen, "share": self.share}
        video = torch.cat([self._tokens(clip, grid, places[-1]) for clip, grid in zip(clips, places, strict=True)], 1)
        if self.share is not None:
            video = self.share.mine(video, dim=1)
        condition = self.time_text_embed(timesteps, text.pooled)
        states = self.context_embedder(states)
        for block in self.transformer_blocks:
            states, video = self._run(block, video, states, condition, kwargs)
        if self.share is not None:
            video = self.share.all(video)
        made = video[:, -places[-1].frames * places[-1].frame_tokens :]
        return from_patches(self.proj_out(self.norm_out(made, condition)), places[-1])

    def _laid_out(self, text: Text, places: list[Grid]) -> tuple[torch.Tensor, Visibility, Any]:
        """What is the same for every step of a stage: text without its padding, who sees whom, and the angles."""
        states, padding = padding_first(text.states, text.mask)
        times = frame_times(states.shape[1], places)
        return (
            states,
            visibility(states.shape[1], padding, places),
            self.temporal_embed(times[:, None].to(states.device)),
        )

    def _run(self, block: Any, video: Any, states: Any, condition: Any, kwargs: dict[str, Any]) -> Any:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, video, states, condition, kwargs)
        return block(video, states, condition, kwargs)

    def _tokens(self, clip: torch.Tensor, grid: Grid, current: Grid) -> torch.Tensor:
        """[B,C,t,h,w] -> embedded patches [B,t*rows*columns,D] with the positions of the current clip's grid."""
        table = self.pos_embed.cropped_pos_embed(current.rows * PATCH, current.columns * PATCH)
        if (grid.rows, grid.columns) != (current.rows, current.columns):
            picture = table.unflatten(1, (current.rows, current.columns)).movedim(-1, 1)
            table = interpolate(picture, size=(grid.rows, grid.columns), mode="bilinear").flatten(2).mT
        frames = self.pos_embed.proj(clip.movedim(2, 1).flatten(0, 1)).flatten(2).mT
        return (frames + table).to(clip.dtype).unflatten(0, (clip.shape[0], -1)).flatten(1, 2)
