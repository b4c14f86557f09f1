"""Attention as three plain operations while training on a CPU.

torch's fused CPU kernel is slow in its backward pass at a few hundred tokens; written out and compiled, a training
step takes half the time. The numbers agree up to rounding.
"""

import contextlib

import torch
from torch.nn import functional


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> torch.Tensor:
    """Softmax attention over [B,H,N,D] without dropout; a mask says True where a key counts, and broadcasts."""
    if dropout_p or is_causal or (attn_mask is not None and attn_mask.dtype != torch.bool):
        raise ValueError("plain_attention takes a mask of True and False, no dropout and is not causal.")
    query = query.contiguous() * (query.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.matmul(query, key.contiguous().transpose(-1, -2))
    if attn_mask is not None:
        # Added, not filled in: half the time, forward and backward, at 400 tokens.
        weights = weights + weights.new_zeros(attn_mask.shape).masked_fill_(~attn_mask, float("-inf"))
    return torch.matmul(weights.softmax(-1), value.contiguous())


@contextlib.contextmanager
def written_out(*, enabled: bool = True):
    """Inside, scaled dot product attention is `plain_attention`."""
    fused = functional.scaled_dot_product_attention
    if enabled:
        functional.scaled_dot_product_attention = plain_attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = fused
