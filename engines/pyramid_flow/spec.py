"""What the studio knows of Pyramid Flow: its request, its models, its checks. Imports no torch.

Defaults: the README and demos of jy0205/Pyramid-Flow. Sizes are fixed by the checkpoint: at others the published code
makes noise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import Problem
from engines.inputs import AdaptableRequest, Reference, media
from engines.loading.integrity import FACTS_KEY
from engines.loading.store import ASSETS
from engines.parameters import guidance_scale, presets, step_count
from engines.pyramid_flow import storyboard
from engines.pyramid_flow.phases import passes, phases
from engines.pyramid_flow.sizes import PATCH, space
from engines.request import MAX_PROMPT_CHARACTERS, parameter
from engines.sampling import caches
from engines.training.words import SENTENCE as STARTER_WORDS
from engines.types import EngineSpec, Geometry, ModelSpec, Size, Weights
from engines.validation import prompt_problems
from engines.wan.starter import STARTER_NOTE, facts_of, starter_weights
from engines.wording import either

NAME = "pyramid-flow"
LATENTS_SUFFIX = ".latents.safetensors"
FIRST_VAE = "pyramid_vae.safetensors"  # of starters that name none
MAX_STORYBOARD_CHARACTERS = 10 * MAX_PROMPT_CHARACTERS


class PyramidFlowRequest(AdaptableRequest):
    """A long video from text, from a picture or from an earlier video's latents, with a prompt per time range."""

    first_picture: Reference | None = media(
        "first frame",
        label="First picture",
        help="The picture that the video starts from; without one, it starts from the prompt alone.",
        parts=("position", "keep_background"),
        start="a picture",
    )
    storyboard: str = parameter(
        "",
        label="Scenes",
        help="What happens in each part of the clip. The prompt above goes before each of them.",
        group="prompt",
        max_length=MAX_STORYBOARD_CHARACTERS,
        lines=4,
        placeholder="0-2: a red star moves right\n2-5: a red star spins",
        scenes=storyboard.written,
    )
    continues: Path | None = media(
        "earlier job",
        label="Continue",
        help="An earlier clip that this one goes on from, up to the new length.",
        suffix=LATENTS_SUFFIX,
        start="a clip to go on from",
    )
    kept_frames: int = parameter(
        0,
        label="Frames kept",
        help="How many frames of the clip to continue stay as they are, 1, 9, 17 and so on: what follows is made anew. "
        "0 keeps all of them.",
        group="picture",
        minimum=0,
        of="continues",
    )
    steps: int = step_count(
        20,
        label="Steps of the first frame",
        help="Denoising steps in each of the three resolutions, for the video's first frame.",
    )
    later_steps: int = step_count(
        10,
        label="Steps of later frames",
        help="Denoising steps in each of the three resolutions, for every eight frames after the first.",
    )
    step_cache: caches.EXTRAPOLATING = caches.step_cache(calibrated=False)
    guidance: float = guidance_scale(
        7.0,
        label="How strongly the first frame follows the prompt",
        help="The guidance of the first frame; 0 turns all guidance off.",
    )
    video_guidance: float = guidance_scale(
        5.0,
        label="How strongly later frames follow the prompt",
        help="Higher: more motion, less drift. Lower: steadier. Published: 5, and 4 for a first picture.",
    )


@dataclass(frozen=True)
class Variant:
    """Which published transformer a model is: its family, and the folder that tells files of equal keys apart."""

    family: str
    folder: str


def check(request: PyramidFlowRequest, model: ModelSpec) -> list[Problem]:
    """Problems of size, prompt, storyboard, picture and what is continued."""
    return [
        *_size_problems(request, model),
        *_prompt_problems(request),
        *_picture_problems(request, model),
        *caches.problems(request, steps=max(request.steps, request.later_steps)),
        *(_continue_problems(request) if request.continues else ()),
    ]


