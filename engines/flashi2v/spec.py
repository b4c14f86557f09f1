"""What the studio knows of FlashI2V: its request, its models, its checks. Imports no torch.

Defaults: FlashI2V configs/infer (49 frames of 832x480 at 16 fps, 50 steps, shift 7, guidance 5, ratio 0.1).
"""

from __future__ import annotations

from engines.errors import Problem
from engines.inputs import Reference, media
from engines.request import Request, parameter
from engines.types import EngineSpec, Geometry, ModelSpec, Weights
from engines.validation import prompt_problems
from engines.wan.weights import PUBLISHED, STARTER_NOTE, STARTER_WORDS
from engines.wan.weights import STARTER as STARTER_FILES

# The published default, character for character.
NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
    "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn "
    "hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, "
    "three legs, many people in the background, walking backwards"
)


class FlashI2VRequest(Request):
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
    guidance: float = parameter(
        5.0,
        label="Text guidance",
        help="How strongly the clip keeps to the prompt. The picture is not part of it: it always counts.",
        group="guidance",
        minimum=0,
        maximum=20,
        step=0.5,
        advanced=True,
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
    shift: float = parameter(
        7.0,
        label="Timestep shift",
        help="Larger values spend more steps on layout and motion, smaller ones on detail.",
        group="quality",
        minimum=0.1,
        maximum=20,
        step=0.5,
        advanced=True,
    )
    published_pictures: bool = parameter(
        False,
        label="Prepare the picture as published",
        help="Treat the picture exactly as the published code does: ignore camera rotation and drop transparency.",
        group="picture",
        advanced=True,
    )


def check(request: FlashI2VRequest, model: ModelSpec) -> list[Problem]:
    """Problems of the prompt."""
    return prompt_problems(request)


STARTER = ModelSpec(
    name="starter",
    title="Starter (built in, runs anywhere)",
    note=STARTER_NOTE,
    weights=(Weights("transformer", ("starter/flashi2v.safetensors",), size_bytes=15_000_000), *STARTER_FILES),
    geometry=Geometry(
        sizes=((96, 64), (64, 64)), multiple=16, max_pixels=96 * 96, frame_stride=4, max_frames=49, min_side=48
    ),
    defaults={"width": 96, "height": 64, "frames": 33, "fps": 12, "steps": 20, "shift": 2.0, "guidance": 2.5},
    presets={"Draft": {"steps": 10}, "Standard": {"steps": 20}, "Best": {"steps": 40}},
    words=f"{STARTER_WORDS}; or a photograph whose camera pans left, right, up or down or zooms in or out",
)

FLASHI2V_1_3B = ModelSpec(
    name="1.3B",
    title="FlashI2V 1.3B",
    note="The published 1.3B model, trained only at 832x480 with 49 frames; wants a GPU with 8 GB or more.",
    weights=(
        # Name and size are those that the authors' read-me and classes tell; the file itself may be smaller.
        Weights("transformer", ("npu/flashi2v_1_3B.pt",), "yunyangge/FlashI2V-1.3B", 5_686_000_000),
        *PUBLISHED,
    ),
    geometry=Geometry(
        sizes=((832, 480), (480, 832), (640, 640)),
        multiple=16,
        max_pixels=1280 * 720,
        frame_stride=4,
        max_frames=121,
    ),
    defaults={"frames": 49, "negative_prompt": NEGATIVE_PROMPT},
    presets={"Draft": {"steps": 25}, "Standard": {"steps": 50}, "Best": {"steps": 80}},
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
    check=check,
)
