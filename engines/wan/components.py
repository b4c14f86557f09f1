"""A Wan-based model as its engines see it: the transformer, autoencoder and text encoder that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch

from engines.inputs import Adapter
from engines.loading.key_rules import Architecture
from engines.loading.networks import Fit, Network, networks
from engines.loading.tokenizers import TextLen, load_tokenizer, stamp, tokenizer_file
from engines.memory import activations
from engines.memory.fitting import Planned, Use, Working, planned_or_refused
from engines.memory.remembered import content_key
from engines.sampling import caches
from engines.types import Component, Context, Size
from engines.wan import decoding, transformer, vae
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.latents import preview_factors
from engines.wan.phases import TOGETHER, manners_of, plus
from engines.wan.text import PUBLISHED_TEXT_LEN, TextStates, encode_text
from engines.wan.text_memory import kept_texts
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE


class Passes(NamedTuple):
    """The transformer for a run: the memory for its activations, and whether the passes of a step are one batch."""

    component: Component
    working_bytes: int
    batched: bool


FITS = (
    Fit(
        "latent channels",
        "vae",
        lambda found: found["vae"].config["z_dim"],
        lambda found: found["transformer"].config["out_channels"],
    ),
    Fit(
        "text channels",
        "text_encoder",
        lambda found: found["text_encoder"].config["d_model"],
        lambda found: found["transformer"].config["text_dim"],
    ),
)


@dataclass(frozen=True)
class WanModel:
    """The networks of one model, described but not loaded.

    Starters say in their metadata where they differ from the published systems.

    Attributes:
        text_len: rows of text states that the transformer attends to.
        rgb_factors: how latents become preview colours; None for published files.
    """

    transformer: Network
    vae: Network
    text_encoder: Network
    tokenizer: Path
    text_len: int
    rgb_factors: Mapping[str, Any] | None

    @classmethod
    def find(
        cls,
        context: Context,
        *,
        transformer_kind: Architecture = TRANSFORMER,
        adapters: Sequence[Adapter] = (),
        step_cache: str = caches.NONE,
        steps: int = 1,
    ) -> WanModel:
        """The model's files as the context has them, its transformer with adapters; nothing is loaded.

        Args:
            step_cache: of engines.sampling.caches.CACHES, for a clip of so many `steps`.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others.
            NotCalibrated: the step cache needs a calibration of the transformer, and there is none.
        """
        roles = {"transformer": transformer_kind, "vae": VAE, "text_encoder": TEXT_ENCODER}
        found = networks(context, roles, fits=FITS, adapters=adapters)
        cache = caches.chosen(step_cache, steps=steps, files=context.paths("transformer"))
        found["transformer"] = replace(found["transformer"], cache=cache)
        text_len = PUBLISHED_TEXT_LEN
        for role in ("text_encoder", "transformer"):
            text_len = found[role].fact("text_len", TextLen, text_len)
        factors = preview_factors(found["vae"], channels=found["vae"].config["z_dim"])
        return cls(**found, tokenizer=tokenizer_file(context), text_len=text_len, rgb_factors=factors)

    def text(self, context: Context, text: str) -> TextStates:
        """The states of `text`; the encoder is not even loaded for a text it has read before."""

        def working(itemsize: int) -> int:
            return activations.text_encoder(self.text_encoder.config, tokens=self.text_len, itemsize=itemsize)

        component, room = self.text_encoder.planned(context, working)

        def read() -> TextStates:
            tokenizer = load_tokenizer(self.tokenizer)
            with context.use(component, working_bytes=room) as encoder:
                return encode_text(encoder, tokenizer, text, text_len=self.text_len)

        key = content_key("text", component.key, stamp(self.tokenizer), self.text_len, text.encode())
        return context.remember(key, read)

    def picture_latents(self, context: Context, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures uint8 [H,W,3] of one size -> normalised latents [C,R,h,w], each encoded alone and remembered."""

        def look(picture: np.ndarray) -> torch.Tensor:
            with context.use(component, working_bytes=room) as network:
                return vae.encode(network, vae.to_pixels(picture))[0].cpu()

        latents = []
        for picture in pictures:
            height, width = picture.shape[:2]
            component, room = self.encoder(context, width=width, height=height, frames=1)
            key = content_key("picture", component.key, picture.shape, picture.tobytes())
            latents.append(context.remember(key, lambda picture=picture: look(picture)))
        return torch.cat(latents, dim=1)

    def denoiser(self, context: Context, tokens: int, *, count: int = 1) -> Use:
        """The transformer for `count` passes a step over `tokens` tokens each, one after another, and the memory for
        their activations."""
        found = self._planned(context, {"": self._pass_bytes(tokens)}, tokens, count)
        return Use(found.component, found.working_bytes)

    def passes(self, context: Context, latents: Sequence[int], count: int) -> Passes:
        """How the transformer makes `count` passes of guidance over latents of the shape [C,F,h,w]: small ones in one
        batch, where there is the memory for it."""
        tokens = transformer.token_count(self.transformer.config, *latents[1:])
        manners = manners_of(self._pass_bytes, tokens, count, batched=transformer.BATCHED_TOKENS)
        found = self._planned(context, manners, tokens, count)
        return Passes(found.component, found.working_bytes, found.manner == TOGETHER)

    def kept_texts(
        self,
        context: Context,
        component: Component,
        network: torch.nn.Module,
        *,
        rows: int,
        beside: int = 0,
        shared: Mapping[str, str] = MappingProxyType({}),
    ) -> AbstractContextManager[None]:
        """A transformer in use keeps what it makes of its texts, and of `beside` tokens more: see text_memory."""
        return kept_texts(context, component, network, tokens=self.text_len + beside, rows=rows, shared=shared)

    def _planned(self, context: Context, manners: Mapping[str, Working], tokens: int, count: int) -> Planned:
        """The transformer as it is planned, with what its step cache keeps of `count` passes."""
        kept = self.transformer.cache.kept(self.transformer.config) * tokens * count
        found = self.transformer.plan(context, {manner: plus(one, kept) for manner, one in manners.items()})
        return replace(found, component=replace(found.component, compiles=True))

    def _pass_bytes(self, tokens: int) -> Working:
        return partial(_pass_bytes, self.transformer.config, tokens)

    def decoder(self, context: Context, *, width: int, height: int) -> Planned:
        """The autoencoder for frames of this size: planned before the first step, for any length needs the same.

        Raises:
            OutOfMemory: the device has not the memory for this size.
        """

        def planned(size: Size) -> Planned:
            told = {"wide": size.width, "high": size.height, "device": context.device.type}
            return self.vae.plan(context, decoding.manners(self.vae.config, **told))

        return planned_or_refused(context, planned, Size(width, height), doing="Decoding")

    def encoder(self, context: Context, *, width: int, height: int, frames: int) -> Use:
        """The autoencoder for encoding `frames` frames of this size."""

        def working(itemsize: int) -> int:
            told = {"wide": width, "high": height, "itemsize": itemsize, "device": context.device.type}
            return activations.wan_encoder(self.vae.config, frames=frames, **told)

        return self.vae.planned(context, working)


def _pass_bytes(config: Mapping[str, Any], tokens: int, itemsize: int) -> int:
    return activations.wan_transformer(config, tokens=tokens, itemsize=itemsize)
