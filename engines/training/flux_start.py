"""An SD3 network that begins as a FLUX one of its size: what one family's starter learnt, handed to the other.

A double block of FLUX is an SD3 block as it stands. A single block, whose attention and MLP see the same input, becomes
one whose MLP also sees what attention added; text and video, which shared its weights, get a copy each. Frame times
turn the first channels of a FLUX head and all of an SD3 head's, from the same base: those channels move to where SD3
has their frequencies. Rows and columns, angles in FLUX and an added table in SD3, are left to training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from engines.pyramid_flow.packing import PATCH

OUTSIDE = ("time_text_embed.", "context_embedder.", "norm_out.", "proj_out.")
QUERIES_KEYS = ("attn.to_q.", "attn.to_k.", "attn.add_q_proj.", "attn.add_k_proj.")
TEXT_TWIN = {
    "attn.to_q": "attn.add_q_proj",
    "attn.to_k": "attn.add_k_proj",
    "attn.to_v": "attn.add_v_proj",
    "attn.to_out.0": "attn.to_add_out",
    "attn.norm_q": "attn.norm_added_q",
    "attn.norm_k": "attn.norm_added_k",
    "ff.net.0.proj": "ff_context.net.0.proj",
    "ff.net.2": "ff_context.net.2",
    "norm1.linear": "norm1_context.linear",
}

Tensors = dict[str, torch.Tensor]


def sd3_weights(flux: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Tensors:
    """Weights of a `PyramidMMDiT` with a block for each of a `PyramidFlux`'s, of the same heads and text.

    Args:
        flux: the weights of the `PyramidFlux`.
        config: its configuration.
    """
    doubles, singles = config["num_layers"], config["num_single_layers"]
    made = {name: tensor for name, tensor in flux.items() if name.startswith(OUTSIDE)}
    patches = flux["x_embedder.weight"].unflatten(1, (PATCH, PATCH, -1))  # row, column, channel: see to_patches
    made |= {"pos_embed.proj.weight": patches.permute(0, 3, 1, 2), "pos_embed.proj.bias": flux["x_embedder.bias"]}
    blocks = [_part(flux, f"transformer_blocks.{index}.") for index in range(doubles)]
    blocks += [_of_single(_part(flux, f"single_transformer_blocks.{index}.")) for index in range(singles)]
    blocks[-1] = _without_text_out(blocks[-1])
    order = _channels(config["attention_head_dim"], config["axes_dims_rope"][0])
    for index, block in enumerate(blocks):
        for name, tensor in block.items():
            if name.startswith(QUERIES_KEYS):
                tensor = tensor.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)
            elif name.startswith("attn.norm_"):
                tensor = tensor[order]
            made[f"transformer_blocks.{index}.{name}"] = tensor
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in made.items()}


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _of_single(single: Tensors) -> Tensors:
    """A single block's weights as a joint block's, the same for text and video."""
    video: Tensors = {name: tensor for name, tensor in single.items() if name.startswith("attn.")}
    out, bias = single["proj_out.weight"], single["proj_out.bias"]
    attention, mlp = out.tensor_split([len(out)], dim=1)
    video |= {"attn.to_out.0.weight": attention, "attn.to_out.0.bias": bias}
    video |= {"ff.net.2.weight": mlp, "ff.net.2.bias": torch.zeros_like(bias)}
    for kind in ("weight", "bias"):
        video[f"ff.net.0.proj.{kind}"] = single[f"proj_mlp.{kind}"]
        video[f"norm1.linear.{kind}"] = torch.cat([single[f"norm.linear.{kind}"]] * 2)  # of attention, of the MLP
    text: Tensors = {}
    for name, tensor in video.items():
        layer, _, kind = name.rpartition(".")
        text[f"{TEXT_TWIN[layer]}.{kind}"] = tensor
    return video | text


def _without_text_out(block: Tensors) -> Tensors:
    """An SD3 network's last block drops its text, whose norm there has a scale and a shift, in that order."""
    kept = {name: tensor for name, tensor in block.items() if not name.startswith(("attn.to_add_out.", "ff_context."))}
    for kind in ("weight", "bias"):
        shift, scale = block[f"norm1_context.linear.{kind}"].chunk(6)[:2]
        kept[f"norm1_context.linear.{kind}"] = torch.cat([scale, shift])
    return kept


def _channels(head: int, turned: int) -> torch.Tensor:
    """Which FLUX channel each of an SD3 head's is: pairs whose frequency is that of one of the `turned` first ones."""
    step = head // turned
    others = iter(range(turned // 2, head // 2))
    pairs = torch.tensor([at // step if at % step == 0 else next(others) for at in range(head // 2)])
    return torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()
