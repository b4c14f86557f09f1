"""A Pyramid Flow model as its engine sees it: which family it is, its networks, and what they make of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from engines.errors import IncompatibleCheckpoint
from engines.inputs import Adapter
from engines.loading.key_rules import Architecture
from engines.loading.networks import Fit, Network, networks
from engines.loading.reading import open_checkpoint
from engines.loading.tokenizers import TextLen, load_tokenizer, stamp, tokenizer_file
from engines.memory import activations
from engines.memory.fitting import Planned, Use, planned_or_refused
from engines.memory.remembered import content_key
from engines.prompting.tokens import tokenise
from engines.pyramid_flow import coding, keys, phases
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
)
from engines.sampling import caches
from engines.types import Context, Size
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.latents import preview_factors

if TYPE_CHECKING:
    from engines.pyramid_flow.spec import PyramidFlowRequest

PROMPT_SUFFIX = ", hyper quality, Ultra HD, 8K"
PromptSuffix = Annotated[str, Field(max_length=1000)]


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
    where it differs from the published models.

    Attributes:
        text_len: tokens of a prompt that count.
        suffix: what is put behind every prompt, but not behind the negative one.
        statistics: shift and scale of the latents.
        rgb_factors: how latents become preview colours; None for published files.
    """

    family: Family
    transformer: Network
    vae: Network
    text_encoder: Network
    tokenizer: Path
    clips: tuple[Network, ...]
    clip_tokenizer: tuple[Path, ...]
    text_len: int
    suffix: str
    statistics: Statistics
    rgb_factors: Mapping[str, Any] | None

    @classmethod
    def find(cls, context: Context, *, adapters: Sequence[Adapter] = (), step_cache: str = caches.NONE) -> PyramidModel:
        """The model's files as the context has them, its transformer with adapters; nothing is loaded.

        Args:
            step_cache: which steps the loop leaves out, for people.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of the other family or variant, or does not fit the others.
        """
        here = {weights.role for weights in context.model.weights}
        paths = context.paths("transformer")
        variant = VARIANTS.get(context.model.name)
        family = FAMILIES[variant.family] if variant else _family_of(paths)
        if variant and (folder := paths[0].parent.name).startswith("diffusion_transformer_"):
            _check_variant(folder, variant.folder)
        clips = {role: family.clip for role in ("clip", "clip_2") if role in here}
        roles = {
            "transformer": family.transformer,
            "vae": keys.VAE,
            "text_encoder": keys.T5 if clips else TEXT_ENCODER,
            **clips,
        }
        found = networks(context, roles, fits=_fits(tuple(clips) or ("text_encoder",), family), adapters=adapters)
        transformer, vae = replace(found["transformer"], cache=caches.CACHES[step_cache].beside), found["vae"]
        published_suffix = "" if transformer.checkpoint.metadata else PROMPT_SUFFIX
        return cls(
            family=family,
            transformer=transformer,
            vae=vae,
            text_encoder=found["text_encoder"],
            tokenizer=tokenizer_file(context),
            clips=tuple(found[role] for role in clips),
            clip_tokenizer=context.paths("clip_tokenizer") if clips else (),
            text_len=transformer.fact("text_len", TextLen, TEXT_LEN),
            suffix=transformer.fact("prompt_suffix", PromptSuffix, published_suffix),
            statistics=vae.fact("statistics", Statistics, family.statistics),
            rgb_factors=preview_factors(vae, channels=vae.config["decoder_in_channels"]),
        )

    def prompt(self, context: Context, text: str, *, suffix: str = "") -> Prompt:
        """The text of a prompt; the encoders are not even loaded for a text they have read before."""
        ids, covered = tokenise(load_tokenizer(self.tokenizer), text + suffix, length=self.text_len)
        encoder, encoder_bytes = self._text_encoder(context)
        clips = [clip.planned(context, partial(_pooling_bytes, clip.config)) for clip in self.clips]
        files = [stamp(path) for path in (self.tokenizer, *self.clip_tokenizer)]
        networks = [encoder.key, *(clip.key for clip, _ in clips)]
        key = content_key("pyramid text", *networks, *files, ids[-1:], text + suffix)

        def read() -> Text:
            with context.use(encoder, working_bytes=encoder_bytes) as network:
                tokens = torch.tensor([ids])
                states = encode_states(network, tokens, torch.ones_like(tokens)).float()
            return one(states, self._pooled(context, clips, text + suffix, states))

        return Prompt(context.remember(key, read), text[covered:].strip())

    def picture_moments(self, context: Context, picture: np.ndarray) -> coding.Moments:
        """The posterior of a picture uint8 [H,W,3], remembered."""
        height, width = picture.shape[:2]
        coder = self.decoder(context, width, height, parked=True)
        component, room = coder.component, coder.working_bytes
        key = content_key("pyramid picture", component.key, picture.shape, picture.tobytes())

        def look() -> coding.Moments:
            with context.use(component, working_bytes=room) as vae:
                moments = coding.encode(vae, to_pixels(picture))
            return coding.Moments(*(part.cpu() for part in moments))

        return context.remember(key, look)

    def decoder(self, context: Context, width: int, height: int, *, parked: bool = False) -> Planned:
        """The autoencoder for frames of this size: planned before the first step, for any length needs the same.

        Args:
            parked: whether its tiles wait in RAM in any case.

        Raises:
            OutOfMemory: the device has not the memory for this size.
        """

        def planned(size: Size) -> Planned:
            told = {"wide": size.width, "high": size.height, "device": context.device.type, "parked": parked}
            return self.vae.plan(context, phases.decoding(self.vae.config, **told))

        return planned_or_refused(context, planned, Size(width, height), doing="Decoding")

    def denoiser(self, context: Context, request: PyramidFlowRequest) -> Planned:
        """The transformer for the units of a clip, beside what the autoencoder remembers from unit to unit."""
        told = {"text_len": self.text_len, "device": context.device.type}
        return self.transformer.plan(context, phases.making(self.transformer.config, self.vae.config, request, **told))

    def _text_encoder(self, context: Context) -> Use:
        def working(itemsize: int) -> int:
            return activations.text_encoder(self.text_encoder.config, tokens=self.text_len, itemsize=itemsize)

        return self.text_encoder.planned(context, working)

    def _pooled(self, context: Context, clips: list[Use], text: str, states: torch.Tensor) -> torch.Tensor:
        if not clips:
            return states.mean(dim=1)
        ids, _ = tokenise(load_clip_tokenizer(self.clip_tokenizer), text, length=CLIP_LEN)
        vectors = []
        for clip, clip_bytes in clips:
            with context.use(clip, working_bytes=clip_bytes) as encoder:
                vectors.append(encode_pooled(encoder, torch.tensor([ids])).float().cpu())
        return torch.cat(vectors, dim=-1)


