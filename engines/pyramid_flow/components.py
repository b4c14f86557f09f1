"""A Pyramid Flow model as its engine sees it: which family it is, its networks, and what they make of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading.checkpoints import open_checkpoint
from engines.loading.key_rules import Architecture
from engines.loading.networks import Network, find_network
from engines.pyramid_flow import coding, keys
from engines.pyramid_flow.coding import MINIFLUX_STATISTICS, SD3_STATISTICS, Statistics
from engines.pyramid_flow.packing import PATCH, Text
from engines.pyramid_flow.picture import to_pixels
from engines.pyramid_flow.spec import VARIANTS
from engines.pyramid_flow.text import (
    CLIP_LEN,
    TEXT_LEN,
    encode_pooled,
    encode_states,
    load_clip_tokenizer,
    one,
    tokenise,
)
from engines.types import Context
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import load_tokenizer

PROMPT_SUFFIX = ", hyper quality, Ultra HD, 8K"


@dataclass(frozen=True)
class Family:
    """What differs between the two families: the network, CLIP's pooling, and the latents' statistics."""

    transformer: Architecture
    clip: Architecture
    statistics: Statistics


FAMILIES = {
    "sd3": Family(keys.MMDIT, keys.PROJECTED_CLIP, SD3_STATISTICS),
    "miniflux": Family(keys.MINIFLUX, keys.CLIP, MINIFLUX_STATISTICS),
}


class Prompt(NamedTuple):
    """A prompt as the network takes it, and the end of it that did not fit, "" if all did."""

    text: Text
    cut: str


@dataclass(frozen=True)
class PyramidModel:
    """The networks of one model, described but not loaded.

    A starter has one text encoder and no CLIP: its pooled vector is the mean of the states. It says in its metadata
    where it differs: `text_len` and `prompt_suffix` (transformer), `statistics` and `rgb_factors` (VAE).
    """

    family: Family
    transformer: Network
    vae: Network
    text_encoder: Network
    tokenizer: Path
    clips: tuple[Network, ...] = ()
    clip_tokenizer: tuple[Path, ...] = ()

    @classmethod
    def find(cls, context: Context) -> PyramidModel:
        """The model's files as the context has them; nothing is loaded.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of the other family or variant, or does not fit the others.
        """
        roles = {weights.role for weights in context.model.weights}
        paths = context.paths("transformer")
        variant = VARIANTS.get(context.model.name)
        family = FAMILIES[variant.family] if variant else _family_of(paths)
        if variant and (folder := paths[0].parent.name).startswith("diffusion_transformer_"):
            _check_variant(folder, variant.folder)
        transformer = find_network("transformer", paths, family.transformer)
        vae = find_network("vae", context.paths("vae"), keys.VAE)
        encoder = keys.T5 if "clip" in roles else TEXT_ENCODER
        text_encoder = find_network("text_encoder", context.paths("text_encoder"), encoder)
        clips = tuple(
            find_network(role, context.paths(role), family.clip) for role in ("clip", "clip_2") if role in roles
        )
        tokenizer = next((path for path in context.paths("tokenizer") if path.name == "tokenizer.json"), None)
        if tokenizer is None or not tokenizer.is_file():
            raise MissingWeights("tokenizer.json is not on this machine.", hint="Download the model's files first.")
        model = cls(
            family,
            transformer,
            vae,
            text_encoder,
            tokenizer,
            clips,
            tuple(context.paths("clip_tokenizer")) if clips else (),
        )
        model._check_fit()
        return model

    @property
    def statistics(self) -> Statistics:
        """Shift and scale of the latents."""
        told = self.vae.metadata.get("statistics")
        return Statistics(**told) if told else self.family.statistics

    @property
    def text_len(self) -> int:
        """Tokens of a prompt that count."""
        return int(self.transformer.metadata.get("text_len", TEXT_LEN))

    @property
    def suffix(self) -> str:
        """What is put behind every prompt, but not behind the negative one."""
        starter = self.transformer.metadata
        return starter.get("prompt_suffix", "") if starter else PROMPT_SUFFIX

    @property
    def rgb_factors(self) -> Mapping[str, Any] | None:
        """How latents become preview colours; None for published files."""
        return self.vae.metadata.get("rgb_factors")

    def precision(self, network: Network, context: Context) -> torch.dtype:
        """bfloat16 or float32; in float16 these networks make black video."""
        dtype = network.dtype(context)
        return torch.float32 if dtype == torch.float16 else dtype

    def prompt(self, context: Context, text: str, *, suffix: str = "") -> Prompt:
        """The text of a prompt; the encoders are not even loaded for a text they have read before."""
        ids, covered = tokenise(load_tokenizer(self.tokenizer), text + suffix, length=self.text_len)
        digest = hashlib.sha256(f"{text}{suffix}".encode()).hexdigest()
        key = " ".join((self.text_encoder.identity, *(clip.identity for clip in self.clips), str(ids[-1:]), digest))

        def read() -> Text:
            component = self.text_encoder.component(self.precision(self.text_encoder, context))
            with context.use(component) as encoder:
                tokens = torch.tensor([ids])
                states = encode_states(encoder, tokens, torch.ones_like(tokens)).float()
            return one(states, self._pooled(context, text + suffix, states))

        return Prompt(context.remember(f"pyramid text {key}", read), text[covered:].strip())

    def picture_moments(self, context: Context, picture: np.ndarray) -> coding.Moments:
        """The posterior of a picture uint8 [H,W,3], remembered."""
        component = self.vae.component(self.precision(self.vae, context))
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        height, width = picture.shape[:2]

        def look() -> coding.Moments:
            with context.use(component, working_bytes=self.decoding_bytes(context, width, height)) as vae:
                moments = coding.encode(vae, to_pixels(picture))
            return coding.Moments(*(part.cpu() for part in moments))

        return context.remember(f"pyramid picture {component.key} {width}x{height} {digest}", look)

    def decoding_bytes(self, context: Context, width: int, height: int) -> int:
        """Memory for activations of the autoencoder."""
        dtype = self.precision(self.vae, context)
        return coding.working_bytes(self.vae.config, width=width, height=height, dtype=dtype)

    def denoising_bytes(self, context: Context, tokens: int) -> int:
        """Memory for activations of the transformer over `tokens` tokens in all."""
        config = self.transformer.config
        width = config["num_attention_heads"] * config["attention_head_dim"]
        return tokens * 24 * width * self.precision(self.transformer, context).itemsize

    def _pooled(self, context: Context, text: str, states: torch.Tensor) -> torch.Tensor:
        if not self.clips:
            return states.mean(dim=1)
        ids, _ = tokenise(load_clip_tokenizer(self.clip_tokenizer), text, length=CLIP_LEN)
        vectors = []
        for clip in self.clips:
            with context.use(clip.component(self.precision(clip, context))) as encoder:
                vectors.append(encode_pooled(encoder, torch.tensor([ids])).float().cpu())
        return torch.cat(vectors, dim=-1)

    def _check_fit(self) -> None:
        config = self.transformer.config
        channels = config["in_channels"] // (PATCH**2 if self.family is FAMILIES["miniflux"] else 1)
        width = self.text_encoder.config["d_model"]
        pooled = sum(_pooled_width(clip) for clip in self.clips) or width
        for what, network, has, wants in (
            ("latent channels", self.vae, self.vae.config["decoder_in_channels"], channels),
            ("text channels", self.text_encoder, width, config["joint_attention_dim"]),
            ("pooled text channels", (*self.clips, self.text_encoder)[0], pooled, config["pooled_projection_dim"]),
        ):
            if has != wants:
                raise IncompatibleCheckpoint(
                    f"{network.paths[0].name} has {has} {what}, but {self.transformer.paths[0].name} was made for "
                    f"{wants}.",
                    hint="Use the files that were published together.",
                )


def _pooled_width(clip: Network) -> int:
    return clip.config["projection_dim"] if clip.architecture is keys.PROJECTED_CLIP else clip.config["hidden_size"]


def _family_of(paths: tuple[Path, ...]) -> Family:
    """The family that a starter's file says it is."""
    made_for = open_checkpoint(paths).metadata.get("class")
    found: Any = next((f for f in FAMILIES.values() if f.transformer.class_name == made_for), None)
    return found or FAMILIES["miniflux"]


def _check_variant(folder: str, wanted: str) -> None:
    """384p, 768p and image files hold the same keys: only their folders tell them apart."""
    if folder in {variant.folder for variant in VARIANTS.values()} and folder != wanted:
        raise IncompatibleCheckpoint(
            f"The transformer in {folder} is not the one of this model, which is in {wanted}; it would make noise.",
            hint="Choose the model that the file belongs to.",
        )
