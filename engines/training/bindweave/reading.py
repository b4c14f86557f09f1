"""Qwen2.5-VL while it is trained: chats of many samples in one batch, and what it is asked about their pictures.

A chat ends with its pictures, so a picture's last token has seen the prompt and the picture. There the small model is
taught to say how that subject moves: its states then carry which picture is which.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.vision_utils import get_vision_position_ids

UNASKED = -100


def states(
    network: Qwen2_5_VLForConditionalGeneration,
    ids: torch.Tensor,
    mask: torch.Tensor,
    patches: torch.Tensor,
    grids: torch.Tensor,
) -> torch.Tensor:
    """States [B,S,D] of chats; those of the padding mean nothing, and no token before it sees it.

    Args:
        ids, mask: [B,S], padded on the right; whole numbers, mask 1 where a token is.
        patches: [N,1176] of all pictures of all chats in order, grids: [R,3].
    """
    # What is counted picture by picture is counted on the CPU: a GPU would be waited for at every number.
    grids = grids.cpu()
    places = get_vision_position_ids(grids, network.config.vision_config.spatial_merge_size).to(ids.device)
    features = network.model.visual(patches, grid_thw=grids, position_ids=places).pooler_output
    embedded = network.model.get_input_embeddings()(ids)
    pictures = (ids == network.config.image_token_id)[..., None].expand_as(embedded)
    embedded = embedded.masked_scatter(pictures, features.to(embedded))
    chats = ids.cpu()
    kinds = (chats == network.config.image_token_id).int()
    positions = network.model.get_rope_index(chats, kinds, image_grid_thw=grids, attention_mask=mask.cpu())[0]
    told = {"inputs_embeds": embedded, "position_ids": positions.to(ids.device), "use_cache": False}
    return network.model.language_model(**told).last_hidden_state


def answers(
    network: Qwen2_5_VLForConditionalGeneration, states: torch.Tensor, ends: torch.Tensor, moves: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model says of each picture: the loss, a scalar, and the share of right answers, a scalar.

    Args:
        states: [B,S,D].
        ends: [B,R], the places of the pictures' last tokens.
        moves: [B,R], the token that is right there; UNASKED where nothing is asked.
    """
    asked = moves != UNASKED
    if not asked.any():
        zero = states.sum() * 0  # of which a gradient can be taken, where nothing else is trained
        return zero, zero.detach()
    at = torch.gather(states, 1, ends[..., None].expand(-1, -1, states.shape[-1]))[asked]
    logits, right = network.lm_head(at).float(), moves[asked]
    return functional.cross_entropy(logits, right), (logits.argmax(-1) == right).float().mean()
