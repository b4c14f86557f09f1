"""Qwen2.5-VL writes an answer, piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration, StoppingCriteriaList

from engines.prompting.background import Put, pieces
from engines.qwen.chat import chat, picture_tokens, plain, tokenise
from engines.qwen.pictures import Patches

# BindWeave's configuration holds a near-greedy writer; the most likely word each time is its limit, and repeatable.
REPETITION_PENALTY = 1.05
ENDS = ("<|im_end|>", "<|endoftext|>")


def pictures_then_text(text: str, tokens: Sequence[int], *, system: str) -> str:
    """A chat that shows pictures of so many tokens each and asks `text` about them."""
    return chat("".join(map(picture_tokens, tokens)) + plain(text), system=system)


def write(
    network: Qwen2_5_VLForConditionalGeneration,
    tokenizer: Tokenizer,
    question: str,
    pictures: Patches | None,
    *,
    max_tokens: int,
) -> Iterator[str]:
    """The answer to a chat, and "" while nothing new can be read; closing the generator ends it after the next token.

    Args:
        question: the chat, with the places of its pictures: see pictures_then_text.
        max_tokens: the answer ends here at the latest.
    """
    ids = tokenise(tokenizer, question).to(network.device)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if pictures is not None:
        given |= {
            "pixel_values": pictures.values.to(network.device, network.dtype),
            "image_grid_thw": pictures.grids.to(network.device),
            "mm_token_type_ids": (ids == network.config.image_token_id).int(),
        }
    ends = [found for end in ENDS if (found := tokenizer.token_to_id(end)) is not None]
    told = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=False,
        repetition_penalty=REPETITION_PENALTY,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )

    def work(put: Put, stopped: threading.Event) -> None:
        def stop(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full(ids.shape[:1], stopped.is_set(), device=ids.device)

        with torch.no_grad():
            network.generate(
                **given,
                generation_config=told,
                streamer=_Reader(tokenizer, put),
                stopping_criteria=StoppingCriteriaList([stop]),
            )

    return pieces(work, awaited=True)


class _Reader:
    """Turns tokens into text as soon as they make whole characters. transformers calls it a streamer."""

    def __init__(self, tokenizer: Tokenizer, put: Put) -> None:
        self._tokenizer, self._put = tokenizer, put
        self._decoding = DecodeStream(skip_special_tokens=True)
        self._asked = False

    def put(self, ids: torch.Tensor) -> None:
        """The question first, then one token at a time."""
        if not self._asked:
            self._asked = True
            return
        for token in ids.flatten().tolist():
            if text := self._decoding.step(self._tokenizer, token):
                self._put(text)

    def end(self) -> None:
        """Nothing is left: what made no character is none."""