def _size_problems(request: PyramidFlowRequest, model: ModelSpec) -> list[Problem]:
    geometry = model.geometry
    size = Size(request.width, request.height)
    possible = not geometry.problems(width=size.width, height=size.height, frames=1)
    if not possible or size in geometry.sizes:
        return []
    choices = either([str(Size(*one)) for one in geometry.sizes])
    others = [name for name, other in _SIZES.items() if size in other and name != model.name]
    hint = f", or the model {either(others)}" if others else ""
    sentence = f"This checkpoint makes noise at sizes that it was not trained for: choose {choices}{hint}."
    return [Problem("width", sentence)]


def _prompt_problems(request: PyramidFlowRequest) -> list[Problem]:
    if not request.storyboard.strip():
        return prompt_problems(request)
    try:
        scenes = storyboard.parse(request.storyboard)
    except ValueError as error:
        return [Problem("storyboard", str(error))]
    problem = storyboard.problem(scenes, frames=request.frames, fps=request.fps)
    return [Problem("storyboard", problem)] if problem else []


def _picture_problems(request: PyramidFlowRequest, model: ModelSpec) -> list[Problem]:
    if request.first_picture is None:
        return []
    if model.geometry.max_frames == 1:
        return [Problem("first_picture", "This model makes pictures, no videos: remove the first picture.")]
    if request.frames == 1:
        return [Problem("frames", "A clip of one frame from a picture is that picture: choose at least 9 frames.")]
    return []


def _continue_problems(request: PyramidFlowRequest) -> list[Problem]:
    facts = read_facts(request.continues)
    name = Path(request.continues).name
    if facts is None:
        sentence = f'"{name}" is no file of latents: choose the {LATENTS_SUFFIX} file beside a clip of this engine.'
        return [Problem("continues", sentence)]
    if facts["model"] != request.model:
        return [Problem("continues", f'"{name}" was made with the model {facts["model"]}: choose that model.')]
    if (facts["width"], facts["height"]) != (request.width, request.height):
        size = Size(facts["width"], facts["height"])
        return [Problem("width", f'"{name}" holds a clip of {size}: choose that size to continue it.')]
    return _kept_problems(request, facts["frames"], name)


def _kept_problems(request: PyramidFlowRequest, held: int, name: str) -> list[Problem]:
    unit = storyboard.UNIT_FRAMES
    kept = request.kept_frames or held
    if kept > held:
        return [Problem("kept_frames", f'"{name}" holds {held} frames: keep at most so many of them, or 0 for all.')]
    if (kept - 1) % unit:
        below = max(1, (kept - 1) // unit * unit + 1)
        return [Problem("kept_frames", f"{kept} frames end amid a unit: keep {below} or {below + unit}.")]
    if kept >= request.frames:
        if request.kept_frames:
            return [Problem("frames", f"A clip of which {kept} frames are kept is longer: choose a greater length.")]
        sentence = f'"{name}" already holds {held} frames: choose a greater length to continue it, or keep fewer.'
        return [Problem("frames", sentence)]
    return []


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a file of latents says of itself: model, width, height, frames; None if it is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(FACTS_KEY, "null"))
            shape = file.get_slice("latents").get_shape()
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None
    expected = {"engine": str, "model": str, "width": int, "height": int, "frames": int}
    if not isinstance(facts, dict) or any(not isinstance(facts.get(key), kind) for key, kind in expected.items()):
        return None
    return facts if facts["engine"] == NAME and len(shape) == 5 and _holds(shape, facts) else None


def _holds(shape: Sequence[int], facts: Mapping[str, Any]) -> bool:
    """Whether latents of this shape are of as many frames as told, and their sides the same share of its sides."""
    units, high, wide = shape[2:]
    grain = facts["height"] // max(high, 1)
    told = (storyboard.units_of(facts["frames"]), high * grain, wide * grain)
    return grain > 0 and (units, facts["height"], facts["width"]) == told


SD3_REPO = "rain1011/pyramid-flow-sd3"
MINIFLUX_REPO = "rain1011/pyramid-flow-miniflux"
SD3_LICENCE = "stabilityai-ai-community"
NEGATIVE_PROMPT = (
    "cartoon style, worst quality, low quality, blurry, absolute black, absolute white, low res, extra limbs, extra "
    "digits, misplaced objects, mutated anatomy, monochrome, horror"
)


