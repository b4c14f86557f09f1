"""FlashI2V at full size, as its authors trained the 1.3B model: every parameter, from Wan 2.1's text-to-video weights.

Needs videos filtered by engines.training.video_list and the folder of the published files (`start`); frozen encoders
run as the clips come. `--dry-run` prints shapes and memory and touches no file.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import UMT5Config, UMT5EncoderModel

from engines.flashi2v.network import FlashI2VTransformer3DModel
from engines.loading.checkpoints import load, open_checkpoint, outline
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.transformer_keys import TRANSFORMER
from engines.wan.vae import encode
from engines.wan.vae_keys import VAE

from .. import networks
from ..files import save_network
from ..flow import noise_like
from ..shifted import draw_shifted_sigmas, dynamic_shift, shifted_input
from ..video_clips import VideoDataset, VideoRecipe

WAN_1_3B: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16,
    "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30, "cross_attn_norm": True,
}  # fmt: skip
UMT5_XXL: dict[str, Any] = {
    "vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullRecipe(VideoRecipe):
    """Settings of the run; the published ones are in RECIPE."""

    projection_kernel: tuple[int, int, int] = (3, 3, 3)  # of the released weights
    ratio_low: float = 0.05
    ratio_high: float = 0.95


RECIPE = FullRecipe(
    name="flashi2v-1.3b",
    steps=1_000_000,
    seed=1024,
    stages=(),
    learning_rate=2e-5,
    betas=(0.9, 0.999),
    eps=1e-15,
    weight_decay=0.01,
    warmup=1,
    decay_share=0.0,
    adaptive_clip=True,
    ema=0.9999,
    start="models/Wan-AI/Wan2.1-T2V-1.3B",
)


class FullTask:
    """The published objective on real clips."""

    def __init__(self, recipe: FullRecipe) -> None:
        self.recipe, start = recipe, Path(recipe.start)
        base = open_checkpoint(_transformer_files(start))
        blueprint, _ = outline(base, TRANSFORMER)
        self.transformer = FlashI2VTransformer3DModel(**blueprint.config, projection_kernel=recipe.projection_kernel)
        weights = load(base, TRANSFORMER, dtype=torch.float32).state_dict()
        missing, unexpected = self.transformer.load_state_dict(weights, strict=False)
        if unexpected or not all("fourier_embedding" in name or "learnable_proj" in name for name in missing):
            raise ValueError(f"{base.name} does not fit the network it describes.")
        self.transformer.enable_gradient_checkpointing()
        self.vae = load(open_checkpoint([start / "Wan2.1_VAE.pth"]), VAE, dtype=torch.float32)
        encoder = [start / "models_t5_umt5-xxl-enc-bf16.pth"]
        self.text_encoder = load(open_checkpoint(encoder), TEXT_ENCODER, dtype=torch.bfloat16)

    def networks(self) -> dict[str, torch.nn.Module]:
        """The transformer; the encoders are frozen."""
        return {"transformer": self.transformer}

    def dataset(self) -> VideoDataset:
        """Clips of the filtered videos."""
        return self.recipe.videos(Path(self.recipe.start) / "google/umt5-xxl/tokenizer.json")

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Encode, then `objective`. The first frame is encoded alone; a clip's own first latent is the same."""
        video = batch["video"]
        self.vae.to(video.device)
        self.text_encoder.to(video.device)
        with torch.no_grad():
            with torch.autocast(video.device.type, enabled=False):
                clean = encode(self.vae, video)
            states = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=self.recipe.text_len)
        return objective(self.transformer, clean, states, rng, recipe=self.recipe), {}

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """The averaged transformer, in float32: the average is what is released."""
        config = {name: value for name, value in self.transformer.config.items() if not name.startswith("_")}
        facts = {"class": type(self.transformer).__name__, "config": config, "recipe": record}
        save_network(folder / "flashi2v_1_3B.safetensors", weights["transformer"], facts=facts, dtype=torch.float32)


