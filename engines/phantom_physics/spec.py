"""What the studio knows of Phantom-physics: its request, its models, its checks. Imports no torch.

Defaults: Wan2.2's own for its 5B model, at the paper's 480p; see docs/phantom_physics.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from engines.errors import MediaError, Problem
from engines.inputs import AdaptableRequest, GivenClip, Reference, media
from engines.loading.store import ASSETS
from engines.media.excerpt import choose
from engines.parameters import guidance_scale
from engines.phantom_physics.description import SETTINGS, forces
from engines.phantom_physics.picture import best_output_size
from engines.request import parameter
from engines.sampling import caches, guidance
from engines.training.scene_words import SENTENCE
from engines.types import Branch, EngineSpec, FileChoice, Geometry, ModelSpec, Phase, Weights
from engines.validation import prompt_problems
from engines.wan import phases as wan
from engines.wan.starter import STARTER_DEFAULTS, STARTER_PRESETS, starter_geometry, starter_weights
from engines.wan.weights import NEGATIVE_CHINESE, PUBLISHED, PUBLISHED_PRESETS
from engines.wording import either

PHYSICS_TOKENS = 64  # of a tubelet: 8 x 8 pooled features
STRIDE = 4  # frames of a latent frame after the first
FEWEST_FRAMES = 5  # of a given clip; one frame is a picture
LOW_SHIFT_PIXELS = 832 * 480  # up to here the published code recommends the lower shift
LOW_SHIFT, HIGH_SHIFT = 3.0, 5.0

WAN22 = "Wan-AI/Wan2.2-TI2V-5B"
NO_PUBLIC_WEIGHTS = (
    "no public weights of the physics branch exist. Train some with python -m engines.training phantom-physics, and "
    "put their two files into the models folder as phantom-physics/, or name them with --weights physics=FOLDER."
)


NO_FORCE = "The physics branch of this model was not trained with a force of the kind {choice}: set Force to none."


def _share(label: str, help_: str, default: float) -> Any:
    """A number of a force from 0 to 1."""
    return parameter(
        default, label=f"Force: {label}", help=help_, group="picture", minimum=0, maximum=1, step=0.01, of="picture"
    )  # fmt: skip


class PhantomPhysicsRequest(AdaptableRequest):
    """A clip from a prompt, from a picture, or from a clip that it goes on from, its physics denoised beside it."""

    picture: Reference | None = media(
        "first frame",
        label="First picture",
        help="The clip begins with this picture. It keeps the picture's shape and has about as many pixels as the size "
        "says.",
        start="a picture",
        shape=lambda picture, asked: best_output_size(*picture, asked[0] * asked[1]),
    )
    clip: GivenClip | None = media(
        "clip",
        label="Clip to go on from",
        help="The new clip begins with frames of this one, unchanged, and goes on. It keeps its shape and has about as "
        "many pixels as the size says.",
        parts=("moment", "frames"),
        start="a clip to go on from",
    )
    force: Literal["none", "point", "wind"] = parameter(
        "none",
        label="Force",
        help="What pushes in the clip: at one point of the first picture, or a wind everywhere.",
        group="picture",
        of="picture",
    )
    force_x: float = _share("across", "From the left side of the picture to the right.", 0.5)
    force_y: float = _share("up", "From the lower side of the picture to the upper.", 0.5)
    force_angle: float = parameter(
        0.0,
        label="Force: angle",
        help="Where it pushes: 0 is to the right, 90 up.",
        group="picture",
        unit="°",
        minimum=0,
        maximum=360,
        step=1,
        of="picture",
    )
    force_strength: float = _share(
        "strength", "From the weakest that the branch was trained with to the strongest.", 0.5
    )
    physics_scale: float = parameter(
        1.0,
        label="Physics",
        help="How much the pictures hear of the physics branch. 0 is the base model alone: the branch does not run.",
        group="guidance",
        minimum=0,
        maximum=2,
        step=0.05,
    )
    guidance: float = guidance_scale(
        5.0, label="Text guidance", help="How strongly the clip keeps to the prompt.", advanced=False
    )
    physics_guidance: float = parameter(
        -1.0,
        label="Text guidance of the physics",
        help="How strongly the physics keep to the prompt; -1 is the same as the text guidance.",
        group="guidance",
        minimum=-1,
        maximum=20,
        step=0.5,
        advanced=True,
    )
    shift: float = parameter(
        0.0,
        label="Timestep shift",
        help="Larger values spend more steps on layout and motion, smaller ones on detail. 0 is as published: 3 up to "
        "832x480 pixels, 5 above.",
        group="quality",
        minimum=0,
        maximum=20,
        step=0.5,
        advanced=True,
    )
    step_cache: caches.EXTRAPOLATING = caches.step_cache(calibrated=False)
    solver: Literal["unipc", "dpm++"] = parameter(
        "unipc", label="Solver", help="How the steps are taken.", group="quality", advanced=True
    )
    surprise: bool = parameter(
        False,
        label="Measure surprise",
        help="When the clip is made, V-JEPA 2 tells how much of it went on otherwise than it expected. Several "
        "variations of a clip are then shown in this order, the least surprising first.",
        group="quality",
        presentation=True,
        advanced=True,
    )


def resolved_shift(request: PhantomPhysicsRequest, width: int, height: int) -> float:
    """The shift that a request of 0 means for a clip of this size."""
    if request.shift:
        return request.shift
    return LOW_SHIFT if width * height <= LOW_SHIFT_PIXELS else HIGH_SHIFT


def excerpt_rules(clip: GivenClip, *, frames: int, fps: int) -> dict[str, Any]:
    """Which frames of a given clip a new one of `frames` begins with, for media.excerpt: fewer than it has itself."""
    most = min(clip.frames, frames - STRIDE)
    fewest = min(FEWEST_FRAMES, most)
    return {"most": most, "fewest": fewest, "stride": STRIDE, "fps": fps, "moment": clip.moment}


def check(request: PhantomPhysicsRequest, model: ModelSpec) -> list[Problem]:
    """Problems of the prompt, and of what the clip is to begin with."""
    problems, has_branch = prompt_problems(request), any(weights.role == "physics" for weights in model.weights)
    if request.physics_scale and not has_branch:
        problems.append(Problem("physics_scale", f"{model.title} has no physics branch: set Physics to 0."))
    if request.surprise and not any(weights.role == "encoder" for weights in model.weights):
        problems.append(Problem("surprise", f"{model.title} has no V-JEPA 2 to be surprised: switch that off."))
    if request.surprise and request.frames < FEWEST_FRAMES:
        problems.append(Problem("surprise", f"Surprise needs a clip of at least {FEWEST_FRAMES} frames."))
    if (request.picture or request.clip) and request.frames <= STRIDE:
        problems.append(Problem("frames", f"A clip that begins with given frames needs at least {STRIDE + 1}."))
    if request.clip:
        problems += _clip_problems(request, request.clip)
    return problems + caches.problems(request) + _force_problems(request, model.title if not has_branch else "")


def _force_problems(request: PhantomPhysicsRequest, without_branch: str) -> list[Problem]:
    """`without_branch` is the title of a model that has none, "" of any other."""
    if request.force == "none":
        return []
    if without_branch:
        return [Problem("force", f"{without_branch} has no physics branch to feel a force: set Force to none.")]
    if not request.physics_scale:
        return [Problem("force", "Without physics nothing is pushed: raise Physics, or set Force to none.")]
    return []


def _clip_problems(request: PhantomPhysicsRequest, clip: GivenClip) -> list[Problem]:
    if (clip.frames - 1) % STRIDE:
        below = (clip.frames - 1) // STRIDE * STRIDE + 1
        choices = either([str(below), str(below + STRIDE)])
        return [Problem("clip", f"{clip.frames} frames of a clip cannot be gone on from: choose {choices}.")]
    if request.frames <= STRIDE:
        return []
    try:
        choose(clip.path, **excerpt_rules(clip, frames=request.frames, fps=request.fps))
    except MediaError as error:
        return [Problem("clip", error.message)]
    return []


def phases(request: PhantomPhysicsRequest, outlines: Mapping[str, Any], device: str) -> tuple[Phase, ...]:
    """What a clip uses when: see EngineSpec. Of the branch, the published space of physics latents is assumed."""
    size = {"wide": request.width, "high": request.height}
    config, vae = outlines["transformer"].config, outlines["vae"].config
    count = wan.tokens(config, vae, **size, latents=wan.latent_frames(vae, request.frames))
    rows = 2 if count <= wan.BATCHED_TOKENS else 1
    networks = [wan.single(config, rows * count, own_timesteps=True)]
    if request.physics_scale and "physics" in outlines:
        felt = rows * (request.frames + 1) // 2 * PHYSICS_TOKENS
        networks.append(wan.single(outlines["physics"].config, felt, role="physics", own_timesteps=True))
    given = request.clip.frames if request.clip else 1 if request.picture else 0
    return (
        wan.reading(outlines),
        *([wan.looking(outlines, device, **size, frames=given)] if given else []),
        Phase("Making the video", tuple(networks)),
        wan.decoded(outlines, device, **size),
    )


GEOMETRY = Geometry(
    sizes=((832, 480), (480, 832), (1280, 704), (704, 1280)),
    multiple=32,
    max_pixels=1280 * 704,
    frame_stride=STRIDE,
    max_frames=121,
)
DEFAULTS = {"frames": 121, "fps": 24, "negative_prompt": NEGATIVE_CHINESE}
BASE = (
    Weights(
        "transformer",
        tuple(f"diffusion_pytorch_model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)),
        WAN22,
        20_000_000_000,  # 4 999 787 712 parameters; in which precision they are stored is not known here
    ),
    Weights("vae", ("Wan2.2_VAE.pth",), WAN22, 2_820_000_000),
    *(weights for weights in PUBLISHED if weights.role != "vae"),
)

BASE_5B = ModelSpec(
    name="5B",
    title="Wan2.2 5B",
    note="The published base model of Phantom-physics: prompt, picture or clip, without a physics branch.",
    weights=BASE,
    geometry=GEOMETRY,
    defaults=DEFAULTS | {"physics_scale": 0.0},
    presets=PUBLISHED_PRESETS,
    device_bytes=8 * 2**30,
)

PHYSICS_5B = ModelSpec(
    name="5B-physics",
    title="Wan2.2 5B with physics",
    note="The base model with a physics branch that you trained or were given: no public weights exist.",
    weights=(
        *BASE,
        Weights(
            "physics",
            ("physics.safetensors", SETTINGS),
            "phantom-physics",
            14_500_000_000,
            unpublished=NO_PUBLIC_WEIGHTS,
        ),
        Weights("encoder", ("model.safetensors",), "facebook/vjepa2-vitl-fpc64-256", 1_304_000_000, "MIT"),
    ),
    geometry=GEOMETRY,
    defaults=DEFAULTS,
    presets=PUBLISHED_PRESETS,
    device_bytes=8 * 2**30,
)


def passes_of(request: PhantomPhysicsRequest) -> list[str]:
    """The passes of a step: those that count for either latent."""
    own = guidance.classifier_free(request.guidance if request.physics_guidance < 0 else request.physics_guidance)
    weights = guidance.classifier_free(request.guidance)
    counted = [weights] if request.physics_scale == 0 else [weights, own]
    return [name for name in weights if any(one[name] for one in counted)]


STARTER_FILE = "phantom_physics.safetensors"  # both branches and their encoder
STARTER_PARTS = ("transformer", "physics", "encoder")


def starter(folder: Path = ASSETS / "starter") -> ModelSpec:
    """The built-in model as its file in this folder describes it."""
    own = tuple(Weights(role, (f"starter/{STARTER_FILE}",)) for role in STARTER_PARTS[1:])
    return ModelSpec(
        name="starter",
        title="Starter (built in, runs anywhere)",
        note="A small demonstration model trained by this project on six scenes of simulated discs; it shows how the "
        "engine works, not what it can do at full size.",
        weights=(*starter_weights(STARTER_FILE, folder=folder), *own),
        geometry=dataclasses.replace(starter_geometry(STARTER_FILE, folder=folder), sizes=((64, 64), (96, 64))),
        defaults=STARTER_DEFAULTS | {"width": 64, "height": 64, "shift": 2.0, "guidance": 2.0},
        presets=STARTER_PRESETS,
        words=SENTENCE,
    )


def models(folder: Path = ASSETS / "starter") -> tuple[ModelSpec, ...]:
    """What can be chosen: the built-in model only where its file is there."""
    published = (BASE_5B, PHYSICS_5B)
    return (starter(folder), *published) if (folder / STARTER_FILE).is_file() else published


PHANTOM_PHYSICS = EngineSpec(
    name="phantom-physics",
    title="Phantom-physics",
    purpose="A clip and its physics, denoised together.",
    tab="Physics",
    request_type=PhantomPhysicsRequest,
    models=models(),
    implementation="engines.phantom_physics.engine:PhantomPhysics",
    one_pass={"guidance": 1.0},
    advice="Say what moves and what acts on it: pushes, falls, collisions, flows, and what they do to what they meet.",
    check=check,
    phases=phases,
    passes=lambda request: len(passes_of(request)),
    branch=Branch("physics", "physics_scale", "physics"),
    file_choices={"force": FileChoice("physics", forces, NO_FORCE)},
    excerpt_rules=excerpt_rules,
)
