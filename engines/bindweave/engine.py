"""BindWeave: the subjects of one to four pictures act out a prompt that a multimodal model reads together with them.

What the published code does in three stages and by files is one job here. The pictures are clean latent frames before
the clip's noisy ones; text and pictures also enter as tokens of three encoders; guidance is on the texts alone.
Source: BindWeave s2v/tasks/inference/pipeline/wan_pipeline_s2v.py and s2v/tools/feature_extract/get_eval_feature.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from engines.bindweave.components import BindWeaveModel
from engines.bindweave.conditions import clip_states, latent_mask, reference_frames, with_clip_frames
from engines.bindweave.denoising import Reading, sample
from engines.bindweave.spec import MAX_REFERENCES, BindWeaveRequest, read_on
from engines.events import Note, Stage
from engines.media.framing import Masked, boxed_subject, letterbox
from engines.media.pictures import open_picture
from engines.sampling import guidance
from engines.sampling.denoise import unipc
from engines.types import Context, Frames, LatentStep
from engines.wan.latents import latent_shape, preview
from engines.wan.text import padded
from engines.wan.transformer import token_count
from engines.wan.vae import decode_frames

# A picture that fills less of the canvas than this is hardly seen: it is never enlarged.
SMALL_SHARE = 0.1


class BindWeave:
    """The engine `bindweave`."""

    @torch.no_grad()
    def generate(self, request: BindWeaveRequest, context: Context) -> Iterator[Any]:
        """Yields Stage, Note, LatentStep and Frames; closing it leaves nothing behind."""
        model = BindWeaveModel.find(
            context, adapters=request.adapters, step_cache=request.step_cache, steps=request.steps
        )
        size = {"width": request.width, "height": request.height}
        decoding = model.wan.decoder(context, **size)
        made_for = context.model.geometry.sizes[0]
        # The starter, which knows few words, was trained on clips of several sizes.
        if not context.model.words and (request.width, request.height) != made_for:
            published = "x".join(map(str, made_for))
            yield Note(message=f"This model was published for {published} alone: other sizes are unverified.")
        weights = guidance.text_weights(request.guidance)
        # What the text encoder reads, and what the multimodal model reads.
        texts = {
            "cond": (request.prompt, request.prompt),
            "uncond": (request.negative_prompt, read_on(request.negative_prompt)),
        }
        texts = {name: texts[name] for name in guidance.needed(weights)}

        yield Stage(name="Reading the prompt")
        encoded = {name: model.wan.text(context, text) for name, (text, _) in texts.items()}
        for name, label in (("cond", "prompt"), ("uncond", "negative prompt")):
            if name in encoded and encoded[name].cut:
                yield Note(
                    message=f"The {label} is too long for one of this model's encoders: it reads only the first "
                    f"{model.wan.text_len} tokens, the other one reads all."
                )

        yield Stage(name="Reading the pictures")
        pictures, remarks = prepare(request)
        for remark in remarks:
            yield Note(message=remark)
        images = [picture.image for picture in pictures]
        canvases = [letterbox(picture.image, **size, mask=picture.mask) for picture in pictures]
        frames = [np.asarray(canvas.image) for canvas in canvases]
        clip = clip_states(model.picture_states(context, frames), slots=MAX_REFERENCES)
        latents = model.wan.picture_latents(context, frames)
        grey = model.grey(context, **size, frames=request.frames)
        rows, columns = grey.shape[-2:]
        masks = [latent_mask(np.asarray(canvas.mask), rows=rows, columns=columns) for canvas in canvases]
        references = reference_frames(list(latents.split(1, dim=1)), masks, slots=MAX_REFERENCES)
        condition = with_clip_frames(references, grey)

        yield Stage(name="Reading prompt and pictures together")
        readings = {
            name: Reading(
                mllm=model.states(context, text, images),
                text=padded(encoded[name].states, text_len=model.wan.text_len),
            )
            for name, (_, text) in texts.items()
        }

        yield Stage(name="Making the video")
        shape = latent_shape(model.wan.vae.config, **size, frames=request.frames)
        # Drawn in the precision that the published code draws in, for the same seeds.
        generator = torch.Generator().manual_seed(request.seed)
        noise = torch.randn(shape, generator=generator, dtype=torch.bfloat16).float()
        tokens = token_count(model.wan.transformer.config, *condition.shape[1:])
        component, room = model.wan.denoiser(context, tokens, count=len(readings))
        longest = max(len(reading.mllm) for reading in readings.values()) + len(clip)
        with (
            context.use(component, working_bytes=room) as network,
            model.wan.kept_texts(context, component, network, rows=len(readings), beside=longest),
        ):
            for state in sample(
                network,
                noise=noise.to(context.device),
                condition=condition,
                clip=clip,
                readings=readings,
                weights=weights,
                scheduler=unipc(request.steps, shift=request.shift),
            ):
                clean = state.clean
                yield LatentStep(state.index, state.total, lambda clean=clean: preview(clean, model.wan.rgb_factors))

        if not context.decodes:
            return
        yield Stage(name="Decoding")
        with context.use(decoding.component, working_bytes=decoding.working_bytes) as decoder:
            for pixels in decode_frames(decoder, state.latents, manner=decoding.manner, rounded=True):
                yield Frames(pixels)


def prepare(request: BindWeaveRequest) -> tuple[list[Masked], list[str]]:
    """The reference pictures, or their subjects on white with their silhouettes; and remarks for people."""
    pictures, remarks = [], []
    for number, reference in enumerate(request.references, start=1):
        whole = open_picture(reference.path, as_published=request.published_pictures)
        subject = None if reference.keep_background else boxed_subject(whole, reference.brush)
        if subject is None and not reference.keep_background:
            remarks.append(f"No clear subject was found in picture {number}: its background was kept.")
        picture = subject or Masked(whole)
        if picture.image.width * picture.image.height < SMALL_SHARE * request.width * request.height:
            remarks.append(
                f"What is used of picture {number} has only {picture.image.width}x{picture.image.height} pixels. "
                "It is not enlarged, so a larger picture is seen better."
            )
        pictures.append(picture)
    return pictures, remarks