LATER_SHARE = 0.5  # as published, a frame after the first takes half of its steps
PRESETS = presets(10, 20, 30, later_steps=LATER_SHARE)
# What all published models have in common, at the size and length of the 384p ones.
DEFAULTS = {"width": 640, "height": 384, "frames": 121, "fps": 24, "negative_prompt": NEGATIVE_PROMPT}


def _geometry(*sizes: tuple[int, int], units: int, grain: int = 8) -> Geometry:
    return Geometry(
        sizes=sizes,
        multiple=grain * PATCH * 4,  # whole tokens in the smallest of three resolutions
        max_pixels=max(width * height for width, height in sizes),
        frame_stride=storyboard.UNIT_FRAMES,
        max_frames=storyboard.UNIT_FRAMES * (units - 1) + 1,
    )


def _t5(folder: str, repo: str, licence: str) -> Weights:
    shards = tuple(f"{folder}/model-{index:05d}-of-00002.safetensors" for index in (1, 2))
    return Weights("text_encoder", shards, repo, 9_520_000_000, licence)


def _sd3(folder: str) -> tuple[Weights, ...]:
    return (
        Weights(
            "transformer", (f"{folder}/diffusion_pytorch_model.safetensors",), SD3_REPO, 8_339_900_000, SD3_LICENCE
        ),
        Weights("vae", ("causal_video_vae/diffusion_pytorch_model.safetensors",), SD3_REPO, 1_341_600_000, SD3_LICENCE),
        _t5("text_encoder_3", SD3_REPO, SD3_LICENCE),
        Weights("tokenizer", ("tokenizer_3/tokenizer.json",), SD3_REPO, 2_424_000, SD3_LICENCE),
        Weights("clip", ("text_encoder/model.safetensors",), SD3_REPO, 247_300_000, SD3_LICENCE),
        Weights("clip_2", ("text_encoder_2/model.safetensors",), SD3_REPO, 1_389_300_000, SD3_LICENCE),
        Weights("clip_tokenizer", ("tokenizer/vocab.json", "tokenizer/merges.txt"), SD3_REPO, 1_600_000, SD3_LICENCE),
    )


def _miniflux(folder: str) -> tuple[Weights, ...]:
    return (
        Weights("transformer", (f"{folder}/diffusion_pytorch_model.safetensors",), MINIFLUX_REPO, 7_888_300_000),
        Weights("vae", ("causal_video_vae/diffusion_pytorch_model.bin",), MINIFLUX_REPO, 1_341_700_000),
        _t5("text_encoder_2", MINIFLUX_REPO, "Apache-2.0"),
        Weights("tokenizer", ("tokenizer_2/tokenizer.json",), MINIFLUX_REPO, 2_424_000),
        Weights("clip", ("text_encoder/model.safetensors",), MINIFLUX_REPO, 246_200_000),
        Weights("clip_tokenizer", ("tokenizer/vocab.json", "tokenizer/merges.txt"), MINIFLUX_REPO, 1_600_000),
    )


