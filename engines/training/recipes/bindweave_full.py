"""BindWeave at full size, as its authors trained the 14B model: every parameter, from Wan 2.1's image-to-video weights.

Needs videos with masked subjects (engines/training/bindweave/videos.py), the folder of Wan 2.1's files for diffusers
(`start`) and that of Qwen2.5-VL (`mllm`); frozen encoders run as the clips come. `--dry-run` prints shapes, memory and
cost and touches no file. The authors encode clips in tiles and beforehand, on many devices; one device shards nothing.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    UMT5Config,
    UMT5EncoderModel,
)

from engines.bindweave.conditions import MASK_CHANNELS, clip_states, reference_frames, with_clip_frames
from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.bindweave.spec import MAX_REFERENCES
from engines.loading.checkpoints import load, open_checkpoint, outline
from engines.loading.folders import weights_in
from engines.qwen.chat import read
from engines.qwen.keys import QWEN
from engines.qwen.pictures import Patches, look, seen_size
from engines.sampling.denoise import TRAINING_STEPS
from engines.wan import vae as wan_vae
from engines.wan.encoder_keys import IMAGE_ENCODER, TEXT_ENCODER
from engines.wan.image import encode_image
from engines.wan.latents import latent_shape
from engines.wan.strides import spatial_stride
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae_keys import VAE

from .. import networks
from ..bindweave.objective import Bell, losses
from ..bindweave.videos import SubjectVideos
from ..files import save_network
from ..video_clips import VideoRecipe
from ..video_list import Bucket
from .flashi2v_full import UMT5_XXL

WAN_I2V_14B: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 40, "attention_head_dim": 128, "in_channels": 36,
    "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 13_824, "num_layers": 40, "cross_attn_norm": True,
    "image_dim": 1280, "added_kv_proj_dim": 5120,
}  # fmt: skip
CLIP_H: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "patch_size": 14, "image_size": 224, "hidden_act": "gelu",
}  # fmt: skip
QWEN_7B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
    },
    "vision_config": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    },
}  # fmt: skip

# For the cost: the paper's batch, and an H100 at two fifths of its bfloat16 peak. Its prompts have about these tokens.
GLOBAL_BATCH, DEVICE_RATE, PROMPT_TOKENS, FRAME_TOKENS = 512, 0.4 * 989e12, 150, 19


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullRecipe(VideoRecipe):
    """Settings of the run; the published ones are in RECIPE."""

    mllm: str = "models/Qwen/Qwen2.5-VL-7B-Instruct"
    buckets: tuple[Bucket, ...] = (Bucket(width=1280, height=720, frames=81, fps=24.0),)
    drop_text: float = 0.0
    turn: float = 45.0
    scale: float = 1.5
    shift: float = 5.0


RECIPE = FullRecipe(
    name="bindweave-14b",
    steps=5000,
    stages=(),
    learning_rate=1e-5,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=5e-3,
    warmup=1,
    decay_share=0.0,
    clip_norm=1.0,
    ema=0.0,  # the weights themselves
    start="models/Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
)


class FullTask:
    """The published objective on real clips and their subjects."""

    def __init__(self, recipe: FullRecipe) -> None:
        self.recipe, start = recipe, Path(recipe.start)
        half = torch.bfloat16 if recipe.bfloat16 else torch.float32
        self.mllm = load(open_checkpoint(_weights(Path(recipe.mllm))), QWEN, dtype=half)
        base = open_checkpoint(_weights(start / "transformer"))
        blueprint, _ = outline(base, TRANSFORMER)
        channels = MASK_CHANNELS + 2 * blueprint.config["out_channels"]
        if blueprint.config["in_channels"] != channels or not blueprint.config.get("image_dim"):
            raise ValueError(f"{base.name} is no image-to-video transformer of Wan 2.1.")
        width = self.mllm.config.get_text_config().hidden_size
        self.vae = load(open_checkpoint(_weights(start / "vae")), VAE, dtype=torch.float32)
        self.text_encoder = load(open_checkpoint(_weights(start / "text_encoder")), TEXT_ENCODER, dtype=half)
        self.image_encoder = load(open_checkpoint(_weights(start / "image_encoder")), IMAGE_ENCODER, dtype=half)
        seen = self.image_encoder.config
        tokens = (seen.image_size // seen.patch_size) ** 2 + 1
        self.transformer = BindWeaveTransformer3DModel(**blueprint.config, mllm_dim=width, clip_token_len=tokens)
        weights = load(base, TRANSFORMER, dtype=torch.float32).state_dict()
        missing, unexpected = self.transformer.load_state_dict(weights, strict=False)
        if unexpected or not all("text_projector" in name for name in missing):
            raise ValueError(f"{base.name} does not fit the network that it describes.")
        self.transformer.enable_gradient_checkpointing()
        self.bell = Bell.of(recipe.shift)
        self._grey: dict[tuple[int, ...], torch.Tensor] = {}
        self._data: SubjectVideos | None = None

    def networks(self) -> dict[str, torch.nn.Module]:
        """The transformer with its projector; the encoders are frozen."""
        return {"transformer": self.transformer}

    def dataset(self) -> SubjectVideos:
        """Clips of the filtered videos with their subjects; one object, because a process opens their list once."""
        recipe, start = self.recipe, Path(self.recipe.start)
        if self._data is None:
            self._data = SubjectVideos(
                Path(recipe.samples),
                start / "tokenizer" / "tokenizer.json",
                **recipe.batches,
                mllm_tokenizer=Path(recipe.mllm) / "tokenizer.json",
                clip_size=self.image_encoder.config.image_size,
                stride=spatial_stride(self.vae.config),
                turn=recipe.turn,
                scale=recipe.scale,
            )
        return self._data

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Encode everything as the engine does, then the weighted velocity error of the clip's own frames."""
        video = batch["video"]
        for frozen in (self.vae, self.text_encoder, self.image_encoder, self.mllm):
            frozen.to(video.device)
        with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            clean = wan_vae.encode(self.vae, video)
            pictures = [wan_vae.encode(self.vae, picture[None])[0] for picture in batch["references"]]
            references = reference_frames(pictures, list(batch["masks"]), slots=MAX_REFERENCES)
            looks = [encode_image(self.image_encoder, values[None])[0] for values in batch["clip"]]
            patches = Patches(batch["patches"], batch["grids"])
            states = read(self.mllm, batch["chat"], look(self.mllm, patches), batch["grids"])
            text = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=self.recipe.text_len)
        conditions = {
            "mllm": states[None],
            "text": text,
            "clip": clip_states(looks, slots=MAX_REFERENCES)[None],
            "condition": with_clip_frames(references, self._grey_of(video))[None],
        }
        told = {name: values.to(video.device, torch.float32) for name, values in conditions.items()}
        return losses(self.transformer, clean, rng, bell=self.bell, **told).mean(), {"pictures": float(len(pictures))}

    def _grey_of(self, video: torch.Tensor) -> torch.Tensor:
        frames, height, width = video.shape[2:]
        if (frames, height, width) not in self._grey:
            self._grey[frames, height, width] = wan_vae.encode_grey(self.vae, width=width, height=height, frames=frames)
        return self._grey[frames, height, width]

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """The transformer under its published names, in bfloat16 as it was published."""
        config = {name: value for name, value in self.transformer.config.items() if not name.startswith("_")}
        facts = {"class": type(self.transformer).__name__, "config": config, "recipe": record}
        save_network(folder / "diffusion_pytorch_model.safetensors", weights["transformer"], facts=facts)


