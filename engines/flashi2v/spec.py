"""What the studio knows of FlashI2V: its request, its models, its checks. Imports no torch.

Defaults: FlashI2V configs/infer (49 frames of 832x480 at 16 fps, 50 steps, shift 7, guidance 5, ratio 0.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.inputs import AdaptableRequest, Reference, media
from engines.parameters import guidance_scale, published_pictures, timestep_shift
from engines.request import parameter
from engines.sampling import caches, guidance
from engines.training.words import SENTENCE as STARTER_WORDS
from engines.types import UNVERIFIED, EngineSpec, ModelSpec, Phase, Weights
from engines.validation import prompt_problems
from engines.wan import phases as wan
from engines.wan.starter import STARTER_DEFAULTS, STARTER_NOTE, STARTER_PRESETS, starter_geometry, starter_weights
from engines.wan.weights import NEGATIVE_ENGLISH, PUBLISHED, PUBLISHED_PRESETS, published_geometry


class FlashI2VRequest(AdaptableRequest):
    """One picture becomes the first frame of a clip, and the prompt says what happens in it."""

    picture: Reference | None = media(
        "first frame",
        label="First frame",
        help="The clip begins with this picture. It is never stretched: it covers the clip's frame, and what sticks "
        "out is cut off.",
        parts=("position",),
        needed="Add a picture: it becomes the first frame of the clip.",
        as_published="published_pictures",
    )
    guidance: float = guidance_scale(
        5.0,
        label="Text guidance",
        help="How strongly the clip keeps to the prompt. The picture is not part of it: it always counts.",
    )
    detail: float = parameter(
        0.9,
        label="Picture detail",
        help="How much of the picture's fine structure (edges, texture) guides every frame. Higher keeps closer to the "
        "picture, lower leaves more freedom. 0.9 is the published setting: it leaves out the coarsest tenth, a "
        "low-frequency ratio of 0.1. Nearby values often give the same clip.",
        group="guidance",
        minimum=0,
        maximum=1,
        step=0.05,
    )
    shift: float = timestep_shift(7.0)
    step_cache: caches.Name = caches.step_cache()
    published_pictures: bool = published_pictures()


def passes(request: FlashI2VRequest) -> int:
    """How often the transformer runs in a step of full guidance."""
    return len(guidance.needed(guidance.text_weights(request.guidance)))


def phases(request: FlashI2VRequest, outlines: Mapping[str, Any], device: str) -> tuple[Phase, ...]:
    """What a clip uses when: see EngineSpec."""
    size = {"wide": request.width, "high": request.height}
    config, vae = outlines["transformer"].config, outlines["vae"].config
    latents = wan.latent_frames(vae, request.frames)
    count = wan.tokens(config, vae, **size, latents=latents)
    making = wan.denoising(config, count, passes=passes(request), step_cache=request.step_cache)
    return (
        wan.reading(outlines),
        wan.looking(outlines, device, **size),
        Phase("Making the video", (making,)),
        wan.decoded(outlines, device, **size),
    )


STARTER = ModelSpec(
    name="starter",
    title="Starter (built in, runs anywhere)",
    note=STARTER_NOTE,
    weights=starter_weights("flashi2v.safetensors"),
    geometry=starter_geometry("flashi2v.safetensors"),
    defaults=STARTER_DEFAULTS | {"shift": 2.0, "guidance": 1.0},
    presets=STARTER_PRESETS,
    words=f"{STARTER_WORDS}; or a photograph whose camera pans left, right, up or down or zooms in or out",
)

FLASHI2V_1_3B = ModelSpec(
    name="1.3B",
    title="FlashI2V 1.3B",
    note="The published 1.3B model, trained only at 832x480 with 49 frames.",
    weights=(
        # Name and size are those that the authors' read-me and classes tell; the file itself may be smaller.
        Weights("transformer", ("npu/flashi2v_1_3B.pt",), "yunyangge/FlashI2V-1.3B", 5_686_000_000, UNVERIFIED),
        *PUBLISHED,
    ),
    geometry=published_geometry((832, 480), (480, 832), (640, 640), max_frames=121),
    defaults={"frames": 49, "negative_prompt": NEGATIVE_ENGLISH},
    presets=PUBLISHED_PRESETS,
    device_bytes=8 * 2**30,
)

FLASHI2V = EngineSpec(
    name="flashi2v",
    title="FlashI2V",
    purpose="Your picture becomes the first frame of a clip.",
    tab="Image to video",
    request_type=FlashI2VRequest,
    models=(STARTER, FLASHI2V_1_3B),
    implementation="engines.flashi2v.engine:FlashI2V",
    one_pass={"guidance": 1.0},
    advice="The video begins with the picture: name in it what moves, and say how everything goes on from there, the "
    "camera included, rather than what the picture shows already.",
    check=lambda request, model: [*prompt_problems(request), *caches.problems(request)],
    phases=phases,
    passes=passes,
)
