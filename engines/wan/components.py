"""A Wan-based model as its engines see it: the transformer, autoencoder and text encoder that belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.errors import IncompatibleCheckpoint, MissingWeights
from engines.loading.key_rules import Architecture
from engines.loading.networks import Network, find_network
from engines.types import Context
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.text import PUBLISHED_TEXT_LEN, TextStates, encode_text, load_tokenizer
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae import encode, to_pixels, working_bytes
from engines.wan.vae_keys import VAE


@dataclass(frozen=True)
class WanModel:
    """The networks of one model, described but not loaded.

    Starters say in their metadata where they differ from the published systems: `text_len` (512 is published),
    `rgb_factors` for previews.
    """

    transformer: Network
    vae: Network
    text_encoder: Network
    tokenizer: Path

    @classmethod
    def find(cls, context: Context, *, transformer_kind: Architecture = TRANSFORMER) -> WanModel:
        """The model's files as the context has them; nothing is loaded.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others.
        """
        transformer = find_network("transformer", context.paths("transformer"), transformer_kind)
        vae = find_network("vae", context.paths("vae"), VAE)
        text_encoder = find_network("text_encoder", context.paths("text_encoder"), TEXT_ENCODER)
        tokenizer = next((path for path in context.paths("tokenizer") if path.name == "tokenizer.json"), None)
        if tokenizer is None or not tokenizer.is_file():
            raise MissingWeights("tokenizer.json is not on this machine.", hint="Download the model's files first.")
        for what, network, has, wants in (
            ("latent channels", vae, vae.config["z_dim"], transformer.config["out_channels"]),
            ("text channels", text_encoder, text_encoder.config["d_model"], transformer.config["text_dim"]),
        ):
            if has != wants:
                raise IncompatibleCheckpoint(
                    f"{network.paths[0].name} has {has} {what}, but {transformer.paths[0].name} was made for {wants}.",
                    hint="Use the files that were published together.",
                )
        return cls(transformer, vae, text_encoder, tokenizer)

    @property
    def text_len(self) -> int:
        """Rows of text states that the transformer attends to."""
        metadata = dict(self.text_encoder.metadata) | dict(self.transformer.metadata)
        return int(metadata.get("text_len", PUBLISHED_TEXT_LEN))

    @property
    def rgb_factors(self) -> Mapping[str, Any] | None:
        """How latents become preview colours; None for published files."""
        return self.vae.metadata.get("rgb_factors")

    def text(self, context: Context, text: str) -> TextStates:
        """The states of `text`; the encoder is not even loaded for a text it has read before."""
        component = self.text_encoder.component(self.text_encoder.dtype(context))

        def read() -> TextStates:
            tokenizer = load_tokenizer(self.tokenizer)
            with context.use(component) as encoder:
                return encode_text(encoder, tokenizer, text, text_len=self.text_len)

        return context.remember(_content_key("text", component.key, self.text_len, text.encode()), read)

    def picture_latents(self, context: Context, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures uint8 [H,W,3] of one size -> normalised latents [C,R,h,w], each encoded alone and remembered."""
        component = self.vae.component(torch.float32)

        def look(picture: np.ndarray) -> torch.Tensor:
            height, width = picture.shape[:2]
            room = working_bytes(self.vae.config, width=width, height=height, frames=1)
            with context.use(component, working_bytes=room) as vae:
                return encode(vae, to_pixels(picture))[0].cpu()

        latents = []
        for picture in pictures:
            key = _content_key("picture", component.key, picture.shape, picture.tobytes())
            latents.append(context.remember(key, lambda picture=picture: look(picture)))
        return torch.cat(latents, dim=1)


def _content_key(*parts: object) -> str:
    """A short name for the parts' content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return f"{parts[0]} {digest.hexdigest()}"
