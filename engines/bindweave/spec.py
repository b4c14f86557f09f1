"""What the studio knows of BindWeave: its request, its model, its checks. Imports no torch.

Defaults: BindWeave configs/inference/inference_model_s2v.json (81 frames of 1280x720 at 16 fps, 50 steps, shift 3,
guidance 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.inputs import AdaptableRequest, Reference
from engines.loading.store import ASSETS
from engines.memory import activations
from engines.parameters import guidance_scale, published_pictures, reference_pictures, timestep_shift
from engines.sampling import caches, guidance
from engines.training.words import SENTENCE as STARTER_WORDS
from engines.types import UNVERIFIED, EngineSpec, ModelSpec, Need, Phase, Weights
from engines.validation import prompt_problems
from engines.wan import phases as wan
from engines.wan.starter import (
    STARTER_DEFAULTS,
    STARTER_NOTE,
    STARTER_PRESETS,
    starter_geometry,
    starter_parts,
    starter_weights,
)
from engines.wan.weights import NEGATIVE_ENGLISH, PUBLISHED_PRESETS, published_geometry

MAX_REFERENCES = 4
PICTURE_TOKENS = 661  # of a picture of 1280x720 pixels, after its reduction; the run plans with what there is
WAN_I2V = "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers"
QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"

# The published defaults, character for character: what the text encoder reads, and what the multimodal model reads on.
NEGATIVE_PROMPT = f"{NEGATIVE_ENGLISH}, split screen, divided frame, frame split, multiple parts, separated"
NEGATIVE_READ_ON = ",motionless, frozen, still image, no movement, stationary, unmoving"


def read_on(negative_prompt: str) -> str:
    """What the multimodal model reads in the pass without the prompt."""
    return f"{negative_prompt}{NEGATIVE_READ_ON}".removeprefix(",")


class BindWeaveRequest(AdaptableRequest):
    """Subjects from one to four reference pictures act out the prompt, which a model reads together with them."""

    references: tuple[Reference, ...] = reference_pictures(
        most=MAX_REFERENCES,
        more_help="They are shrunk to the clip's size where they are larger, and never enlarged.",
        setting="letterboxed",
    )
    guidance: float = guidance_scale(
        5.0,
        label="Text guidance",
        help="How strongly the clip keeps to the prompt, as it was read with the pictures. The pictures always count.",
    )
    shift: float = timestep_shift(3.0)
    step_cache: caches.Name = caches.step_cache()
    published_pictures: bool = published_pictures()


def passes(request: BindWeaveRequest) -> int:
    """How often the transformer runs in a step of full guidance."""
    return len(guidance.needed(guidance.text_weights(request.guidance)))


def phases(request: BindWeaveRequest, outlines: Mapping[str, Any], device: str) -> tuple[Phase, ...]:
    """What a clip uses when: see EngineSpec."""
    size = {"wide": request.width, "high": request.height}
    config, vae, chat = (outlines[role].config for role in ("transformer", "vae", "mllm"))
    count = wan.tokens(config, vae, **size, latents=MAX_REFERENCES + wan.latent_frames(vae, request.frames))

    def together(itemsize: int) -> int:
        pictures = len(request.references) * PICTURE_TOKENS
        told = {"tokens": wan.TEXT_LEN + pictures, "patches": 4 * pictures}
        return activations.chat(chat, **told, itemsize=itemsize)

    making = wan.single(config, count, passes=passes(request), step_cache=request.step_cache)
    return (
        wan.reading(outlines),
        Phase("Reading the pictures", (Need("image_encoder", {"": lambda itemsize: 0}),)),
        wan.looking(outlines, device, **size, frames=request.frames),
        Phase("Reading prompt and pictures together", (Need("mllm", {"": together}),)),
        Phase("Making the video", (making,)),
        wan.decoded(outlines, device, **size),
    )


# The networks of the starter that are not those of every starter on Wan, by role.
STARTER_FILES = {
    "transformer": "bindweave.safetensors",
    "image_encoder": "bindweave_clip.safetensors",
    "mllm": "bindweave_mllm.safetensors",
}


def starter(folder: Path = ASSETS / "starter") -> ModelSpec:
    """The built-in model as its files in `folder` are; there may be none yet."""
    transformer = STARTER_FILES["transformer"]
    others = {role: name for role, name in STARTER_FILES.items() if role != "transformer"}
    return ModelSpec(
        name="starter",
        title="Starter (built in, runs anywhere)",
        note=STARTER_NOTE,
        weights=(
            *starter_weights(transformer, folder=folder),
            *starter_parts(others, folder=folder),
            Weights("mllm_tokenizer", ("starter/chat_tokenizer/tokenizer.json",)),
        ),
        geometry=starter_geometry(transformer, folder=folder),
        defaults=STARTER_DEFAULTS | {"shift": 3.0, "guidance": 3.0},
        presets=STARTER_PRESETS,
        words=STARTER_WORDS,
    )


def shipped(folder: Path = ASSETS / "starter") -> tuple[ModelSpec, ...]:
    """The starter, once training has made its files."""
    there = all((folder / name).is_file() for name in STARTER_FILES.values())
    return (starter(folder),) if there else ()


BINDWEAVE_14B = ModelSpec(
    name="14B",
    title="BindWeave 14B",
    note="The published model, made for 1280x720; other sizes are offered but unverified.",
    weights=(
        Weights(
            "transformer",
            ("diffusion_pytorch_model.safetensors.index.json",),
            "ByteDance/BindWeave",
            32_853_000_000,
            licence=UNVERIFIED,
        ),
        Weights("vae", ("vae/diffusion_pytorch_model.safetensors",), WAN_I2V, 508_000_000),
        Weights("text_encoder", ("text_encoder/model.safetensors.index.json",), WAN_I2V, 22_724_000_000),
        Weights("tokenizer", ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"), WAN_I2V, 21_400_000),
        Weights("image_encoder", ("image_encoder/model.safetensors",), WAN_I2V, 2_523_000_000),
        Weights("mllm", ("model.safetensors.index.json",), QWEN, 16_585_000_000),
        Weights("mllm_tokenizer", ("tokenizer.json", "tokenizer_config.json"), QWEN, 7_100_000),
    ),
    geometry=published_geometry((1280, 720), (720, 1280), (832, 480), (480, 832), max_frames=121),
    defaults={"width": 1280, "height": 720, "negative_prompt": NEGATIVE_PROMPT},
    presets=PUBLISHED_PRESETS,
    device_bytes=16 * 2**30,
)

BINDWEAVE = EngineSpec(
    name="bindweave",
    title="BindWeave",
    purpose="Subjects from your pictures act out a prompt that is read together with them.",
    tab="Subject references",
    request_type=BindWeaveRequest,
    models=(*shipped(), BINDWEAVE_14B),
    implementation="engines.bindweave.engine:BindWeave",
    one_pass={"guidance": 1.0},
    advice="The video model reads the pictures with the prompt: name each subject once, by traits seen in its "
    "picture, and say how all of them move together in one scene.",
    check=lambda request, model: [*prompt_problems(request), *caches.problems(request)],
    phases=phases,
    passes=passes,
)
