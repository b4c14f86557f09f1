"""FlashI2V: a picture becomes the first frame of a clip, on the text-to-video transformer of Wan 2.1.

The carried state is the plain latent, from plain noise to the clip; the picture's shift is subtracted only from what
the network sees, and never added back. Guidance is on the text alone. The first frame is generated, not pasted.
Source: FlashI2V infer/infer_flashi2v.py and flashi2v/pipelines/flashi2v_pipeline.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from engines.events import Note, Stage
from engines.flashi2v.keys import FLASHI2V
from engines.flashi2v.network import FlashI2VTransformer3DModel
from engines.flashi2v.spec import FlashI2VRequest
from engines.media.framing import crop_to_cover
from engines.media.pictures import open_picture
from engines.prompting.tokens import cut_notes
from engines.sampling import guidance
from engines.sampling.denoise import Denoised, SamplingStep, Scheduler, denoise, euler
from engines.sampling.guidance import NetworkCall, guided
from engines.types import Context, Frames, LatentStep
from engines.wan.components import WanModel
from engines.wan.latents import latent_shape, preview
from engines.wan.text import padded
from engines.wan.transformer import predict
from engines.wan.vae import decode_frames

# A picture enlarged more than this looks soft in the clip.
MOST_ENLARGED = 2.0


class FlashI2V:
    """The engine `flashi2v`."""

    @torch.no_grad()
    def generate(self, request: FlashI2VRequest, context: Context) -> Iterator[Any]:
        """Yields Stage, Note, LatentStep and Frames; closing it leaves nothing behind."""
        model = WanModel.find(
            context,
            transformer_kind=FLASHI2V,
            adapters=request.adapters,
            step_cache=request.step_cache,
            steps=request.steps,
        )
        size = {"width": request.width, "height": request.height}
        decoding = model.decoder(context, **size)

        yield Stage(name="Reading the prompt")
        prompt, negative = (model.text(context, text) for text in (request.prompt, request.negative_prompt))
        yield from cut_notes({"prompt": prompt.cut, "negative prompt": negative.cut}, length=model.text_len)

        yield Stage(name="Reading the picture")
        image = open_picture(request.picture.path, as_published=request.published_pictures)
        enlarged = max(request.width / image.width, request.height / image.height)
        if enlarged > MOST_ENLARGED:
            yield Note(
                message=f"The picture of {image.width}x{image.height} pixels is enlarged {enlarged:.1f} times: "
                "a larger one gives a sharper clip."
            )
        picture = cover(
            np.array(image),
            **size,
            position=request.picture.position,
            interpolation=model.transformer.config.get("interpolation", "bicubic"),
        )
        first = model.picture_latents(context, [picture])

        yield Stage(name="Making the video")
        shape = latent_shape(model.vae.config, **size, frames=request.frames)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        weights = guidance.text_weights(request.guidance)
        passes = model.passes(context, shape, len(guidance.needed(weights)))
        with (
            context.use(passes.component, working_bytes=passes.working_bytes) as network,
            model.kept_texts(context, passes.component, network, rows=len(weights)),
        ):
            for state in sample(
                network,
                noise=noise.to(context.device),
                first=first.to(context.device),
                prompt=padded(prompt.states, text_len=model.text_len),
                negative=padded(negative.states, text_len=model.text_len),
                weights=weights,
                ratio=fourier_ratio(request.detail),
                scheduler=euler(request.steps, shift=request.shift),
                batched=passes.batched,
            ):
                clip = state.clean
                yield LatentStep(state.index, state.total, lambda clip=clip: preview(clip, model.rgb_factors))
        latents = state.latents

        if not context.decodes:
            return
        yield Stage(name="Decoding")
        with context.use(decoding.component, working_bytes=decoding.working_bytes) as decoder:
            for pixels in decode_frames(decoder, latents, manner=decoding.manner, rounded=True):
                yield Frames(pixels)


def cover(
    picture: np.ndarray, *, width: int, height: int, position: float = 0.5, interpolation: str = "bicubic"
) -> np.ndarray:
    """Picture uint8 [H,W,3] resized to cover width x height and cropped, uint8 [height,width,3]; never stretched.

    Resized in whole levels with antialiasing, as published: bicubic on branch main, bilinear on npu.
    """
    crop = crop_to_cover((picture.shape[1], picture.shape[0]), width=width, height=height, position=position)
    levels = torch.from_numpy(picture).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        levels, (crop.height, crop.width), mode=interpolation, antialias=True, align_corners=False
    )
    frame = resized[0, :, crop.top : crop.top + height, crop.left : crop.left + width]
    return frame.permute(1, 2, 0).contiguous().numpy()


def fourier_ratio(detail: float) -> float:
    """The published low-frequency ratio of a detail setting: 0.1 of 0.9."""
    return round(1 - detail, 6)


def sample(
    network: FlashI2VTransformer3DModel,
    *,
    noise: torch.Tensor,
    first: torch.Tensor,
    prompt: torch.Tensor,
    negative: torch.Tensor,
    weights: dict[str, float],
    ratio: float,
    scheduler: Scheduler,
    batched: bool,
) -> Iterator[Denoised]:
    """The shifted denoising loop. Latents are [C,F,h,w], normalised, float32; text is padded [L,D].

    Args:
        noise: [C,F,h,w]; the state starts here, unshifted.
        first: [C,1,h,w], the first frame encoded alone.
        weights: of the passes cond, uncond: see guidance.text_weights. Both see the picture.
        ratio: how much of the picture's spectrum is left out: see network.fourier_features.
    """
    shift, features = network.shift_and_features(first[None], frames=noise.shape[1], ratio=ratio)
    dtype = network.patch_embedding.weight.dtype
    conditions = {"cond": prompt.to(noise.device, dtype), "uncond": negative.to(noise.device, dtype)}

    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([latents - shift, features], dim=1)

        def passes(texts: list[torch.Tensor], call: NetworkCall) -> torch.Tensor:
            return predict(network, seen.expand(len(texts), -1, -1, -1, -1), timestep, torch.stack(texts), call=call)

        return guided(passes, conditions, weights, batched=batched, step=SamplingStep.of(scheduler))

    return denoise(noise, scheduler, velocity)