def objective(
    network: FlashI2VTransformer3DModel,
    clean: torch.Tensor,
    states: torch.Tensor,
    rng: torch.Generator,
    *,
    recipe: FullRecipe,
) -> torch.Tensor:
    """Plain mean squared velocity error over all frames of latents [B,C,F,h,w], text states [B,L,D]."""
    count, _, frames, height, width = clean.shape
    sigmas = draw_shifted_sigmas(count, rng, factor=dynamic_shift(height * width)).to(clean.device)
    noise = noise_like(clean, rng)
    ratio = recipe.ratio_low + (recipe.ratio_high - recipe.ratio_low) * torch.rand(count, generator=rng)
    shift, features = network.shift_and_features(clean[:, :, :1], frames=frames, ratio=ratio.to(clean.device))
    seen, timesteps, velocity = shifted_input(clean, noise, sigmas, shift)
    predicted = network(torch.cat([seen, features], 1), timesteps, states, return_dict=False)[0]
    return (predicted.float() - velocity).square().mean()


def dry_run(recipe: FullRecipe) -> list[str]:
    """Shapes of a step and the memory it takes, from a forward and backward pass on the meta device."""
    with torch.device("meta"):
        network = FlashI2VTransformer3DModel(**WAN_1_3B, projection_kernel=recipe.projection_kernel)
        vae, encoder = AutoencoderKLWan(), UMT5EncoderModel(UMT5Config(**UMT5_XXL))
    network.enable_gradient_checkpointing()
    parameters = sum(p.numel() for p in network.parameters())
    fixed = {
        "parameters, float32": 4 * parameters,
        "gradients, float32": 4 * parameters,
        "AdamW, two moments in float32": 8 * parameters,
        "average of the weights, float32": 4 * parameters,
        "VAE, float32, frozen": 4 * sum(p.numel() for p in vae.parameters()),
        "text encoder, bfloat16, frozen": 2 * sum(p.numel() for p in encoder.parameters()),
    }
    lines = [f"{network.config.num_layers} blocks, {parameters:,} parameters to train"]
    activations = 0
    for bucket in recipe.buckets:
        shape = (recipe.batch, 16, (bucket.frames - 1) // 4 + 1, bucket.height // 8, bucket.width // 8)
        clean = torch.empty(shape, device="meta")
        states = torch.empty(recipe.batch, recipe.text_len, WAN_1_3B["text_dim"], device="meta")
        loss = objective(network, clean, states, torch.Generator().manual_seed(0), recipe=recipe)
        loss.backward()
        tokens = shape[2] * shape[3] // 2 * shape[4] // 2
        width = WAN_1_3B["num_attention_heads"] * WAN_1_3B["attention_head_dim"]
        # Checkpointing keeps each block's input, and one block's inside while it is worked on; two bytes a number.
        kept = 2 * recipe.batch * tokens * (WAN_1_3B["num_layers"] * width + 16 * width + 4 * WAN_1_3B["ffn_dim"])
        activations = max(activations, kept)
        video = (recipe.batch, 3, bucket.frames, bucket.height, bucket.width)
        factor = dynamic_shift(shape[3] * shape[4])
        lines += [
            f"bucket {bucket.width}x{bucket.height}, {bucket.frames} frames at {bucket.fps:g} fps: "
            f"video {list(video)}, latents {list(shape)}, {tokens:,} tokens, noise shift {factor:.4f}"
        ]
    without = [name for name, p in network.named_parameters() if p.grad is None]
    lines += [f"every parameter has a gradient: {'no: ' + ', '.join(without) if without else 'yes'}"]
    memory = fixed | {"activations with checkpointing, bfloat16, estimated": activations}
    lines += [f"{size / 2**30:8.2f} GiB  {name}" for name, size in memory.items()]
    return [*lines, f"{sum(memory.values()) / 2**30:8.2f} GiB  on one device without sharding"]


def build(recipe: FullRecipe) -> FullTask:
    """The task of this recipe."""
    return FullTask(recipe)


def _transformer_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("diffusion_pytorch_model*.safetensors")) or [
        folder / "diffusion_pytorch_model.safetensors"
    ]
