"""Phantom-physics: pictures and their physics denoised together, from a prompt, a picture, or a clip to go on from.

The base is Wan2.2-TI2V-5B: given frames are clean latent frames whose tokens have timestep 0. A physics checkpoint adds
the second branch; at a scale of 0, and for the base model, it is not even loaded.
Source: Wan2.2 wan/textimage2video.py; the branch: docs/phantom_physics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from PIL import Image

from engines.events import Note, Stage
from engines.media.excerpt import read_excerpt
from engines.media.metadata import VIEW_SUFFIX
from engines.media.pictures import open_picture
from engines.phantom_physics.components import PhysicsModel
from engines.phantom_physics.force import PointForce, Wind, felt_by
from engines.phantom_physics.latents import normalised, tubelet_count
from engines.phantom_physics.picture import best_output_size, cover
from engines.phantom_physics.sampling import Latents, Sampler, denoise, draw_noise
from engines.phantom_physics.spec import PHANTOM_PHYSICS, PhantomPhysicsRequest, excerpt_rules, resolved_shift
from engines.phantom_physics.view import movie
from engines.prompting.tokens import cut_notes
from engines.sampling import guidance
from engines.sampling.denoise import SOLVERS
from engines.types import Context, Frames, LatentStep, Measured
from engines.validation import check_file_choices
from engines.wan import transformer
from engines.wan.latents import latent_shape, preview
from engines.wan.text import padded
from engines.wan.transformer import token_count
from engines.wan.vae import decode_frames


class PhantomPhysics:
    """The engine `phantom-physics`."""

    @torch.no_grad()
    def generate(self, request: PhantomPhysicsRequest, context: Context) -> Iterator[Any]:
        """Yields Stage, Note, LatentStep and Frames; closing it leaves nothing behind."""
        check_file_choices(PHANTOM_PHYSICS, request, context.paths)
        model = PhysicsModel.find(
            context,
            with_physics=request.physics_scale > 0,
            surprised=request.surprise,
            adapters=request.adapters,
            step_cache=request.step_cache,
        )
        yield Note(message=model.told)
        for warning in model.warnings:
            yield Note(message=warning)

        begin, notes = None, []
        if request.picture or request.clip:
            yield Stage(name="Reading the picture" if request.picture else "Reading the clip")
            begin, notes = beginning(request)  # before anything is loaded: a file may be worse than it looked
        for note in notes:
            yield Note(message=note)
        height, width = (request.height, request.width) if begin is None else begin.shape[1:3]
        decoding = model.wan.decoder(context, width=width, height=height)
        given = None if begin is None else model.given(context, begin)

        yield Stage(name="Reading the prompt")
        texts = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
        states = {label: model.wan.text(context, text) for label, text in texts.items()}
        yield from cut_notes({label: text.cut for label, text in states.items()}, length=model.wan.text_len)

        yield Stage(name="Making the video")
        shape = latent_shape(model.wan.vae.config, width=width, height=height, frames=request.frames)
        felt = None
        if model.physics is not None:
            side = model.space.side()
            felt = (model.physics.config["in_channels"], tubelet_count(request.frames), side, side)
        noise = draw_noise(shape, felt, seed=request.seed)
        weights = guidance.classifier_free(request.guidance)
        own = request.guidance if request.physics_guidance < 0 else request.physics_guidance
        seen = token_count(model.wan.transformer.config, *shape[1:])
        batched = seen <= transformer.BATCHED_TOKENS
        passes = 2 if batched else 1
        with ExitStack() as used:
            beside = felt[1] * felt[2] * felt[3] * passes if felt is not None else 0
            component, room = model.denoiser(context, seen * passes, felt=beside)
            visual = used.enter_context(context.use(component, working_bytes=room))
            used.enter_context(model.wan.kept_texts(context, component, visual, rows=len(weights)))
            branch = None
            if model.physics is not None and felt is not None:
                component, room = model.branch(context, beside)
                branch = used.enter_context(context.use(component, working_bytes=room))
                used.enter_context(model.wan.kept_texts(context, component, branch, rows=len(weights)))
                used.enter_context(branch.joined(visual))
                if given is not None and given.physics is not None:
                    given = Latents(given.visual, in_statistics(given.physics, branch, model.normalisation))
            control = None
            if felt is not None and (force := drawn_force(request)) is not None:
                size = {"width": width, "height": height, "frames": request.frames}
                control = Latents(*felt_by(force, **size, latent=shape[2:], physics_side=felt[-1]))
            sampler = Sampler(
                visual,
                branch,
                conditions={
                    "cond": padded(states["prompt"].states, text_len=model.wan.text_len),
                    "uncond": padded(states["negative prompt"].states, text_len=model.wan.text_len),
                },
                weights=weights,
                physics_weights=guidance.classifier_free(own),
                physics_scale=request.physics_scale,
                batched=batched,
                control=control,
            )
            shift = resolved_shift(request, width, height)
            for state in denoise(
                sampler,
                noise.to(context.device),
                given=None if given is None else given.to(context.device),
                scheduler=lambda: SOLVERS[request.solver](request.steps, shift=shift),
                step_cache=request.step_cache,
            ):
                clip = state.clean
                yield LatentStep(state.index, state.total, lambda clip=clip: preview(clip, model.wan.rgb_factors))
        latents, kept = state.latents, {}
        if latents.physics is not None:
            felt_then = latents.physics
            kept[VIEW_SUFFIX] = lambda: movie(felt_then, width=width, height=height, fps=request.fps)

        if not context.decodes:
            return
        yield Stage(name="Decoding")
        squares: list[torch.Tensor] = []
        with context.use(decoding.component, working_bytes=decoding.working_bytes) as decoder:
            for pixels in decode_frames(decoder, latents.visual, manner=decoding.manner):
                if request.surprise:
                    squares.append(model.square(pixels))
                yield Frames(pixels, kept)
        if request.surprise:
            yield Stage(name="Measuring surprise")
            yield Measured("surprise", model.surprise(context, torch.cat(squares, 1)))


def beginning(request: PhantomPhysicsRequest) -> tuple[np.ndarray, list[str]]:
    """The frames that the clip begins with, uint8 [k,H,W,3] at the clip's size, and what to say of them.

    Raises:
        MediaError: the clip cannot be read, or is too short.
    """
    area = request.width * request.height
    size: tuple[int, int] = (request.width, request.height)

    def fit(image: Image.Image) -> Image.Image:
        nonlocal size
        size = best_output_size(image.width, image.height, area)
        return cover(image, width=size[0], height=size[1])

    if request.picture is not None:
        frames, notes = np.asarray(fit(open_picture(request.picture.path, as_published=False)))[None], []
    else:
        assert request.clip is not None
        found = read_excerpt(
            request.clip.path,
            fit=fit,
            **excerpt_rules(request.clip, frames=request.frames, fps=request.fps),
        )
        frames, notes = found.frames, [found.told]
    if size != (request.width, request.height):
        what = "picture" if request.picture else "clip"
        notes.append(f"The clip is {size[0]}x{size[1]}: it keeps the shape of the {what}.")
    return frames, notes


def drawn_force(request: PhantomPhysicsRequest) -> PointForce | Wind | None:
    """The force that a clip is asked for with; None for none."""
    match request.force:
        case "point":
            return PointForce(request.force_x, request.force_y, request.force_angle, request.force_strength)
        case "wind":
            return Wind(request.force_angle, request.force_strength)
    return None


def in_statistics(features: torch.Tensor, branch: Any, normalisation: str) -> torch.Tensor:
    """Features [C,N,h,w] as the branch was trained on them."""
    kept = branch.physics_latents
    if normalisation == "layernorm" or kept is None:
        return normalised(features)
    return normalised(features, kept.mean.cpu(), kept.std.cpu())
