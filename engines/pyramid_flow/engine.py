"""Pyramid Flow: a video unit by unit, each unit through three resolutions, older units seen at lower resolution.

A unit is one latent frame, eight frames of video; the first frame is one of its own. Finished units are decoded and
handed out while later ones are made, and their latents are kept beside the clip, which can be continued from them.
Source: Pyramid-Flow pyramid_dit/pyramid_dit_for_video_gen_pipeline.py (generate, generate_i2v).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from engines.errors import InvalidRequest, Problem
from engines.events import Note, Stage
from engines.loading.integrity import FACTS_KEY
from engines.media.files import shown_name
from engines.media.framing import cut_out
from engines.media.pictures import open_picture
from engines.prompting.tokens import cut_notes
from engines.pyramid_flow import phases, storyboard
from engines.pyramid_flow.coding import StreamingDecoder, to_levels
from engines.pyramid_flow.components import PyramidModel
from engines.pyramid_flow.generation import Unit, call_count, make_unit, past_of
from engines.pyramid_flow.noise import unit_draws
from engines.pyramid_flow.packing import Text
from engines.pyramid_flow.phases import IN_RAM
from engines.pyramid_flow.picture import fill
from engines.pyramid_flow.scheduler import PyramidScheduler
from engines.pyramid_flow.sizes import space
from engines.pyramid_flow.spec import LATENTS_SUFFIX, NAME, PyramidFlowRequest
from engines.types import Context, Frames, LatentStep
from engines.wan.latents import preview


def _kept(path: Path, *, channels: int, size: tuple[int, int], frames: int) -> torch.Tensor:
    """Latents [1,C,units,h,w] kept of an earlier clip; raises InvalidRequest where they are not this model's.

    Args:
        size: h and w.
        frames: how many of its frames are kept; 0 all of them.
    """
    latents = load_file(path)["latents"].float()
    said = ""
    if (*latents.shape[:2], *latents.shape[3:]) != (1, channels, *size):
        said = f"{shown_name(path)} holds latents of another model: choose a clip of this one."
    elif not latents.isfinite().all():
        said = f"{shown_name(path)} is damaged: it holds numbers that are not finite."
    if said:
        raise InvalidRequest([Problem("continues", said)])
    return latents[:, :, : storyboard.units_of(frames)] if frames else latents


class PyramidFlow:
    """The engine `pyramid-flow`."""

    @torch.no_grad()
    def generate(self, request: PyramidFlowRequest, context: Context) -> Iterator[Any]:
        """Yields Stage, Note, LatentStep and, unit by unit, Frames; closing it leaves nothing behind."""
        model = PyramidModel.find(context, adapters=request.adapters, step_cache=request.step_cache)
        units = storyboard.units_of(request.frames)
        grain = space(model.vae.config)
        size = (request.height // grain, request.width // grain)
        making = model.denoiser(context, request)
        parked = making.manner == IN_RAM
        decoding = model.decoder(context, request.width, request.height, parked=parked)  # refused now, or not at all
        parked = decoding.manner == IN_RAM
        if model.transformer.precision(context).instead_of:
            yield Note(message="This device would compute in float16, which gives black video: float32 is used.")

        yield Stage(name="Reading the prompt")
        texts, cut = self._texts(model, request, context, units)
        yield from cut_notes(cut, length=model.text_len)

        finished = None
        if request.continues:
            channels = model.vae.config["decoder_in_channels"]
            finished = _kept(request.continues, channels=channels, size=size, frames=request.kept_frames)
        elif request.first_picture is not None:
            yield Stage(name="Reading the picture")
            given = request.first_picture
            picture = open_picture(given.path, as_published=False)
            if not given.keep_background:
                picture, found = cut_out(picture)
                if not found:
                    yield Note(message="No clear subject was found in the picture: its background was kept.")
            pixels = np.asarray(fill(picture, width=request.width, height=request.height, position=given.position))
            moments = model.picture_moments(context, pixels)
            draw = unit_draws(request.seed, 0)
            finished = model.statistics.normalised(moments.sample(draw(tuple(moments.mean.shape))))

        yield Stage(name="Making the video")
        decoder, scheduler = StreamingDecoder(parked=parked), PyramidScheduler()
        first, later = (request.steps,) * scheduler.stages, (request.later_steps,) * scheduler.stages
        first_scale, later_scale = phases.scales(request)
        shape = (1, model.vae.config["decoder_in_channels"], 1, *size)
        begin = 0 if finished is None else finished.shape[2]
        if finished is not None:
            yield from self._decoded(model, context, request, decoder, finished, begin=0)
        index, total = 0, call_count(first, later, units=units, first=begin)
        for number in range(begin, units):
            draw = unit_draws(request.seed, number)
            unit = Unit(
                start=draw(shape),
                block_noise=draw,
                texts={name: rows[number] for name, rows in texts.items()},
                scale=later_scale if number else first_scale,
                steps=later if number else first,
                step_cache=request.step_cache,
            )
            with context.use(making.component, working_bytes=making.working_bytes) as network:
                for step in make_unit(network, unit, past=past_of(finished, scheduler), scheduler=scheduler):
                    index += 1
                    seen = step.latents[0]
                    yield LatentStep(index, total, lambda seen=seen: preview(seen, model.rgb_factors))
            made = step.latents.cpu()
            finished = made if finished is None else torch.cat([finished, made], dim=2)
            yield from self._decoded(model, context, request, decoder, finished, begin=number)

    def _decoded(
        self,
        model: PyramidModel,
        context: Context,
        request: PyramidFlowRequest,
        decoder: StreamingDecoder,
        finished: torch.Tensor,
        *,
        begin: int,
    ) -> Iterator[Frames]:
        """The frames of the finished latents [1,C,F,h,w] from unit `begin` on, each with the latents up to it."""
        if not context.decodes:
            return
        coder = model.decoder(context, request.width, request.height, parked=decoder.parked)
        for number in range(begin, finished.shape[2]):
            unit = model.statistics.denormalised(finished[:, :, number : number + 1], start=number)
            with context.use(coder.component, working_bytes=coder.working_bytes) as vae:
                frames = to_levels(decoder(vae, unit))
            yield Frames(frames, beside={LATENTS_SUFFIX: _latents_file(finished[:, :, : number + 1], request)})

    def _texts(
        self, model: PyramidModel, request: PyramidFlowRequest, context: Context, units: int
    ) -> tuple[dict[str, list[Text]], dict[str, str]]:
        """The passes' texts for every unit, and what had to be cut from each text; equal prompts are read once."""
        prompts, named = [request.prompt] * units, {"prompt": request.prompt}
        if request.storyboard.strip():
            scenes = storyboard.parse(request.storyboard)
            common = f"{request.prompt.strip()}, " if request.prompt.strip() else ""
            prompts = [common + scene for scene in storyboard.unit_prompts(scenes, units=units, fps=request.fps)]
            in_time = sorted(scenes, key=lambda scene: scene.start)
            names = (f"prompt of scene {number}" if len(scenes) > 1 else "prompt" for number in itertools.count(1))
            named = {name: common + scene.prompt for name, scene in zip(names, in_time, strict=False)}
        read = {text: model.prompt(context, text, suffix=model.suffix) for text in dict.fromkeys(prompts)}
        unconditional = model.prompt(context, request.negative_prompt)
        cut = {name: read[text].cut for name, text in named.items() if text in read}
        cut["negative prompt"] = unconditional.cut
        return {"cond": [read[text].text for text in prompts], "uncond": [unconditional.text] * units}, cut


def _latents_file(latents: torch.Tensor, request: PyramidFlowRequest) -> Callable[[], bytes]:
    """The file of the latents [1,C,F,h,w] of what was made so far, with what a continuation must know."""
    frames = storyboard.UNIT_FRAMES * (latents.shape[2] - 1) + 1
    facts = {
        "engine": NAME,
        "model": request.model,
        "width": request.width,
        "height": request.height,
        "frames": frames,
        "seed": request.seed,
    }
    return lambda: save({"latents": latents.contiguous()}, metadata={FACTS_KEY: json.dumps(facts)})