def dry_run(recipe: FullRecipe) -> list[str]:
    """Shapes, memory and cost of a step, from a forward and backward pass on the meta device."""
    with torch.device("meta"):
        network = BindWeaveTransformer3DModel(**WAN_I2V_14B)
        frozen: dict[str, tuple[torch.nn.Module, int]] = {
            "VAE, float32, frozen": (AutoencoderKLWan(), 4),
            "text encoder, bfloat16, frozen": (UMT5EncoderModel(UMT5Config(**UMT5_XXL)), 2),
            "image encoder, bfloat16, frozen": (CLIPVisionModel(CLIPVisionConfig(**CLIP_H)), 2),
            "Qwen2.5-VL, bfloat16, frozen": (Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN_7B)), 2),
        }
    network.enable_gradient_checkpointing()
    config, parameters = network.config, _count(network)
    projector = _count(network.condition_embedder.text_projector)
    bell = Bell.of(recipe.shift)
    lines = [
        f"{config.num_layers} blocks, {parameters:,} parameters to train, {projector:,} of them the new projector's",
        f"noise levels {float(bell.sigmas[-1]):.4f} to 1, shift {recipe.shift:g}; weights 0 to "
        f"{float(bell.weights.max()):.2f}, most at timestep "
        f"{float(bell.sigmas[bell.weights.argmax()]) * TRAINING_STEPS:.0f}",
        f"pictures: white boxes turned by up to {recipe.turn:g} degrees, scaled by exp(±{recipe.scale:g}), their "
        "silhouettes as masks",
    ]
    width, vae = config.num_attention_heads * config.attention_head_dim, frozen["VAE, float32, frozen"][0]
    activations = operations = 0.0
    for bucket in recipe.buckets:
        shape = (
            recipe.batch,
            *latent_shape(vae.config, width=bucket.width, height=bucket.height, frames=bucket.frames),
        )
        half = seen_size(bucket.width // 2, bucket.height // 2)
        read_tokens = FRAME_TOKENS + PROMPT_TOKENS + MAX_REFERENCES * (half[0] * half[1] // 28**2 + 2)
        condition = (recipe.batch, MASK_CHANNELS + shape[1], MAX_REFERENCES + shape[2], *shape[3:])
        shapes = {
            "condition": condition,
            "clip": (recipe.batch, MAX_REFERENCES * config.clip_token_len, config.image_dim),
            "mllm": (recipe.batch, read_tokens, config.mllm_dim),
            "text": (recipe.batch, recipe.text_len, config.text_dim),
        }
        told = {name: torch.empty(size, device="meta") for name, size in shapes.items()}
        losses(
            network, torch.empty(shape, device="meta"), torch.Generator().manual_seed(0), bell=bell, **told
        ).mean().backward()
        tokens = condition[2] * shape[3] // 2 * shape[4] // 2
        context = shapes["clip"][1] + read_tokens + recipe.text_len
        # Checkpointing keeps each block's input, and one block's inside while it is worked on; two bytes a number.
        kept = 2 * recipe.batch * tokens * (config.num_layers * width + 16 * width + 4 * config.ffn_dim)
        activations = max(activations, kept)
        # Forward, again for checkpointing, and twice for backward.
        once = 2 * parameters * tokens + 4 * config.num_layers * width * tokens * (tokens + context)
        operations = max(operations, 4.0 * once * recipe.batch)
        lines += [
            f"bucket {bucket.width}x{bucket.height}, {bucket.frames} frames at {bucket.fps:g} fps: latents "
            f"{list(shape)}, condition {list(condition)}, {tokens:,} tokens",
            f"context of four pictures and {PROMPT_TOKENS} tokens of prompt: clip {list(shapes['clip'])}, "
            f"mllm {list(shapes['mllm'])}, text {list(shapes['text'])}: {context:,} tokens",
        ]
    without = [name for name, p in network.named_parameters() if p.grad is None]
    lines.append(f"every parameter has a gradient: {'no: ' + ', '.join(without) if without else 'yes'}")
    memory = {
        "parameters, float32": 4 * parameters,
        "gradients, float32": 4 * parameters,
        "AdamW, two moments in float32": 8 * parameters,
        "the weights that are written, float32": 4 * parameters,
        **{name: size * _count(network) for name, (network, size) in frozen.items()},
        "activations with checkpointing, bfloat16, estimated": activations,
    }
    lines += [f"{size / 2**30:8.2f} GiB  {name}" for name, size in memory.items()]
    lines.append(f"{sum(memory.values()) / 2**30:8.2f} GiB  on one device without sharding")
    hours = operations / recipe.batch * recipe.steps * GLOBAL_BATCH / DEVICE_RATE / 3600
    lines.append(
        f"{operations:.1e} operations a step; {recipe.steps:,} steps of {GLOBAL_BATCH} clips (the paper's batch): "
        f"about {hours:,.0f} H100-hours, estimated"
    )
    return lines


def build(recipe: FullRecipe) -> FullTask:
    """The task of this recipe."""
    return FullTask(recipe)


def _count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _weights(folder: Path) -> list[Path]:
    """The checkpoint in a folder; raises ValueError where there is none."""
    found = list(weights_in(folder)) if folder.is_dir() else []
    if not found:
        raise ValueError(f"There is no checkpoint in {folder.parent.name}/{folder.name}.")
    return found
