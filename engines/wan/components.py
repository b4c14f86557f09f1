"""A Wan-based model as its engines see it: the transformer, autoencoder and text encoder that belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.loading.key_rules import Architecture
from engines.loading.networks import Fit, Network, networks
from engines.loading.tokenizers import TextLen, load_tokenizer, tokenizer_file
from engines.types import Component, Context
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.latents import preview_factors, temporal_stride
from engines.wan.text import PUBLISHED_TEXT_LEN, TextStates, encode_text
from engines.wan.text import working_bytes as text_bytes
from engines.wan.transformer import working_bytes as pass_bytes
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae import encode, to_pixels
from engines.wan.vae import working_bytes as coding_bytes
from engines.wan.vae_keys import VAE

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
    def find(cls, context: Context, *, transformer_kind: Architecture = TRANSFORMER) -> WanModel:
        """The model's files as the context has them; nothing is loaded.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others.
        """
        roles = {"transformer": transformer_kind, "vae": VAE, "text_encoder": TEXT_ENCODER}
        found = networks(context, roles, fits=FITS)
        text_len = PUBLISHED_TEXT_LEN
        for role in ("text_encoder", "transformer"):
            text_len = found[role].fact("text_len", TextLen, text_len)
        factors = preview_factors(found["vae"], channels=found["vae"].config["z_dim"])
        return cls(**found, tokenizer=tokenizer_file(context), text_len=text_len, rgb_factors=factors)

    def text(self, context: Context, text: str) -> TextStates:
        """The states of `text`; the encoder is not even loaded for a text it has read before."""

        def working(dtype: torch.dtype) -> int:
            return text_bytes(self.text_encoder.config, tokens=self.text_len, dtype=dtype)

        component, room = self.text_encoder.planned(context, working)

        def read() -> TextStates:
            tokenizer = load_tokenizer(self.tokenizer)
            with context.use(component, working_bytes=room) as encoder:
                return encode_text(encoder, tokenizer, text, text_len=self.text_len)

        return context.remember(content_key("text", component.key, self.text_len, text.encode()), read)

    def picture_latents(self, context: Context, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures uint8 [H,W,3] of one size -> normalised latents [C,R,h,w], each encoded alone and remembered."""

        def look(picture: np.ndarray) -> torch.Tensor:
            with context.use(component, working_bytes=room) as vae:
                return encode(vae, to_pixels(picture))[0].cpu()

        latents = []
        for picture in pictures:
            height, width = picture.shape[:2]
            component, room = self.decoder(context, width=width, height=height, frames=1)
            key = content_key("picture", component.key, picture.shape, picture.tobytes())
            latents.append(context.remember(key, lambda picture=picture: look(picture)))
        return torch.cat(latents, dim=1)

    def denoiser(self, context: Context, tokens: int) -> tuple[Component, int]:
        """The transformer for passes over `tokens` tokens at once, and the memory for their activations."""

        def working(dtype: torch.dtype) -> int:
            return pass_bytes(self.transformer.config, tokens=tokens, dtype=dtype)

        return self.transformer.planned(context, working)

    def decoder(self, context: Context, *, width: int, height: int, frames: int | None = None) -> tuple[Component, int]:
        """The autoencoder, and the memory for its activations.

        Args:
            frames: that go through together; by default those of one latent frame.
        """
        frames = frames or temporal_stride(self.vae.config)
        room = coding_bytes(self.vae.config, width=width, height=height, frames=frames)
        return self.vae.planned(context, lambda dtype: room)


def content_key(*parts: object) -> str:
    """A short name for the parts' content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
        digest.update(b"\0")
    return f"{parts[0]} {digest.hexdigest()}"
