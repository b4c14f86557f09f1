"""Prompts -> text for the network: T5's states of every token, and one pooled vector from CLIP.

Padding is left out: T5's mask hides it from real tokens, the network's mask hides it too, and CLIP looks only back.
Source: Pyramid-Flow pyramid_dit/mmdit_modules/modeling_text_encoder.py and flux_modules/modeling_text_encoder.py.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from engines.loading.tokenizers import stamp
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.sizes import CLIP_LEN as CLIP_LEN
from engines.pyramid_flow.sizes import TEXT_LEN as TEXT_LEN
from engines.sampling.finite import finite


@torch.no_grad()
def encode_states(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """T5's last hidden states [B,L,D] of token ids [B,L] where `mask` says which are real."""
    states = encoder(input_ids=ids.to(encoder.device), attention_mask=mask.to(encoder.device)).last_hidden_state
    return finite(states, role="text_encoder", when="from a prompt")


@torch.no_grad()
def encode_pooled(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """CLIP's vector [B,P] at each text's end: projected where the encoder has a projection (the SD3 family's have)."""
    output = encoder(input_ids=ids.to(encoder.device))
    pooled = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
    return finite(pooled, role="clip", when="from a prompt")


def load_clip_tokenizer(paths: tuple[Path, ...]) -> Tokenizer:
    """CLIP's tokenizer from vocab.json and merges.txt; read once while they stay."""
    return _load_clip(paths, tuple(map(stamp, paths)))


@lru_cache(maxsize=4)
def _load_clip(paths: tuple[Path, ...], _stamps: Any) -> Tokenizer:
    from transformers import CLIPTokenizer

    files = {path.name: str(path) for path in paths}
    tokenizer = CLIPTokenizer(vocab=files["vocab.json"], merges=files["merges.txt"]).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def one(states: torch.Tensor, pooled: torch.Tensor) -> Text:
    """The text of one prompt from states [1,L,D] and pooled [1,P], on the CPU; every token is real."""
    return Text(states.cpu(), torch.ones(states.shape[:2], dtype=torch.bool), pooled.cpu())
