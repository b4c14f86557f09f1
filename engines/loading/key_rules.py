"""How the tensors of a network are named in the files people have, as data.

A layout is one way of naming (the authors' own, or the library's); an architecture is a network with all its layouts.
Regular expressions are matched against whole keys in `signature` and `ignored` and against parts of keys in `renames`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Renames = tuple[tuple[str, "str | Callable[[re.Match[str]], str]"], ...]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "module.", "_orig_mod.", "vision_model.", "text_model.")


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from: row block `part` of `parts` equal ones of the file's tensor `key`."""

    key: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Layout:
    """One way of naming a network's tensors.

    Attributes:
        name: whose names these are, for people.
        signature: patterns of keys that every such file has and that tell it from other networks.
        renames: (pattern, replacement) in order, or a function of the keys where depth decides.
        ignored: patterns of keys that the file holds and inference does not use.
        splits: (pattern of a fused tensor after renaming, names of its equal row blocks) to put in its place.
    """

    name: str
    signature: tuple[str, ...]
    renames: Renames | Callable[[Iterable[str]], Renames] = ()
    ignored: tuple[str, ...] = ()
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is laid out like this."""
        keys = list(keys)
        return all(any(re.fullmatch(pattern, key) for key in keys) for pattern in self.signature)

    def ignores(self, key: str) -> bool:
        """Whether the layout names `key` as one that is not used."""
        return any(re.fullmatch(pattern, key) for pattern in self.ignored)

    def convert(self, keys: Iterable[str]) -> dict[str, Source]:
        """{parameter name: where it comes from} for every key that is not ignored."""
        keys = list(keys)
        rules = self.renames(keys) if callable(self.renames) else self.renames
        compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
        sources: dict[str, Source] = {}
        for key in keys:
            if self.ignores(key):
                continue
            name = key
            for pattern, replacement in compiled:
                name = pattern.sub(replacement, name)
            for pattern, blocks in self.splits:
                if re.search(pattern, name):
                    for part, block in enumerate(blocks):
                        sources[re.sub(pattern, block, name)] = Source(key, part, len(blocks))
                    break
            else:
                sources[name] = Source(key)
        return sources


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network that checkpoints can be loaded into.

    Attributes:
        title: what it is, for people: "a Wan video transformer".
        class_name: name of the class, as starters carry it in their metadata.
        construct: (config) -> module; called on the meta device.
        configure: {parameter name: shape} -> config; everything a native file's shapes tell.
        layouts: the layouts it is found in.
        keep_float32: name parts of parameters that stay float32 in every precision.
        aliases: parameter -> the parameter whose tensor it shares; a file may hold either or both.
        restore: rebuilds what the meta device emptied and no file holds (rope tables, position ids).
    """

    title: str
    class_name: str
    construct: Callable[[dict[str, Any]], Any]
    configure: Callable[[Shapes], dict[str, Any]]
    layouts: tuple[Layout, ...]
    keep_float32: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    restore: Callable[[Any], None] = lambda module: None

    def layout(self, keys: Iterable[str]) -> Layout | None:
        """The layout of a file with these keys, None if it is another network."""
        keys = list(keys)
        return next((layout for layout in self.layouts if layout.matches(keys)), None)

    def stays_float32(self, name: str) -> bool:
        """Whether the parameter `name` keeps full precision."""
        return any(part in self.keep_float32 for part in name.split("."))


# What a file looks like: (what people call it; the title of an Architecture where it is one, patterns of keys it has).
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA, which changes a model but is none by itself", (r".*(lora_A|lora_down|lora_up|lora_B)\b.*",)),
    ("a GGUF or quantised file", (r".*\.(scale_weight|weight_scale|qweight|absmax)",)),
    ("a FlashI2V transformer", (r"(.*\.)?blocks\.0\..*", r"(.*\.)?(learnable_proj|fourier_embedding)\..*")),
    ("a physics branch", (r"physics\.blocks\.0\..*",)),
    ("a BindWeave transformer", (r"(.*\.)?blocks\.0\..*", r"(.*\.)?(text_projector|text_projection)\..*")),
    ("a Wan image-to-video transformer", (r"(.*\.)?blocks\.0\..*(k_img|add_k_proj)\.weight",)),
    ("a Wan video transformer", (r"(.*\.)?blocks\.0\.(cross_attn|attn2)\..*", r".*patch_embedding\.weight")),
    ("a Wan video autoencoder", (r"(.*\.)?encoder\.downsamples\.0\.downsamples\..*",)),
    ("a Wan video autoencoder", (r"(.*\.)?encoder\.downsamples\..*", r"(.*\.)?decoder\.upsamples\..*")),
    ("a Wan video autoencoder", (r"(.*\.)?encoder\.down_blocks\.0\.(norm1|resnets)\..*gamma",)),
    ("a Qwen2.5-VL model", (r"(.*\.)?visual\.merger\.ln_q\.weight", r"(.*\.)?visual\.blocks\.0\.mlp\.gate_proj\..*")),
    ("a UMT5 text encoder", (r"(.*\.)?token_embedding\.weight", r"(.*\.)?blocks\.\d+\.pos_embedding\..*")),
    ("a T5 text encoder", (r"(.*\.)?encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight",)),
    ("a V-JEPA 2 video encoder", (r"(.*\W)?patch_embed\.proj\.weight", r"(.*\W)?blocks\.0\.attn\.qkv\.weight")),
    ("a V-JEPA 2 video encoder", (r"encoder\.embeddings\.patch_embeddings\.proj\.weight",)),
    ("a CLIP image encoder", (r"(.*\.)?visual\.(patch_embedding|conv1)\.weight",)),
    ("a CLIP model", (r"(.*\.)?(pre_layrnorm|text_projection|logit_scale).*",)),
    ("a Pyramid Flow autoencoder", (r"(.*\.)?encoder\.down_blocks\.0\.resnets\.0\.conv1\.conv\.weight",)),
    ("a Pyramid Flow transformer of the SD3 family", (r"(.*\.)?transformer_blocks\.0\.attn\.norm_add_q\.weight",)),
    (
        "a Pyramid Flow transformer of the miniFLUX family",
        (r"(.*\.)?single_transformer_blocks\.0\..*", r"(.*\.)?x_embedder\.weight"),
    ),
    (
        "a CLIP text encoder with its projection",
        (r"(.*\.)?embeddings\.token_embedding\.weight", r"text_projection\.weight"),
    ),
    ("a CLIP text encoder", (r"(.*\.)?embeddings\.token_embedding\.weight",)),
    ("a diffusion transformer of another system", (r"(.*\.)?(transformer_blocks|joint_blocks|double_blocks)\.0\..*",)),
    ("a Stable Diffusion U-Net", (r"(.*\.)?(input_blocks|down_blocks)\.\d+\..*",)),
)  # fmt: skip


def strip_prefix(keys: Iterable[str]) -> dict[str, str]:
    """{key without a wrapper's prefix that all keys share: key}."""
    names = {key: key for key in keys}
    while prefix := next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), None):
        names = {name.removeprefix(prefix): key for name, key in names.items()}
    return names


def family(keys: Iterable[str]) -> str | None:
    """What a file with these keys looks like, None if nothing known."""
    keys = list(keys)
    for name, patterns in FAMILIES:
        if all(any(re.fullmatch(pattern, key) for key in keys) for pattern in patterns):
            return name
    return None
