"""The physics branch at full size: beside a frozen Wan2.2-TI2V-5B, on real clips, with V-JEPA 2 as its eyes.

Needs videos filtered by engines.training.video_list, the folder of the published files (`start`) and V-JEPA 2
(`encoder`). Frozen encoders run as the clips come. `--dry-run` prints parameters, memory and cost and touches no file.
Rates, limit and ramp are this project's: the paper does not tell them.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from engines.loading.checkpoints import load, open_checkpoint
from engines.media.metadata import sha256
from engines.phantom_physics.checkpoint import describe, write_folder
from engines.phantom_physics.encoder import build_encoder
from engines.phantom_physics.keys import VIDEO_ENCODER, VISUAL
from engines.phantom_physics.latents import tubelet_count
from engines.phantom_physics.sampling import Latents
from engines.wan import vae as wan_vae
from engines.wan.encoder_keys import TEXT_ENCODER
from engines.wan.latents import latent_shape
from engines.wan.vae_keys import VAE, WAN22_STATISTICS

from .. import networks
from ..physics_branch import BranchSettings, Targets, build_branch
from ..physics_flow import LossWeight, draw_given, gradient_norm, joint_losses
from ..share import ALONE
from ..video_clips import VideoDataset, VideoRecipe
from ..video_list import Bucket

WAN22_5B: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 24, "attention_head_dim": 128, "in_channels": 48,
    "out_channels": 48, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 14_336, "num_layers": 30, "cross_attn_norm": True,
}  # fmt: skip
WAN22_VAE: dict[str, Any] = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
    "temperal_downsample": [False, True, True], "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_temporal": 4, "scale_factor_spatial": 16, **WAN22_STATISTICS,
}  # fmt: skip
UMT5_XXL: dict[str, Any] = {
    "vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
VJEPA2_L: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}

# For the cost of a pass over the paper's 400 000 clips: an H100 at two fifths of its bfloat16 peak.
CLIPS, DEVICE_RATE = 400_000, 0.4 * 989e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhysicsRecipe(VideoRecipe, BranchSettings):
    """Settings of the run."""

    divided: ClassVar[bool] = True

    encoder: str = "models/facebook/vjepa2-vitl-fpc64-256/model.safetensors"
    buckets: tuple[Bucket, ...] = (
        Bucket(frames=121, fps=24.0),
        Bucket(width=480, height=832, frames=121, fps=24.0, min_ratio=1.2, max_ratio=2.5),
    )
    drop_text: float = 0.1  # for both branches together
    physics_dim: int = 3072
    physics_ffn_dim: int = 14_336
    physics_num_heads: int = 24
    coupling_head_dim: int = 128
    crop: int = 256
    pool: int = 2
    statistics_clips: int = 2000
    shift: float = 5.0
    given_share: float = 0.5


RECIPE = PhysicsRecipe(
    name="phantom-physics",
    steps=400_000,
    stages=(),
    learning_rate=1e-4,
    betas=(0.9, 0.95),
    weight_decay=0.01,
    warmup=500,
    decay_share=0.0,
    clip_norm=1.0,
    ema=0.999,
    start="models/Wan-AI/Wan2.2-TI2V-5B",
)


class PhysicsTask:
    """Trains the branch and its couplings; everything published is frozen."""

    def __init__(self, recipe: PhysicsRecipe) -> None:
        self.recipe, start = recipe, Path(recipe.start)
        half = torch.bfloat16 if recipe.bfloat16 else torch.float32
        self.visual = load(open_checkpoint(_transformer_files(start)), VISUAL, dtype=half)
        self.vae = load(
            open_checkpoint([_one_of(start, "Wan2.2_VAE.pth", "vae.safetensors")]), VAE, dtype=torch.float32
        )
        text = _one_of(start, "models_t5_umt5-xxl-enc-bf16.pth", "text_encoder.safetensors")
        self.text_encoder = load(open_checkpoint([text]), TEXT_ENCODER, dtype=half)
        self.eyes = load(open_checkpoint([Path(recipe.encoder)]), VIDEO_ENCODER, dtype=torch.float32)
        self.branch = build_branch(recipe, self.visual.config, channels=self.eyes.config.hidden_size)
        self.branch.join(self.visual)
        self.visual.enable_gradient_checkpointing()
        self.alpha = LossWeight(recipe.alpha_max, recipe.alpha_ramp, recipe.alpha_limit)
        self.targets = Targets(self.eyes, recipe.space, self.branch.physics_latents)
        self._data: VideoDataset | None = None
        self.share = ALONE

    def networks(self) -> dict[str, torch.nn.Module]:
        """The branch with its couplings."""
        return {"branch": self.branch}

    def dataset(self) -> VideoDataset:
        """Clips of the filtered videos; one object, because a process opens their list once."""
        if self._data is None:
            self._data = self._open_data()
        return self._data

    def _open_data(self) -> VideoDataset:
        start = Path(self.recipe.start)
        return self.recipe.videos(_one_of(start, "google/umt5-xxl/tokenizer.json", "tokenizer.json"))

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """L_v + alpha L_z of encoded clips."""
        video, recipe = batch["video"], self.recipe
        for frozen in (self.visual, self.vae, self.text_encoder):
            frozen.to(video.device)
        self.targets.measure(self.dataset, recipe.statistics_clips)
        given = self.given(self.share.whole(len(video)), video.shape[2], rng)
        given = self.share.rows(given)
        felt, alone = self.targets.of(video, given)
        with torch.no_grad():
            with torch.autocast(video.device.type, enabled=False):
                clean = Latents(torch.cat([wan_vae.encode(self.vae, clip[None]) for clip in video]), felt)
            text = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=recipe.text_len)
        made = joint_losses(
            self.visual, self.branch, clean, text, rng, given=given, given_physics=alone, shift=recipe.shift,
            control=self.control(batch), share=self.share,
        )  # fmt: skip
        figures = {"loss_visual": float(made.visual.detach()), "loss_physics": float(made.physics.detach())}
        return made.visual + self.alpha.value * made.physics, figures

    def given(self, count: int, frames: int, rng: torch.Generator) -> list[int]:
        """How many frames of each clip are given."""
        return draw_given(count, frames, rng, share=self.recipe.given_share)

    def control(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The drawn forces of a batch, for the two branches."""
        return None

    def described(self) -> dict[str, Any]:
        """What else the checkpoint says of itself."""
        return {}

    def after_backward(self) -> dict[str, float]:
        """Moves alpha on by the gradient's norm."""
        used, norm = self.alpha.value, gradient_norm(self.branch.named_parameters())
        self.alpha.update(norm)
        return {"alpha": used, "physics_norm": norm, "resets": float(self.alpha.resets)}

    def state(self) -> dict[str, Any]:
        """alpha, and what the channels were measured to be."""
        return {"alpha": dataclasses.asdict(self.alpha), **self.targets.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.alpha = LossWeight(**state["alpha"])
        self.targets.load_state(state)

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """The averaged branch as a physics checkpoint: a folder that the engine takes."""
        recipe, kept = self.recipe, self.branch.physics_latents
        tensors = weights["branch"] | {"physics_latents.mean": kept.mean, "physics_latents.std": kept.std}
        bucket = recipe.buckets[0]
        settings = describe(
            self.branch,
            base_sha256=sha256(_transformer_files(Path(recipe.start))[0]),
            variant="mirror" if recipe.physics_dim == self.branch.config.visual_width else "narrow",
            encoder=recipe.encoder_settings(self.branch.config.in_channels),
            training={"frames": bucket.frames, "height": bucket.height, "width": bucket.width}
            | recipe.told(seed=recipe.seed, step=record.get("step", 0)),
            **self.described(),
        )
        write_folder(folder / "phantom-physics", tensors, settings)


def dry_run(recipe: PhysicsRecipe) -> list[str]:
    """Parameters, shapes, memory and cost of a step, from a forward and backward pass on the meta device."""
    with torch.device("meta"):
        visual = WanTransformer3DModel(**WAN22_5B).requires_grad_(False)
        eyes = build_encoder(VJEPA2_L)
        branch = build_branch(recipe, visual.config, channels=eyes.config.hidden_size)
        vae, encoder = AutoencoderKLWan(**WAN22_VAE), UMT5EncoderModel(UMT5Config(**UMT5_XXL))
    branch.join(visual)
    visual.enable_gradient_checkpointing()
    sizes = {"visual": _count(visual), "branch": _count(branch)}
    trained = sum(p.numel() for p in branch.parameters() if p.requires_grad)
    coupling = sum(p.numel() for name, p in branch.named_parameters() if ".coupling." in name)
    lines = [
        f"visual branch {sizes['visual']:,} parameters, frozen",
        f"physics branch {sizes['branch'] - coupling - 2 * branch.config.in_channels:,}, couplings {coupling:,}; "
        f"{trained:,} parameters to train",
    ]
    activations = operations = 0
    for bucket in recipe.buckets:
        size = {"width": bucket.width, "height": bucket.height, "frames": bucket.frames}
        side = recipe.space.side()
        shape = (recipe.batch, *latent_shape(vae.config, **size))
        physics = (recipe.batch, branch.config.in_channels, tubelet_count(bucket.frames), side, side)
        clean = Latents(torch.empty(shape, device="meta"), torch.empty(physics, device="meta"))
        text = torch.empty(recipe.batch, recipe.text_len, WAN22_5B["text_dim"], device="meta")
        losses = joint_losses(
            visual, branch, clean, text, torch.Generator().manual_seed(0), given=[0] * recipe.batch, shift=recipe.shift
        )
        (losses.visual + losses.physics).backward()
        tokens = (math.prod(shape[2:]) // 4, math.prod(physics[2:]))
        widths = (sizes_of(visual), sizes_of(branch))
        # Checkpointing keeps each block's inputs, and one block's inside while it is worked on; two bytes a number.
        kept = sum(
            2 * recipe.batch * count * (width * (len(visual.blocks) + 16 + 12) + 4 * ffn)
            for count, (width, ffn) in zip(tokens, widths, strict=True)
        )
        activations = max(activations, kept)
        operations = max(operations, step_operations(tokens, sizes, widths, len(visual.blocks)) * recipe.batch)
        lines.append(
            f"bucket {bucket.width}x{bucket.height}, {bucket.frames} frames at {bucket.fps:g} fps: latents "
            f"{list(shape)}, {tokens[0]:,} tokens; physics {list(physics)}, {tokens[1]:,} tokens"
        )
    without = [name for name, p in branch.named_parameters() if p.requires_grad and p.grad is None]
    lines.append(f"parameters without a gradient: {', '.join(without) or 'none'}")
    memory = {
        "trained parameters, float32": 4 * trained,
        "their gradients, float32": 4 * trained,
        "AdamW, two moments in float32": 8 * trained,
        "average of the weights, float32": 4 * trained,
        "visual branch, bfloat16, frozen": 2 * sizes["visual"],
        "VAE, float32, frozen": 4 * _count(vae),
        "text encoder, bfloat16, frozen": 2 * _count(encoder),
        "V-JEPA 2, float32, frozen": 4 * _count(eyes),
        "activations with checkpointing, bfloat16, estimated": activations,
    }
    lines += [f"{size / 2**30:8.2f} GiB  {name}" for name, size in memory.items()]
    lines.append(f"{sum(memory.values()) / 2**30:8.2f} GiB  on one device without sharding")
    hours = operations / recipe.batch * CLIPS / DEVICE_RATE / 3600
    return [
        *lines,
        f"{operations:.1e} operations a step; {CLIPS:,} clips once: about {hours:,.0f} H100-hours, estimated",
    ]


def sizes_of(network: WanTransformer3DModel) -> tuple[int, int]:
    """Width and feed-forward width of a transformer."""
    return network.config.num_attention_heads * network.config.attention_head_dim, network.config.ffn_dim


def step_operations(
    tokens: tuple[int, int], sizes: dict[str, int], widths: tuple[tuple[int, int], ...], layers: int
) -> float:
    """Multiplications and additions of one clip's step: forward, again for checkpointing, and backward.

    Backward is once for the frozen network (no gradients of its weights), twice for the trained one.
    """
    (seen, felt), (visual, physics) = tokens, (width for width, _ in widths)
    linear = 2 * (3 * sizes["visual"] * seen + 4 * sizes["branch"] * felt)
    attention = 4 * layers * (seen**2 * visual + felt**2 * physics + seen * felt * (visual + physics))
    return linear + 4 * attention


def build(recipe: PhysicsRecipe) -> PhysicsTask:
    """The task of this recipe."""
    return PhysicsTask(recipe)


def _count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _one_of(folder: Path, *names: str) -> Path:
    """The first of these files that is there, the first name if none is."""
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def _transformer_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    return found or [_one_of(folder, "diffusion_pytorch_model.safetensors", "transformer.safetensors")]
