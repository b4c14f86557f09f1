"""How adapters name what they change, in the files people have. Imports no torch.

An adapter is a file of parts: of a layer, the two factors of a low-rank change, its alpha, or a whole difference of a
weight or a bias. Who wrote it decides what these are called, and what stands before the layer's name:

- diffusers: transformer.blocks.0.attn1.to_q.lora_A.weight
- the authors' names: diffusion_model.blocks.0.self_attn.q.lora_down.weight, and .diff, .diff_b of what is no matrix
- peft: base_model.model.blocks.0.self_attn.q.lora_A.default.weight
- kohya and musubi: lora_unet_blocks_0_self_attn_q.lora_down.weight with .alpha
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

Part = Literal["down", "up", "up bias", "alpha", "weight", "bias"]

# What a key ends with -> what it holds of the layer that is named before it.
_PARTS: tuple[tuple[Part, str], ...] = (
    ("down", r"\.(lora_A|lora_down|lora\.down)(\.[\w-]+)?"),
    ("up bias", r"\.(lora_B|lora_up|lora\.up)(\.[\w-]+)?\.bias"),
    ("up", r"\.(lora_B|lora_up|lora\.up)(\.[\w-]+)?"),
    ("alpha", r"\.(alpha|lora_alpha|network_alpha)"),
    ("weight", r"\.diff"),
    ("bias", r"\.diff_b"),
)
_PART = [(part, re.compile(rf"(.+?){ending}(\.weight)?")) for part, ending in _PARTS]

# Changes of other kinds, which are refused by name: half of such a file would be another adapter.
OTHER_KINDS = (
    ("a DoRA", r".*\.(dora_scale|lora_magnitude_vector(\..*)?)"),
    ("a LoHa", r".*\.hada_\w+"),
    ("a LoKr", r".*\.lokr_\w+"),
    ("an OFT adapter", r".*\.(oft_\w+|boft_\w+)(\..*)?"),
    ("an IA3 adapter", r".*\.(ia3_\w+|on_input)(\..*)?"),
    ("a LoCon with factors between its two", r".*\.lora_mid(\..*)?"),
    ("a control adapter, which makes a network wider", r".*\.(reshape_weight|set_weight)"),
    ("an adapter of embeddings", r".*\.lora_embedding_[AB](\..*)?"),
)
TEXT_ENCODERS = re.compile(r"(lora_te\d*_|(.*\.)?text_encoders?(_\d)?\.|te\d?\.).*")

# kohya and musubi write names without dots, behind one of these.
_FLAT = re.compile(r"(lora_unet|lora_transformer|lora_dit|lycoris)_+")
# Names of modules that have an underscore themselves, in the authors' namings.
_COMPOUND = re.compile(
    r"(self_attn|cross_attn|norm_[qk](_img)?|[kv]_img|img_emb|emb_pos|patch_embedding|text_embedding|time_embedding"
    r"|time_projection|learnable_proj|fourier_embedding|text_projector|proj_[qkv]|proj_out|[qk]_norm)(?=_|$)"
)


def parts_of(keys: Iterable[str]) -> tuple[dict[str, dict[Part, str]], list[str]]:
    """{layer as the file calls it: {part: key}}, and the keys that are no part of an adapter."""
    layers: dict[str, dict[Part, str]] = {}
    others: list[str] = []
    for key in keys:
        found = next(((part, name[1]) for part, pattern in _PART if (name := pattern.fullmatch(key))), None)
        if found is None:
            others.append(key)
        else:
            layers.setdefault(found[1], {})[found[0]] = key
    return layers, others


def is_adapter(keys: Iterable[str]) -> bool:
    """Whether a file with these keys changes a network instead of being one."""
    keys = list(keys)
    return other_kind(keys) is not None or any(
        part != "alpha" and pattern.fullmatch(key) for key in keys for part, pattern in _PART
    )


def other_kind(keys: Iterable[str]) -> str | None:
    """Which kind of adapter that cannot be used these keys belong to: "a LoKr"; None for none of them."""
    keys = list(keys)
    return next((kind for kind, pattern in OTHER_KINDS if any(map(re.compile(pattern).fullmatch, keys))), None)


def dotted(layer: str, own: Mapping[str, str]) -> str:
    """A layer's name with its dots, where it was written without.

    Args:
        own: names of the network's own modules by how they read with underscores for dots.
    """
    flat = _FLAT.match(layer)
    if flat is None:
        return layer
    rest = layer[flat.end() :]
    if rest in own:
        return own[rest]
    kept = _COMPOUND.sub(lambda word: word[0].replace("_", "\0"), rest)
    return kept.replace("_", ".").replace("\0", "_")


def prefixes(layers: Iterable[str]) -> list[str]:
    """What may stand before the names of layers: "", "diffusion_model.", "base_model.model.", ..., the longest last."""
    found = {""}
    for layer in layers:
        parts = layer.split(".")
        for count in range(1, len(parts)):
            if parts[count - 1].isdecimal():
                break
            found.add(".".join(parts[:count]) + ".")
    return sorted(found, key=len)
