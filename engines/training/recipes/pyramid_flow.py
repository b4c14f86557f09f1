"""The Pyramid Flow starters: a network of either family from scratch, unit by unit, on world clips of four seconds.

The text encoder is the base's, frozen, so the starters share it; in place of CLIP's vector stands the mean of its
states. Latents are the code that the starter's own autoencoder is taught (recipe `pyramid-vae`).
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from engines.pyramid_flow.attention import CausalAttention, prefix_attention
from engines.pyramid_flow.miniflux import PyramidFlux
from engines.pyramid_flow.mmdit import PyramidMMDiT
from engines.pyramid_flow.packing import Text

from .. import networks
from ..attention import written_out
from ..compiling import compile_blocks
from ..data import PooledClips
from ..files import read_network, save_network
from ..flux_start import sd3_weights
from ..pyramid import objective
from ..recipe import Recipe, Stage
from . import pyramid_vae
from .flow_task import load_text
from .text_to_video import LARGE


@dataclasses.dataclass(frozen=True)
class Starter:
    """One family's starter: its class, its configuration and its file."""

    network: type[PyramidFlux] | type[PyramidMMDiT]
    config: dict[str, Any]
    file: str


STARTERS = {
    "miniflux": Starter(
        PyramidFlux,
        {
            "patch_size": 1,
            "in_channels": 4 * networks.PYRAMID_CHANNELS,
            "num_layers": 1,
            "num_single_layers": 5,
            "attention_head_dim": 64,
            "num_attention_heads": 3,
            "joint_attention_dim": networks.TEXT_WIDTH,
            "pooled_projection_dim": networks.TEXT_WIDTH,
            "guidance_embeds": False,
            "axes_dims_rope": [16, 24, 24],
        },
        "pyramid_flow.safetensors",
    ),
    "sd3": Starter(
        PyramidMMDiT,
        {
            "sample_size": 48,
            "patch_size": 2,
            "in_channels": networks.PYRAMID_CHANNELS,
            "out_channels": networks.PYRAMID_CHANNELS,
            "num_layers": 6,
            "attention_head_dim": 64,
            "num_attention_heads": 3,
            "joint_attention_dim": networks.TEXT_WIDTH,
            "caption_projection_dim": 192,
            "pooled_projection_dim": networks.TEXT_WIDTH,
            "pos_embed_max_size": 48,
            "qk_norm": "rms_norm",
        },
        "pyramid_flow_sd3.safetensors",
    ),
}
# A token of the finest stage is 8 pixels wide, one of the middle stage, which draws outlines, 16: a subject is three or
# four of those. At half the size it was two, and outlines stayed lumps however long they were trained.
FULL = dataclasses.replace(
    LARGE,
    width=192,
    height=128,
    frames=49,
    vocabulary="full",
    subject_shares=(0.75, 0.25, 0.0, 0.0),
    floor=0.25,
    paraphrase=0.2,
)
TALL = dataclasses.replace(FULL, width=FULL.height, height=FULL.width)
PICTURE, TALL_PICTURE = (dataclasses.replace(world, frames=1) for world in (FULL, TALL))
# With the true middle stage of a picture the finest one makes rings and stars without a fault, with the true coarse one
# the others do three times of four: what is missing is learnt in the middle stage, and then in the coarsest.
FIRST_SHARES, LATER_SHARES = (0.25, 0.7, 0.05), (0.28, 0.64, 0.08)
# The first unit is a picture from words alone: it is learnt from pictures, which cost a thirtieth of a clip to draw;
# the others, which have their history to go by but whose subjects move, from clips.
TURNS = (PICTURE, FULL, FULL, PICTURE, FULL, FULL, TALL_PICTURE, TALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PyramidRecipe(Recipe):
    """Settings of a run."""

    family: Literal["miniflux", "sd3"] = "miniflux"
    latents_file: str = pyramid_vae.CODE
    vae_file: str = pyramid_vae.FILE  # decodes these latents
    flux_file: str = ""  # of `start`, the miniFLUX starter as which an SD3 network begins; else it goes on from its own
    text_len: int = networks.TEXT_LEN
    drop_text: float = 0.1
    foreign_text: float = 0.004  # rare: a row of 64 bytes makes every text of its batch that long
    reuse: int = 6
    history_noise: float = 1 / 3
    compiled: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reuse < 1:
            raise ValueError("reuse must be a whole number from 1 on.")


RECIPE = PyramidRecipe(
    name="pyramid-flow",
    steps=40_000,
    minutes=125.0,
    stages=tuple(Stage(until=10**9, batch=64 if world.frames == 1 else 16, world=world) for world in TURNS),
    learning_rate=1e-3,
    optimizer="muon",
    decay_share=0.6,
)


def sizes(recipe: PyramidRecipe) -> list[tuple[int, int]]:
    """Width and height of the clips that training ends with, the most frequent first."""
    last = Counter(
        (stage.world.width, stage.world.height) for stage in recipe.stages if stage.until == recipe.stages[-1].until
    )
    return [size for size, _ in last.most_common()]


def compile_around_attention(network: PyramidFlux | PyramidMMDiT) -> None:
    """Compile the blocks for rows and tokens of any number, as they change from stage to stage and from unit to unit.

    Attention stays outside: its mask follows from the lengths of a batch's texts, which are others every time.
    """
    attention = CausalAttention(torch.compiler.disable(prefix_attention))
    blocks = (*network.transformer_blocks, *getattr(network, "single_transformer_blocks", ()))
    for block in blocks:
        block.attn.processor = attention
    compile_blocks(blocks, dynamic=True)


class PyramidTask:
    """Trains the network on world latents by the pyramid's objective."""

    def __init__(self, recipe: PyramidRecipe) -> None:
        self.recipe, self.starter = recipe, STARTERS[recipe.family]
        self.transformer = self.starter.network(**self.starter.config)
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)
        if recipe.start:
            weights, facts = read_network(Path(recipe.start) / (recipe.flux_file or self.starter.file))
            self.transformer.load_state_dict(sd3_weights(weights, facts["config"]) if recipe.flux_file else weights)
        self._to_compile = recipe.compiled
        self.text_encoder = networks.build_text_encoder()
        load_text(self.text_encoder, Path(recipe.files) / "text_encoder.safetensors")
        self.text_encoder.requires_grad_(False)

    def networks(self) -> dict[str, nn.Module]:
        """The transformer, and the text encoder, which has no parameters to train."""
        return {"transformer": self.transformer, "text_encoder": self.text_encoder}

    def dataset(self) -> PooledClips:
        """Endless world clips."""
        recipe = self.recipe
        return PooledClips(
            recipe,
            reuse=recipe.reuse,
            text_len=recipe.text_len,
            empty_text=recipe.drop_text,
            foreign_text=recipe.foreign_text,
        )

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The pyramid's objective for one unit of every clip."""
        mask = batch["mask"]
        with torch.no_grad():
            states = self.text_encoder(input_ids=batch["ids"], attention_mask=mask).last_hidden_state.float()
        pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        text = Text(states, mask, pooled)
        recipe = self.recipe
        latents = batch["latents"]
        if self._to_compile and latents.device.type == "cpu":  # torch 2.11 fails at these shapes on a GPU
            compile_around_attention(self.transformer)
            self._to_compile = False
        with written_out(enabled=latents.device.type == "cpu"):
            return objective(
                self.transformer,
                latents,
                text,
                rng,
                strongest=recipe.history_noise,
                later=True,
                shares=FIRST_SHARES if latents.shape[2] == 1 else LATER_SHARES,
            )

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """Write the transformer's starter file."""
        facts = {
            "class": self.starter.network.__name__,
            "config": dict(self.starter.config),
            "text_len": self.recipe.text_len,
            "vae": self.recipe.vae_file,
            "sizes": sizes(self.recipe),
            "recipe": record,
        }
        save_network(folder / self.starter.file, weights["transformer"], facts=facts)


def build(recipe: PyramidRecipe) -> PyramidTask:
    """The task of this recipe."""
    return PyramidTask(recipe)
