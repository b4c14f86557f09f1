"""Chats with Qwen2.5-VL as token ids, and where its pictures stand in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLForConditionalGeneration

from engines.sampling.finite import finite

SYSTEM = "You are a helpful assistant."
PICTURE_TOKEN = "<|image_pad|>"
_CONTROL = re.compile(r"<\|\w+\|>")


def picture_tokens(count: int) -> str:
    """The place of a picture of `count` tokens."""
    return f"<|vision_start|>{PICTURE_TOKEN * count}<|vision_end|>"


def plain(text: str) -> str:
    """The text without control tokens that somebody wrote into it: they would end the message."""
    return _CONTROL.sub(" ", text)


def chat(user: str, *, system: str = SYSTEM) -> str:
    """One message and the place of its answer, as the model was trained; `user` may hold places of pictures."""
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def text_then_pictures(text: str, tokens: Sequence[int]) -> str:
    """BindWeave's chat: the text first, then the pictures, of so many tokens each."""
    return chat(plain(text) + "".join(map(picture_tokens, tokens)))


def tokenise(tokenizer: Tokenizer, chat: str) -> torch.Tensor:
    """Token ids [1,S]."""
    return torch.tensor([tokenizer.encode(chat, add_special_tokens=False).ids])


def positions(network: Qwen2_5_VLForConditionalGeneration, ids: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
    """Rotary positions [3,1,S] along time, height and width; within a picture time stands still.

    Args:
        ids: [1,S].
        grids: [R,3], the patches of its pictures as (1, h, w).
    """
    kinds = (ids == network.config.image_token_id).int()
    return network.model.get_rope_index(ids, kinds, image_grid_thw=grids.to(ids.device))[0]


@torch.no_grad()
def read(
    network: Qwen2_5_VLForConditionalGeneration, ids: torch.Tensor, features: torch.Tensor, grids: torch.Tensor
) -> torch.Tensor:
    """States [S,D] after the last layer and the final norm, of every token of the chat `ids` [1,S].

    Args:
        features: [tokens,D] of its pictures: see pictures.look.
        grids: [R,3], their patches as (1, h, w).
    """
    model = network.model
    embedding = model.get_input_embeddings()
    ids = ids.to(embedding.weight.device)  # which stays behind where blocks take turns on a device
    embedded = embedding(ids)
    places = (ids == network.config.image_token_id)[..., None].expand_as(embedded)
    embedded = embedded.masked_scatter(places, features.to(embedded))
    told = {"position_ids": positions(network, ids, grids), "use_cache": False}
    states = model.language_model(inputs_embeds=embedded, **told).last_hidden_state[0]
    return finite(states, role="mllm", when="from a prompt")
