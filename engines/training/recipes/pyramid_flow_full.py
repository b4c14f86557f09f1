"""Pyramid Flow at full size, as its authors' script trains the 384p miniFLUX transformer, from the published weights.

Needs videos filtered by engines.training.video_list and the folder of the published files (`start`); frozen encoders
run as the clips come. On one device every stage has a length of its own, where the authors tie lengths to processes.
`--dry-run` prints shapes and memory and touches no file. Source: Pyramid-Flow scripts/train_pyramid_flow.sh.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from engines.loading.checkpoints import load, open_checkpoint
from engines.pyramid_flow import keys
from engines.pyramid_flow.coding import MINIFLUX_STATISTICS, TIME, encode
from engines.pyramid_flow.history import history
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.packing import PATCH, Text
from engines.pyramid_flow.scheduler import STAGES
from engines.pyramid_flow.sizes import space
from engines.pyramid_flow.text import encode_pooled, encode_states
from engines.pyramid_flow.vae import CausalVideoVAE

from ..files import save_network
from ..pyramid import objective
from ..video_clips import VideoDataset, VideoRecipe
from ..video_list import Bucket

MINIFLUX: dict[str, Any] = {
    "patch_size": 1, "in_channels": 64, "num_layers": 8, "num_single_layers": 16, "attention_head_dim": 64,
    "num_attention_heads": 30, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": False,
    "axes_dims_rope": (16, 24, 24),
}  # fmt: skip
T5_XXL: dict[str, Any] = {
    "vocab_size": 32_128, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
CLIP_L: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullRecipe(VideoRecipe):
    """Settings of the run; the published ones are in RECIPE."""

    buckets: tuple[Bucket, ...] = (Bucket(width=640, height=384, frames=121, fps=24.0),)
    batch: int = 4  # a multiple of 4, for the stages' shares
    text_len: int = 128
    history_noise: float = 1 / 3


RECIPE = FullRecipe(
    name="pyramid-flow-384p",
    steps=100_000,
    stages=(),
    learning_rate=5e-5,
    betas=(0.9, 0.95),
    weight_decay=1e-4,
    warmup=1000,
    decay_share=0.0,
    clip_norm=1.0,
    ema=0.9999,
    start="models/rain1011/pyramid-flow-miniflux",
)


class FullTask:
    """The pyramid's objective on real clips."""

    def __init__(self, recipe: FullRecipe) -> None:
        self.recipe, start = recipe, Path(recipe.start)
        folder = start / "diffusion_transformer_384p"
        transformer = open_checkpoint([folder / "diffusion_pytorch_model.safetensors"])
        self.transformer = load(transformer, keys.MINIFLUX, dtype=torch.float32).train().requires_grad_(True)
        self.transformer.enable_gradient_checkpointing()
        vae = open_checkpoint([start / "causal_video_vae/diffusion_pytorch_model.bin"])
        self.vae = load(vae, keys.VAE, dtype=torch.float32)
        t5 = open_checkpoint([start / f"text_encoder_2/model-0000{index}-of-00002.safetensors" for index in (1, 2)])
        self.text_encoder = load(t5, keys.T5, dtype=torch.bfloat16)
        self.clip = load(open_checkpoint([start / "text_encoder/model.safetensors"]), keys.CLIP, dtype=torch.float32)

    def networks(self) -> dict[str, torch.nn.Module]:
        """The transformer; the encoders are frozen."""
        return {"transformer": self.transformer}

    def dataset(self) -> VideoDataset:
        """Clips of the filtered videos, captions in T5's and in CLIP's tokens."""
        start = Path(self.recipe.start)
        clip_tokenizer = (start / "tokenizer/vocab.json", start / "tokenizer/merges.txt")
        return self.recipe.videos(start / "tokenizer_2/tokenizer.json", clip_tokenizer=clip_tokenizer)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Encode, normalise, then the objective."""
        device = batch["video"].device
        for encoder in (self.vae, self.text_encoder, self.clip):
            encoder.to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            moments = encode(self.vae, batch["video"], tile=None, window=TIME)
            noise = torch.randn(moments.mean.shape, generator=rng)
            clean = MINIFLUX_STATISTICS.normalised(moments.sample(noise))
            states = encode_states(self.text_encoder, batch["ids"], batch["mask"]).float()
            pooled = encode_pooled(self.clip, batch["clip_ids"]).float()
        text = Text(states, batch["mask"], pooled)
        return objective(self.transformer, clean, text, rng, strongest=self.recipe.history_noise)

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """The averaged transformer, in float32, under its published name."""
        config = {name: value for name, value in self.transformer.config.items() if not name.startswith("_")}
        facts = {"class": "PyramidFlux", "config": config, "recipe": record}
        path = folder / "diffusion_transformer_384p/diffusion_pytorch_model.safetensors"
        save_network(path, weights["transformer"], facts=facts, dtype=torch.float32)


def dry_run(recipe: FullRecipe) -> list[str]:
    """Shapes of a step and the memory it takes, from a forward and backward pass on the meta device."""
    with torch.device("meta"):
        network = PyramidFlux(**MINIFLUX)
        vae, encoder = CausalVideoVAE(), T5EncoderModel(T5Config(**T5_XXL))
        clip = CLIPTextModel(CLIPTextConfig(**CLIP_L))
    parameters = sum(p.numel() for p in network.parameters())
    fixed = {
        "parameters, float32": 4 * parameters,
        "gradients, float32": 4 * parameters,
        "AdamW, two moments in float32": 8 * parameters,
        "average of the weights, float32": 4 * parameters,
        "autoencoder, float32, frozen": 4 * sum(p.numel() for p in vae.parameters()),
        "T5, bfloat16, and CLIP, float32, frozen": 2 * sum(p.numel() for p in encoder.parameters())
        + 4 * sum(p.numel() for p in clip.parameters()),
    }
    blocks = MINIFLUX["num_layers"] + MINIFLUX["num_single_layers"]
    lines, activations = [f"{blocks} blocks, {parameters:,} parameters to train"], 0
    width = MINIFLUX["num_attention_heads"] * MINIFLUX["attention_head_dim"]
    for bucket in recipe.buckets:
        units = (bucket.frames - 1) // TIME + 1
        grain = space(vae.config)
        shape = (recipe.batch, 16, units, bucket.height // grain, bucket.width // grain)
        states = torch.empty(recipe.batch, recipe.text_len, MINIFLUX["joint_attention_dim"], device="meta")
        pooled = torch.empty(recipe.batch, MINIFLUX["pooled_projection_dim"], device="meta")
        text = Text(states, torch.ones(recipe.batch, recipe.text_len), pooled)
        clean = torch.empty(shape, device="meta")
        loss, _ = objective(network, clean, text, torch.Generator().manual_seed(0), strongest=recipe.history_noise)
        loss.backward()
        lines += [f"bucket {bucket.width}x{bucket.height}, {bucket.frames} frames at {bucket.fps:g} fps: "
                  f"latents {list(shape)}, {units} units"]  # fmt: skip
        levels = [torch.empty(1, 1, units - 1, shape[3] >> s, shape[4] >> s, device="meta") for s in (2, 1, 0)]
        for stage in range(STAGES):
            clips = [*history(levels, stage), levels[stage][:, :, :1]]
            tokens = sum(clip.shape[2:].numel() for clip in clips) // PATCH**2
            lines += [f"  stage {stage}: up to {tokens:,} video tokens and {recipe.text_len} of text a row"]
        # Checkpointing keeps each block's input, and one block's inside while it is worked on; two bytes a number.
        activations = max(activations, 2 * recipe.batch * (tokens + recipe.text_len) * width * (blocks + 32))
    without = [name for name, p in network.named_parameters() if p.grad is None]
    lines += [f"every parameter has a gradient: {'no: ' + ', '.join(without) if without else 'yes'}"]
    memory = fixed | {"activations with checkpointing, bfloat16, estimated": activations}
    lines += [f"{size / 2**30:8.2f} GiB  {name}" for name, size in memory.items()]
    return [*lines, f"{sum(memory.values()) / 2**30:8.2f} GiB  on one device without sharding"]


def build(recipe: FullRecipe) -> FullTask:
    """The task of this recipe."""
    return FullTask(recipe)