def trained_sizes(facts: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Width and height of the clips that a built-in network was trained for, as its file says; its own first."""
    return tuple((width, height) for width, height in facts.get("sizes", [(128, 64)]))


def _starter(name: str, *, title: str, note: str, file: str) -> ModelSpec:
    folder = ASSETS / "starter"
    facts = facts_of(folder / file)
    sizes = trained_sizes(facts)
    vae = facts_of(folder / facts.get("vae", FIRST_VAE)).get("config", {})
    return ModelSpec(
        name=name,
        title=title,
        note=f"{STARTER_NOTE} {note}".strip(),
        weights=starter_weights(file, first_vae=FIRST_VAE),
        geometry=_geometry(*sizes, units=13, grain=space(vae)),
        defaults={
            "width": sizes[0][0],
            "height": sizes[0][1],
            "frames": 49,
            "fps": 12,
            "steps": 10,
            "later_steps": 5,
            "guidance": 4.0,
            "video_guidance": 2.5,
        },
        presets=presets(6, 10, 20, later_steps=LATER_SHARE),
        words=STARTER_WORDS,
    )


STARTERS = (
    _starter(
        "starter",
        title="Starter (built in, runs anywhere)",
        note="",
        file="pyramid_flow.safetensors",
    ),
    _starter(
        "starter-sd3",
        title="Starter of the SD3 family (built in)",
        note="As the other starter, less able at shapes: it shows the other family's network at work.",
        file="pyramid_flow_sd3.safetensors",
    ),
)
PUBLISHED = (
    ModelSpec(
        name="miniflux-384p",
        title="Pyramid Flow miniFLUX 384p",
        note="The published model for 640x384, up to 5 seconds; better at people and motion than the SD3 family.",
        weights=_miniflux("diffusion_transformer_384p"),
        geometry=_geometry((640, 384), units=16),
        defaults=DEFAULTS,
        presets=PRESETS,
        device_bytes=8 * 2**30,
    ),
    ModelSpec(
        name="miniflux-768p",
        title="Pyramid Flow miniFLUX 768p",
        note="The published model for 1280x768, up to 10 seconds; tuned only briefly, it blurs over time. "
        "Its decoder remembers up to 15 GB in RAM.",
        weights=_miniflux("diffusion_transformer_768p"),
        geometry=_geometry((1280, 768), units=31),
        defaults=DEFAULTS | {"width": 1280, "height": 768},
        presets=PRESETS,
        device_bytes=8 * 2**30,
    ),
    ModelSpec(
        name="miniflux-image",
        title="Pyramid Flow miniFLUX image",
        note="The published model for single pictures of about one megapixel.",
        weights=_miniflux("diffusion_transformer_image"),
        geometry=_geometry((1024, 1024), (1280, 768), (768, 1280), units=1),
        defaults=DEFAULTS | {"width": 1024, "height": 1024, "frames": 1, "guidance": 9.0},
        presets=PRESETS,
        device_bytes=8 * 2**30,
    ),
    ModelSpec(
        name="sd3-384p",
        title="Pyramid Flow SD3 384p",
        note="The published model for 640x384, up to 5 seconds; weak at people.",
        weights=_sd3("diffusion_transformer_384p"),
        geometry=_geometry((640, 384), units=16),
        defaults=DEFAULTS,
        presets=PRESETS,
        device_bytes=8 * 2**30,
    ),
    ModelSpec(
        name="sd3-768p",
        title="Pyramid Flow SD3 768p",
        note="The published model for 1280x768, up to 10 seconds; weak at people. "
        "Its decoder remembers up to 15 GB in RAM.",
        weights=_sd3("diffusion_transformer_768p"),
        geometry=_geometry((1280, 768), units=31),
        # Published guidance: 7 to 9, and 7 for ten seconds.
        defaults=DEFAULTS | {"width": 1280, "height": 768, "guidance": 9.0},
        presets=PRESETS,
        device_bytes=8 * 2**30,
    ),
)
VARIANTS = {
    model.name: Variant(model.name.partition("-")[0], f"diffusion_transformer_{model.name.partition('-')[2]}")
    for model in PUBLISHED
}
MODELS = (*STARTERS, *PUBLISHED)
_SIZES = {model.name: model.geometry.sizes for model in MODELS}

PYRAMID_FLOW = EngineSpec(
    name=NAME,
    title="Pyramid Flow",
    purpose="A long video from a prompt, a picture or a storyboard, unit by unit.",
    tab="Long video",
    request_type=PyramidFlowRequest,
    models=MODELS,
    implementation="engines.pyramid_flow.engine:PyramidFlow",
    advice="Begin with the subject and its action, then the surroundings, then light and camera, in plain words.",
    prompt_words=80,
    check=check,
    phases=phases,
    passes=passes,
    keeps_parts=True,
    readings={"storyboard": storyboard.reading},
    cuts={"storyboard": storyboard.cuts},
)
