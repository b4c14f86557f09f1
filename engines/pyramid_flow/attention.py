"""Blockwise causal attention by key prefixes: text first, then the frames in time; no mask of length x length.

A token sees the valid text and every frame up to its own; text sees itself and frame 0. The published code spells that
out as a dense mask; here each frame's queries meet exactly the keys they may see, with equal results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb

FEW = 2  # lengths of text in a batch that are attended to one after the other


@dataclass(frozen=True)
class Visibility:
    """Which keys each query sees.

    Attributes:
        padding: padding tokens that open each row's sequence, one count a row; nothing sees them.
        ends: ends of the groups of queries in the sequence, rising; a group sees every key up to its own end.
        text: how many tokens at the beginning are text.
    """

    padding: tuple[int, ...]
    ends: tuple[int, ...]
    text: int = 0

    @property
    def video(self) -> int:
        """How many tokens are video."""
        return self.ends[-1] - self.text

    def groups(self) -> list[tuple[int, int]]:
        """(begin, end) of every group of queries."""
        return list(zip((0, *self.ends[:-1]), self.ends, strict=True))


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Visibility], torch.Tensor]


def prefix_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visibility: Visibility
) -> torch.Tensor:
    """Queries, keys, values [B,L,heads,D] -> [B,L,heads,D]; zero where a row has padding."""
    rows_of: dict[int, list[int]] = {}
    for row, padding in enumerate(visibility.padding):
        rows_of.setdefault(padding, []).append(row)
    if len(rows_of) > FEW:
        return _masked_attention(query, key, value, visibility)
    results: list[torch.Tensor | None] = [None] * len(visibility.padding)
    for padding, rows in rows_of.items():
        everyone = len(rows) == len(results)
        q, k, v = (query, key, value) if everyone else (tensor[rows] for tensor in (query, key, value))
        parts = [torch.zeros_like(q[:, :padding])]
        for begin, end in visibility.groups():
            begin = max(begin, padding)
            parts.append(dispatch_attention_fn(q[:, begin:end], k[:, padding:end], v[:, padding:end]))
        result = torch.cat(parts, dim=1)
        if everyone:
            return result
        for place, row in enumerate(rows):
            results[row] = result[place]
    return torch.stack(results)


def _masked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, visibility: Visibility
) -> torch.Tensor:
    """The same by a dense mask: a training batch has as many lengths of text as rows, and short sequences."""
    seen, real = _mask(visibility, query.device)
    attended = dispatch_attention_fn(query, key, value, attn_mask=seen)
    return torch.where(real[..., None, None], attended, 0)


@lru_cache(maxsize=8)
def _mask(visibility: Visibility, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Which keys each query sees, [B,1,L,L], and which tokens are no padding, [B,L]; padding sees whatever is real."""
    places = torch.arange(visibility.ends[-1], device=device)
    group = torch.bucketize(places, torch.tensor(visibility.ends, device=device), right=True)
    real = places >= torch.tensor(visibility.padding, device=device)[:, None]
    seen = (group[:, None] >= group) & real[:, None]
    return seen[:, None], real


class CausalAttention:
    """The attention processor of both families: joint text and video, RMS-normalised, rotated, causal over frames.

    Args:
        attend: what meets queries and keys, as `prefix_attention`.
    """

    def __init__(self, attend: Attend = prefix_attention) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        *,
        visibility: Visibility,
        share: Any = None,
    ) -> Any:
        """Video [B,N,D] and text [B,L,D] -> both; in single-stream blocks one sequence [B,L+N,D] -> the same.

        The arguments are those that diffusers' blocks pass; `attention_mask` is never given. Where several devices
        `share` the video's tokens (engines/parallel/sequence.py), each attends with a share of the heads instead.
        """

        def heads(projected: torch.Tensor) -> torch.Tensor:
            return projected.unflatten(-1, (attn.heads, -1))

        query = attn.norm_q(heads(attn.to_q(hidden_states)))
        key = attn.norm_k(heads(attn.to_k(hidden_states)))
        value = heads(attn.to_v(hidden_states))
        if encoder_hidden_states is not None:
            text = encoder_hidden_states
            query = torch.cat([attn.norm_added_q(heads(attn.add_q_proj(text))), query], dim=1)
            key = torch.cat([attn.norm_added_k(heads(attn.add_k_proj(text))), key], dim=1)
            value = torch.cat([heads(attn.add_v_proj(text)), value], dim=1)
        if share is not None:
            query, key, value = (_by_heads(tensor, visibility, share) for tensor in (query, key, value))
        query, key = (apply_rotary_emb(tensor, image_rotary_emb, sequence_dim=1) for tensor in (query, key))
        attended = self.attend(query, key, value, visibility)
        if share is not None:
            attended = _by_tokens(attended, visibility, share)
        attended = attended.flatten(2)
        if encoder_hidden_states is None:
            return attended
        length = encoder_hidden_states.shape[1]
        text, video = attended[:, :length], attended[:, length:]
        if getattr(attn, "to_add_out", None) is not None:
            text = attn.to_add_out(text)
        return attn.to_out[1](attn.to_out[0](video)), text


def _by_heads(sequence: torch.Tensor, visibility: Visibility, share: Any) -> torch.Tensor:
    """Text and this device's video tokens [B,L+n,heads,D] -> the whole sequence of its share of the heads."""
    text, video = sequence[:, : visibility.text], sequence[:, visibility.text :]
    return torch.cat([share.mine(text, dim=2), share.by_heads(video, tokens=visibility.video)], dim=1)


def _by_tokens(sequence: torch.Tensor, visibility: Visibility, share: Any) -> torch.Tensor:
    """The inverse of `_by_heads`."""
    text, video = sequence[:, : visibility.text], sequence[:, visibility.text :]
    text = share.all(text, dim=2)
    return torch.cat([text, share.by_tokens(video, heads=text.shape[2])], dim=1)
