"""A complete Wan-based model of a few kilobytes, written as a starter's files are, and a context that counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5Config, UMT5EncoderModel

from engines.memory.planning import Room
from engines.registry import SPECS
from engines.types import Component

TEXT_LEN = 12
WORDS = ("a", "red", "blue", "star", "circle", "moves", "falls", "right", "left")
TRANSFORMER = {
    "patch_size": [1, 2, 2], "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4,
    "text_dim": 16, "freq_dim": 16, "ffn_dim": 48, "num_layers": 2, "cross_attn_norm": True,
}  # fmt: skip
VAE = {
    "base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 2], "num_res_blocks": 1, "temperal_downsample": [True, True],
    "latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.0, 2.0, 0.5, 1.5],
    "scale_factor_temporal": 4, "scale_factor_spatial": 4,
}  # fmt: skip
RESIDUAL_VAE = VAE | {
    "is_residual": True, "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 8,
}  # fmt: skip
TEXT_ENCODER = {
    "vocab_size": len(WORDS) + 3, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def seeded(build: Callable[[], Any]) -> Any:
    """A network with the same random weights at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build().eval().requires_grad_(False)


def transformer() -> WanTransformer3DModel:
    return seeded(lambda: WanTransformer3DModel(**TRANSFORMER))


def vae(config: dict[str, Any] = VAE) -> AutoencoderKLWan:
    return seeded(lambda: AutoencoderKLWan(**config))


def text_encoder() -> UMT5EncoderModel:
    return seeded(lambda: UMT5EncoderModel(UMT5Config(**TEXT_ENCODER)))


def write(path: Path, network: torch.nn.Module, config: dict[str, Any], **facts: Any) -> Path:
    """The network as a starter's file: library names, bfloat16, its class and configuration in the metadata."""
    tensors = {name: value.bfloat16().contiguous() for name, value in network.state_dict().items()}
    tensors.pop("encoder.embed_tokens.weight", None)
    kinora = {"class": type(network).__name__, "config": config, **facts}
    save_file(tensors, path, metadata={"kinora": json.dumps(kinora)})
    return path


def write_tokenizer(path: Path) -> Path:
    """Words, and an end token that closes every text."""
    vocabulary = {word: index for index, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_padding(length=TEXT_LEN)
    tokenizer.save(str(path))
    return path


def write_model(folder: Path) -> dict[str, tuple[Path, ...]]:
    """All files of the model, by role."""
    return {
        "transformer": (write(folder / "transformer.safetensors", transformer(), TRANSFORMER, text_len=TEXT_LEN),),
        "vae": (write(folder / "vae.safetensors", vae(), VAE),),
        "text_encoder": (write(folder / "text_encoder.safetensors", text_encoder(), TEXT_ENCODER),),
        "tokenizer": (write_tokenizer(folder / "tokenizer.json"),),
    }


class CountingContext:
    """A Context on the CPU that keeps everything and counts builds, uses and forward passes by role."""

    model = SPECS["phantom-wan"].model("starter")
    device = torch.device("cpu")
    budget_bytes = 2**40
    decodes = True
    lower: Mapping[str, int] = MappingProxyType({})
    wanted = "auto"

    def __init__(self, files: dict[str, tuple[Path, ...]]) -> None:
        self.files = files
        self.precisions: dict[str, str] = {}
        self.computed: dict[str, str] = {}
        self.notes: list[str] = []
        self.modules: dict[str, torch.nn.Module] = {}
        self.remembered: dict[str, Any] = {}
        self.builds: Counter[str] = Counter()
        self.passes: Counter[str] = Counter()
        self.in_use: list[str] = []

    def paths(self, role: str) -> tuple[Path, ...]:
        return self.files[role]

    @contextmanager
    def use(self, component: Component, *, working_bytes: int = 0) -> Iterator[Any]:
        assert working_bytes >= 0
        role = component.role
        if role:  # not memory beside a network that is in use already
            self.precisions[role] = component.precision
        self.notes += component.notes
        if component.key not in self.modules:
            module = component.build()
            tensors = (*module.parameters(), *module.buffers())
            assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == component.size_bytes
            module.register_forward_pre_hook(lambda *_: self.passes.update([role]))
            self.modules[component.key] = module
            self.builds[role] += 1
        self.in_use.append(role)
        try:
            with component.adapted(self.modules[component.key]):
                yield self.modules[component.key]
        finally:
            self.in_use.remove(role)

    def room(self, *, beside: int = 0) -> Room:
        return Room(self.budget_bytes, busy_bytes=beside)

    def remember(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self.remembered:
            self.remembered[key] = compute()
        return self.remembered[key]
