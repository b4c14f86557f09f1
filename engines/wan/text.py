"""Prompts -> text states, as Wan was trained: cleaned, tokenised, encoded with a mask, padded with zeros.

Source: Wan2.1 wan/modules/tokenizers.py and wan/modules/t5.py.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import UMT5EncoderModel

from engines.prompting import tokens
from engines.sampling.finite import finite
from engines.wan.phases import TEXT_LEN

PUBLISHED_TEXT_LEN = TEXT_LEN


class TextStates(NamedTuple):
    """States [L,D] of a text's real tokens, and the end of the text that did not fit, "" if all did."""

    states: torch.Tensor
    cut: str


def clean(text: str) -> str:
    """Repairs broken characters and entities and folds white space; case and punctuation stay."""
    import ftfy  # nothing else here needs it

    repaired = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", repaired).strip()


def tokenise(tokenizer: Tokenizer, text: str, *, text_len: int) -> tuple[list[int], str]:
    """Token ids of cleaned text, end token included, at most `text_len`; and the words that had to be cut."""
    cleaned = clean(text)
    ids, covered = tokens.tokenise(tokenizer, cleaned, length=text_len)
    return ids, cleaned[covered:].strip()


@torch.no_grad()
def encode_tokens(encoder: UMT5EncoderModel, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Token ids [B,L] of real lengths [B] -> states [B,L,D], zero from each length on."""
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    device = encoder.device
    states = encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
    return states * mask[..., None].to(states)


def encode_text(encoder: UMT5EncoderModel, tokenizer: Tokenizer, text: str, *, text_len: int) -> TextStates:
    """The states of one text, on the CPU. Padding is left out: the mask makes it invisible to real tokens."""
    ids, cut = tokenise(tokenizer, text, text_len=text_len)
    states = encode_tokens(encoder, torch.tensor([ids]), torch.tensor([len(ids)]))
    states = finite(states, role="text_encoder", when="from a prompt")
    return TextStates(states[0].cpu(), cut)


def padded(states: torch.Tensor, *, text_len: int) -> torch.Tensor:
    """States [L,D] -> [text_len,D]; the network attends to the zero rows too, so their number matters."""
    return torch.nn.functional.pad(states, (0, 0, 0, text_len - states.shape[0]))