def _fits(pooling: tuple[str, ...], family: Family) -> tuple[Fit, ...]:
    """What must be equal; `pooling` are the roles whose vectors are pooled into one."""
    area = PATCH**2 if family is FAMILIES["miniflux"] else 1
    return (
        Fit(
            "latent channels",
            "vae",
            lambda found: found["vae"].config["decoder_in_channels"],
            lambda found: found["transformer"].config["in_channels"] // area,
        ),
        Fit(
            "text channels",
            "text_encoder",
            lambda found: found["text_encoder"].config["d_model"],
            lambda found: found["transformer"].config["joint_attention_dim"],
        ),
        Fit(
            "pooled text channels",
            pooling[0],
            lambda found: sum(_pooled_width(found[role]) for role in pooling),
            lambda found: found["transformer"].config["pooled_projection_dim"],
        ),
    )


def _pooling_bytes(config: Mapping[str, Any], itemsize: int) -> int:
    return activations.clip_text(config, tokens=CLIP_LEN, itemsize=itemsize)


def _pooled_width(encoder: Network) -> int:
    """Channels of the vector that an encoder gives for a whole text."""
    names = {keys.PROJECTED_CLIP: "projection_dim", keys.CLIP: "hidden_size"}
    return encoder.config[names.get(encoder.architecture, "d_model")]


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
