"""The networks of BindWeave: those of Wan, the image encoder and the multimodal model, used one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from tokenizers import Tokenizer

from engines.bindweave.conditions import MASK_CHANNELS, clip_pixels
from engines.bindweave.keys import BINDWEAVE
from engines.bindweave.reading import reference_patches
from engines.inputs import Adapter
from engines.loading.networks import Fit, Network, Networks, networks
from engines.loading.tokenizers import load_tokenizer, stamp, tokenizer_file
from engines.memory import activations
from engines.memory.fitting import Use
from engines.memory.remembered import content_key
from engines.qwen.chat import read, text_then_pictures, tokenise
from engines.qwen.keys import QWEN
from engines.qwen.pictures import MAX_PIXELS, MIN_PIXELS, Patches, look
from engines.types import Context
from engines.wan.components import WanModel
from engines.wan.encoder_keys import IMAGE_ENCODER
from engines.wan.image import encode_image
from engines.wan.vae import encode_grey

# Pixels of the largest picture that the multimodal model is shown, as a file of a small one may say.
MaxPixels = Annotated[int, Field(ge=MIN_PIXELS, le=MAX_PIXELS)]


def _image_tokens(found: Networks) -> int:
    config = found["image_encoder"].config
    return (config["image_size"] // config["patch_size"]) ** 2 + 1


FITS = (
    Fit(
        "channels for pictures",
        "transformer",
        lambda found: found["transformer"].config["in_channels"],
        lambda found: MASK_CHANNELS + 2 * found["transformer"].config["out_channels"],
    ),
    Fit(
        "image channels",
        "image_encoder",
        lambda found: found["image_encoder"].config["hidden_size"],
        lambda found: found["transformer"].config["image_dim"],
    ),
    Fit(
        "tokens of a picture",
        "image_encoder",
        _image_tokens,
        lambda found: found["transformer"].config.get("clip_token_len", 257),
    ),
    Fit(
        "channels of states",
        "mllm",
        lambda found: found["mllm"].config["text_config"]["hidden_size"],
        lambda found: found["transformer"].config["mllm_dim"],
    ),
)


@dataclass(frozen=True)
class BindWeaveModel:
    """The networks of one model, described but not loaded."""

    wan: WanModel
    image_encoder: Network
    mllm: Network
    mllm_tokenizer: Path

    @classmethod
    def find(cls, context: Context, *, adapters: Sequence[Adapter] = (), **cached: Any) -> BindWeaveModel:
        """The model's files as the context has them, its transformer with adapters; nothing is loaded.

        Args:
            cached: the step cache, and for how many steps: see WanModel.find.

        Raises:
            MissingWeights: a file is missing.
            IncompatibleCheckpoint: a file is damaged, of another network, or does not fit the others.
        """
        kinds = {"transformer": BINDWEAVE, "image_encoder": IMAGE_ENCODER, "mllm": QWEN}
        found = networks(context, kinds, fits=FITS)
        return cls(
            wan=WanModel.find(context, transformer_kind=BINDWEAVE, adapters=adapters, **cached),
            image_encoder=found["image_encoder"],
            mllm=found["mllm"],
            mllm_tokenizer=tokenizer_file(context, "mllm_tokenizer"),
        )

    def picture_states(self, context: Context, pictures: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Letterboxed pictures uint8 [H,W,3] -> CLIP states [N,D] of each, remembered."""
        component, room = self.image_encoder.planned(context)
        size = self.image_encoder.config["image_size"]

        def look_at(picture: np.ndarray) -> torch.Tensor:
            with context.use(component, working_bytes=room) as encoder:
                return encode_image(encoder, clip_pixels(picture, size=size))[0].cpu()

        return [
            context.remember(
                content_key("clip", component.key, picture.shape, picture.tobytes()),
                lambda picture=picture: look_at(picture),
            )
            for picture in pictures
        ]

    def grey(self, context: Context, *, width: int, height: int, frames: int) -> torch.Tensor:
        """The latents [C,F,h,w] of a clip of mid grey, remembered: they stand where there is no picture."""
        component, room = self.wan.encoder(context, width=width, height=height, frames=frames)

        def encoded() -> torch.Tensor:
            with context.use(component, working_bytes=room) as vae:
                return encode_grey(vae, width=width, height=height, frames=frames).cpu()

        return context.remember(content_key("grey", component.key, width, height, frames), encoded)

    def states(self, context: Context, text: str, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """The multimodal model's states [S,D] of a text read with RGB pictures, remembered.

        A text read before loads no network; a new one about pictures seen before does not look at them again.
        """
        seen = [part for picture in pictures for part in (picture.size, picture.tobytes())]
        component, _ = self._reader(context, tokens=0)
        key = content_key("read", component.key, stamp(self.mllm_tokenizer), text.encode(), *seen)

        def read_on() -> torch.Tensor:
            features, grids = context.remember(
                content_key("features", component.key, *seen), lambda: self._look(context, pictures)
            )
            tokens = Patches(features, grids).tokens
            ids = tokenise(self.tokenizer(), text_then_pictures(text, tokens))
            reader, room = self._reader(context, tokens=ids.shape[1])
            with context.use(reader, working_bytes=room) as network:
                return read(network, ids, features, grids).cpu()

        return context.remember(key, read_on)

    def tokenizer(self) -> Tokenizer:
        """The multimodal model's tokenizer."""
        return load_tokenizer(self.mllm_tokenizer)

    def patches(self, pictures: Sequence[Image.Image]) -> Patches:
        """RGB pictures as the multimodal model is shown them."""
        return reference_patches(pictures, max_pixels=self.mllm.fact("max_pixels", MaxPixels, MAX_PIXELS))

    def _look(self, context: Context, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """The pictures' features [tokens,D] and the grids of their patches [R,3]."""
        patches = self.patches(pictures)
        reader, room = self._reader(context, tokens=0, patches=len(patches.values))
        with context.use(reader, working_bytes=room) as network:
            return look(network, patches).cpu(), patches.grids

    def _reader(self, context: Context, *, tokens: int, patches: int = 0) -> Use:
        """The multimodal model, and the memory for a chat of so many tokens or pictures of so many patches."""

        def working(itemsize: int) -> int:
            return activations.chat(self.mllm.config, tokens=tokens, patches=patches, itemsize=itemsize)

        return self.mllm.planned(context, working)
