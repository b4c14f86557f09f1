"""Phantom: the subjects of one to four pictures act out a prompt, on the text-to-video transformer of Wan 2.1.

Each picture is one clean latent frame behind the clip's noisy ones; a three-pass guidance steers by pictures and text.
Source: Phantom generate.py (load_ref_images) and phantom_wan/subject2video.py (Phantom_Wan_S2V.generate).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import WanTransformer3DModel

from engines.errors import IncompatibleCheckpoint
from engines.events import Note, Stage
from engines.media.framing import cut_out, fit_on_canvas
from engines.media.pictures import open_picture
from engines.phantom_wan.spec import PhantomWanRequest
from engines.prompting.tokens import cut_notes
from engines.sampling import guidance
from engines.sampling.denoise import Denoised, SamplingStep, denoise, unipc
from engines.sampling.guidance import NetworkCall, guided
from engines.types import Context, Frames, LatentStep
from engines.wan.components import WanModel
from engines.wan.latents import latent_shape, preview
from engines.wan.text import padded
from engines.wan.transformer import predict
from engines.wan.vae import decode_frames


class PhantomWan:
    """The engine `phantom-wan`."""

    @torch.no_grad()
    def generate(self, request: PhantomWanRequest, context: Context) -> Iterator[Any]:
        """Yields Stage, Note, LatentStep and Frames; closing it leaves nothing behind."""
        model = WanModel.find(context, adapters=request.adapters, step_cache=request.step_cache, steps=request.steps)
        config = model.transformer.config
        if config["in_channels"] != config["out_channels"]:
            name = model.transformer.name
            raise IncompatibleCheckpoint(f"{name} was made for image-to-video; this engine needs a Phantom checkpoint.")

        size = {"width": request.width, "height": request.height}
        decoding = model.decoder(context, **size)

        yield Stage(name="Reading the prompt")
        prompt, negative = (model.text(context, text) for text in (request.prompt, request.negative_prompt))
        yield from cut_notes({"prompt": prompt.cut, "negative prompt": negative.cut}, length=model.text_len)

        yield Stage(name="Reading the pictures")
        pictures = []
        for number, reference in enumerate(request.references, start=1):
            picture = open_picture(reference.path, as_published=request.published_pictures)
            if not reference.keep_background:
                picture, found = cut_out(picture, reference.brush)
                if not found:
                    yield Note(message=f"No clear subject was found in picture {number}: its background was kept.")
            pictures.append(np.asarray(fit_on_canvas(picture, width=request.width, height=request.height)))
        references = model.picture_latents(context, pictures)

        yield Stage(name="Making the video")
        channels, frames, rows, columns = latent_shape(model.vae.config, **size, frames=request.frames)
        shape = (channels, frames + references.shape[1], rows, columns)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))
        weights = guidance.subject(request.image_guidance, request.text_guidance)
        passes = model.passes(context, shape, len(guidance.needed(weights)))
        with (
            context.use(passes.component, working_bytes=passes.working_bytes) as network,
            model.kept_texts(context, passes.component, network, rows=len(weights), shared={"neg": "pos_i"}),
        ):
            for state in sample(
                network,
                noise=noise.to(context.device),
                references=references.to(context.device),
                prompt=padded(prompt.states, text_len=model.text_len),
                negative=padded(negative.states, text_len=model.text_len),
                weights=weights,
                scheduler=unipc(request.steps, shift=request.shift),
                batched=passes.batched,
            ):
                clip = state.clean[:, :frames]
                yield LatentStep(state.index, state.total, lambda clip=clip: preview(clip, model.rgb_factors))
        latents = state.latents[:, :frames]

        if not context.decodes:
            return
        yield Stage(name="Decoding")
        with context.use(decoding.component, working_bytes=decoding.working_bytes) as decoder:
            for pixels in decode_frames(decoder, latents, manner=decoding.manner):
                yield Frames(pixels)


def sample(
    network: WanTransformer3DModel,
    *,
    noise: torch.Tensor,
    references: torch.Tensor,
    prompt: torch.Tensor,
    negative: torch.Tensor,
    weights: dict[str, float],
    scheduler: Any,
    batched: bool,
) -> Iterator[Denoised]:
    """The denoising loop of subject-to-video. Latents are [C,F,h,w], normalised, float32; text is padded [L,D].

    References take the last R frames of the network's input only: the state keeps slots of its own there, which drift,
    are part of the solver's history and are cut off by the caller.

    Args:
        noise: [C,F+R,h,w].
        references: [C,R,h,w]; the pass `neg` sees zeros in their place.
        weights: of the passes pos_it, pos_i, neg: see guidance.subject.
    """
    frames = noise.shape[1] - references.shape[1]
    dtype = network.patch_embedding.weight.dtype
    prompt, negative = (text.to(noise.device, dtype) for text in (prompt, negative))
    conditions = {
        "pos_it": (references, prompt),
        "pos_i": (references, negative),
        "neg": (torch.zeros_like(references), negative),
    }

    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        def passes(batch: list[tuple[torch.Tensor, torch.Tensor]], call: NetworkCall) -> torch.Tensor:
            seen = torch.stack([torch.cat([latents[:, :frames], pictures], dim=1) for pictures, _ in batch])
            return predict(network, seen, timestep, torch.stack([text for _, text in batch]), call=call)

        return guided(passes, conditions, weights, batched=batched, step=SamplingStep.of(scheduler))

    return denoise(noise, scheduler, velocity)
