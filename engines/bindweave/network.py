"""BindWeave's transformer: Wan's image-to-video network, whose text also is a multimodal model's, and whose first
latent frames are the reference pictures.

Source: BindWeave s2v/models/predictor/wan_dit.py and wan_dit_mllm.py (WanS2VDiT).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanAttnProcessor,
    _get_added_kv_projections,
    _get_qkv_projections,
)

MLLM_WIDTH = 3584  # of Qwen2.5-VL-7B
CLIP_TOKENS = 257  # of one picture


class BindWeaveTransformer3DModel(WanTransformer3DModel):
    """diffusers' Wan transformer that reads [CLIP tokens, MLLM tokens, T5 tokens] and reference frames.

    Args:
        mllm_dim: width of the multimodal model's states.
        clip_token_len: how many tokens of the context go through the image branch of cross-attention: those of the
            first picture. All that follow, the other pictures' CLIP tokens among them, go through the text branch.
        config: as of WanTransformer3DModel.
    """

    def __init__(self, *, mllm_dim: int = MLLM_WIDTH, clip_token_len: int = CLIP_TOKENS, **config: Any) -> None:
        super().__init__(**config)
        self.register_to_config(mllm_dim=mllm_dim, clip_token_len=clip_token_len)
        width = self.config.text_dim
        self.condition_embedder.text_projector = PixArtAlphaTextProjection(mllm_dim, width, act_fn="gelu_tanh")
        for block in self.blocks:
            block.attn2.set_processor(SplitContextProcessor(clip_token_len))

    def join(self, mllm: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """MLLM states [B,S,mllm_dim] and padded T5 states [B,L,text_dim] -> [B,S+L,text_dim], MLLM first."""
        return torch.cat([self.condition_embedder.text_projector(mllm), text], dim=1)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        *,
        mllm: torch.Tensor,
        text: torch.Tensor,
        clip: torch.Tensor,
        condition: torch.Tensor,
    ) -> torch.Tensor:
        """Velocity [B,C,F,h,w] of noisy latents [B,C,F,h,w].

        Args:
            timestep: [B], 0..1000.
            mllm, text: see `join`.
            clip: CLIP states [B,R*clip_token_len,1280], those of absent pictures zero.
            condition: masks and latents [B,4+C,R+F,h,w] of R reference frames, then of F frames without content.
        """
        slots = condition.shape[2] - latents.shape[2]
        # The noisy frames of the reference slots are zero, not noise.
        seen = torch.cat([torch.nn.functional.pad(latents, (0, 0, 0, 0, slots, 0)), condition], dim=1)
        joint = self.join(mllm, text)
        return super().forward(seen, timestep, joint, clip, return_dict=False)[0][:, :, slots:]


class SplitContextProcessor(WanAttnProcessor):
    """Cross-attention to a context whose first `image_tokens` go through the image branch, the others through text's.

    diffusers' own processor counts the image tokens as all but the last 512. Both parts are views of the context.

    Attributes:
        kept: bool [B,1,1,L], True for the tokens of the text branch that count; None, as when sampling, for all.
            A batch of texts of several lengths, as in training, has some that do not.
    """

    kept: torch.Tensor | None = None

    def __init__(self, image_tokens: int) -> None:
        super().__init__()
        self.image_tokens = image_tokens

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: None = None,
    ) -> torch.Tensor:
        """[B,N,D] attending to the context [B,L,D] -> [B,N,D]; neither mask nor positions."""
        image, text = encoder_hidden_states[:, : self.image_tokens], encoder_hidden_states[:, self.image_tokens :]
        query, key, value = _get_qkv_projections(attn, hidden_states, text)
        image_key, image_value = _get_added_kv_projections(attn, image)
        query = attn.norm_q(query).unflatten(2, (attn.heads, -1))
        attended = [
            dispatch_attention_fn(
                query,
                keys.unflatten(2, (attn.heads, -1)),
                values.unflatten(2, (attn.heads, -1)),
                attn_mask=kept,
                backend=self._attention_backend,
            )
            for keys, values, kept in (
                (attn.norm_k(key), value, self.kept),
                (attn.norm_added_k(image_key), image_value, None),
            )
        ]
        summed = sum(attended).flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](summed))
