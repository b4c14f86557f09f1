"""What the studio knows of Phantom-Wan: its request, its models, its checks. Imports no torch.

Defaults: Phantom README and generate.py (s2v-1.3B, s2v-14B); reference pictures: one to four.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.inputs import AdaptableRequest, Reference
from engines.parameters import guidance_scale, published_pictures, reference_pictures, timestep_shift
from engines.sampling import caches, guidance
from engines.training.words import SENTENCE as STARTER_WORDS
from engines.types import EngineSpec, ModelSpec, Phase, Weights
from engines.validation import prompt_problems
from engines.wan import phases as wan
from engines.wan.starter import STARTER_DEFAULTS, STARTER_NOTE, STARTER_PRESETS, starter_geometry, starter_weights
from engines.wan.weights import NEGATIVE_CHINESE, PUBLISHED, PUBLISHED_PRESETS, published_geometry


class PhantomWanRequest(AdaptableRequest):
    """Subjects from one to four reference pictures act out the prompt."""

    references: tuple[Reference, ...] = reference_pictures(most=4)
    image_guidance: float = guidance_scale(
        5.0, label="Picture guidance", help="How strongly the clip keeps to the reference pictures."
    )
    text_guidance: float = guidance_scale(7.5, label="Text guidance", help="How strongly the clip keeps to the prompt.")
    shift: float = timestep_shift(5.0)
    step_cache: caches.Name = caches.step_cache()
    published_pictures: bool = published_pictures()


def passes(request: PhantomWanRequest) -> int:
    """How often the transformer runs in a step of full guidance."""
    return len(guidance.needed(guidance.subject(request.image_guidance, request.text_guidance)))


def phases(request: PhantomWanRequest, outlines: Mapping[str, Any], device: str) -> tuple[Phase, ...]:
    """What a clip uses when: see EngineSpec."""
    size = {"wide": request.width, "high": request.height}
    config, vae = outlines["transformer"].config, outlines["vae"].config
    latents = wan.latent_frames(vae, request.frames) + len(request.references)
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
    weights=starter_weights("wan_t2v.safetensors"),
    geometry=starter_geometry("wan_t2v.safetensors"),
    defaults=STARTER_DEFAULTS | {"shift": 3.0, "image_guidance": 4.0, "text_guidance": 3.0},
    presets=STARTER_PRESETS,
    words=STARTER_WORDS,
)

PHANTOM_1_3B = ModelSpec(
    name="1.3B",
    title="Phantom-Wan 1.3B",
    note="The published 1.3B model, best at 832x480.",
    weights=(
        Weights("transformer", ("Phantom-Wan-1.3B.pth",), "bytedance-research/Phantom", 5_676_000_000),
        *PUBLISHED,
    ),
    geometry=published_geometry((832, 480), (480, 832), (1280, 720), (720, 1280), max_frames=121),
    defaults={"negative_prompt": NEGATIVE_CHINESE},
    presets=PUBLISHED_PRESETS,
    device_bytes=8 * 2**30,
)

PHANTOM_14B = ModelSpec(
    name="14B",
    title="Phantom-Wan 14B",
    note="The published 14B model, trained at 24 frames a second.",
    weights=(
        Weights(
            "transformer",
            tuple(f"Phantom_Wan_14B-{index:05d}-of-00006.safetensors" for index in range(1, 7)),
            "bytedance-research/Phantom",
            57_154_000_000,
        ),
        *PUBLISHED,
    ),
    geometry=published_geometry((832, 480), (480, 832), (1280, 720), (720, 1280), max_frames=241),
    defaults={"frames": 121, "fps": 24, "negative_prompt": NEGATIVE_CHINESE},
    presets=PUBLISHED_PRESETS,
    device_bytes=12 * 2**30,
)

PHANTOM_WAN = EngineSpec(
    name="phantom-wan",
    title="Phantom-Wan",
    purpose="Subjects from your pictures act out a prompt.",
    tab="Subject references",
    request_type=PhantomWanRequest,
    models=(STARTER, PHANTOM_1_3B, PHANTOM_14B),
    implementation="engines.phantom_wan.engine:PhantomWan",
    one_pass={"image_guidance": 1.0, "text_guidance": 1.0},
    advice="The video model is shown the subjects on plain canvases: say where they are and what they do together.",
    check=lambda request, model: [*prompt_problems(request), *caches.problems(request)],
    phases=phases,
    passes=passes,
)
