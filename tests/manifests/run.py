"""Building a published model at full size on the meta device from the keys of its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engines.bindweave.keys import BINDWEAVE
from engines.flashi2v.keys import FLASHI2V
from engines.loading.checkpoints import Checkpoint, load
from engines.loading.key_rules import Architecture
from engines.phantom_physics.keys import BRANCH, VIDEO_ENCODER
from engines.pyramid_flow import keys as pyramid_flow
from engines.qwen.keys import QWEN
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE

# The first that knows a file's keys has it: those with the narrower signature stand first.
ARCHITECTURES: tuple[Architecture, ...] = (
    FLASHI2V, BINDWEAVE, BRANCH, TRANSFORMER, VAE, TEXT_ENCODER, IMAGE_ENCODER, QWEN, VIDEO_ENCODER,
    pyramid_flow.MMDIT, pyramid_flow.MINIFLUX, pyramid_flow.VAE, pyramid_flow.T5,
    pyramid_flow.PROJECTED_CLIP, pyramid_flow.CLIP,
)  # fmt: skip

# Arguments of the reference's class -> those of ours, where both are written down and must agree.
SAME_ARGUMENTS = {
    "dim": ("d_model", "base_dim"), "ffn_dim": ("ffn_dim",), "dim_ffn": ("d_ff",), "num_layers": ("num_layers",),
    "num_heads": ("num_attention_heads", "num_heads"), "in_dim": ("in_channels",), "out_dim": ("out_channels",),
    "freq_dim": ("freq_dim",), "text_dim": ("text_dim",), "z_dim": ("z_dim",), "dim_mult": ("dim_mult",),
    "num_res_blocks": ("num_res_blocks",), "temperal_downsample": ("temperal_downsample",), "eps": ("eps",),
    "vocab": ("vocab_size",), "num_buckets": ("relative_attention_num_buckets",),
    "vision_heads": ("num_attention_heads",), "vision_layers": ("num_hidden_layers",), "image_size": ("image_size",),
    "d_kv": ("d_kv",), "d_ff": ("d_ff",), "clip_token_len": ("clip_token_len",), "img_dim": ("image_dim",),
    "text_config": ("text_config",), "vision_config": ("vision_config",), "image_token_id": ("image_token_id",),
    "num_attention_heads": ("num_attention_heads",), "num_hidden_layers": ("num_hidden_layers",),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Whether every key was consumed and every parameter filled."""

    passed: bool
    message: str


def find(root: Path) -> list[Path]:
    """All manifests below `root`."""
    return sorted(root.rglob("*.json"))


def run(path: Path) -> Verdict:
    """Builds the model of one manifest; a broken manifest is a verdict, not an exception."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return check(manifest)
    except Exception as error:  # whatever one manifest does, the others still run
        return Verdict(False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def check(manifest: dict[str, Any]) -> Verdict:
    """Loads meta tensors of the manifest's keys as the checkpoint's, and compares counts and sizes."""
    tensors = {key: torch.empty(shape, device="meta") for key, shape in manifest["keys"].items()}
    found = next(((a, places[0]) for a in ARCHITECTURES if (places := a.places(tensors))), None)
    if found is None:
        return Verdict(False, "no adapter")
    architecture, place = found
    network = load(Checkpoint("the manifest", tensors), architecture, dtype=torch.float32)
    used = {source.key for source in place.layout.convert(place.keys).values()}
    ignored = sorted(place.keys.keys() - used)
    if left_over := [name for name in ignored if not place.layout.ignores(name)]:
        return Verdict(False, f"keys neither used nor named as ignored: {left_over[:4]}")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    declared = manifest.get("parameters")
    if len(used) == len(tensors) and declared is not None and parameters != declared:
        return Verdict(False, f"{parameters:,} parameters, the manifest declares {declared:,}")
    for theirs, ours in SAME_ARGUMENTS.items():
        for name in ours:
            has, wants = getattr(network.config, name, None), manifest.get("config", {}).get(theirs)
            if has is not None and wants is not None and not agree(has, wants):
                return Verdict(False, f"{name} is {has}, the manifest has {wants}")
    left = f", {len(tensors) - len(used)} of {len(tensors)} keys ignored" if len(used) < len(tensors) else ""
    return Verdict(True, f"{architecture.class_name}: {len(used)} keys, {parameters:,} parameters{left}")


def agree(has: Any, wants: Any) -> bool:
    """Whether a value of a configuration is what the manifest wants; of a nested one, every value it names."""
    if not isinstance(wants, dict):
        return has == wants or (isinstance(wants, list) and list(has) == wants)
    values = has if isinstance(has, dict) else has.to_dict()
    return all(agree(values.get(name), value) for name, value in wants.items())


def run_all(root: Path) -> Iterator[tuple[str, Verdict]]:
    """(file name, verdict) of every manifest."""
    for path in find(root):
        yield path.relative_to(root).as_posix(), run(path)
