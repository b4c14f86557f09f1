"""The starter of Phantom-physics: both branches trained together on simulated clips.

The visual network begins as the text-to-video starter, as the paper's begins as the published base; unlike there it
goes on learning, for that starter has never seen this world. `arm` and `frozen` are for the experiment
(engines.evaluation.physics_experiment): no branch at all, or one that denoises random projections of the frames instead
of features; a finished visual network that only the branch learns beside.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import WanTransformer3DModel

from engines.loading.checkpoints import load, open_checkpoint
from engines.loading.networks import outlined
from engines.phantom_physics.checkpoint import FACT, architecture, describe, settings_of
from engines.phantom_physics.keys import VIDEO_PREDICTOR, VISUAL, native_name, native_visual_name
from engines.phantom_physics.network import PhysicsBranch
from engines.phantom_physics.sampling import Latents
from engines.phantom_physics.spec import STARTER_FILE as FILE

from .. import networks
from ..attention import written_out
from ..files import save_network
from ..latents import BlockLatents
from ..physics_branch import BranchSettings, RandomProjection, Targets, build_branch
from ..physics_clips import PhysicsClips
from ..physics_flow import LossWeight, draw_given, gradient_norm, joint_losses
from ..recipe import Stage
from ..tokens import load_tokenizer
from ..world import WorldConfig
from . import physics_encoder
from .flow_task import FlowRecipe, FlowTask, begin_from

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StarterRecipe(FlowRecipe, BranchSettings):
    """Settings of the run.

    Attributes:
        visual: what is different in the visual network's configuration.
        base: file of a finished visual network to begin with, instead of the text-to-video starter.
    """

    physics_dim: int = 64
    physics_ffn_dim: int = 256
    physics_num_heads: int = 2
    coupling_head_dim: int = 32
    crop: int = 64
    pool: int = 1
    statistics_clips: int = 200
    shift: float = 2.0
    given_share: float = 0.7
    alpha_ramp: int = 300
    visual: dict[str, Any] = dataclasses.field(default_factory=dict)
    arm: Literal["encoder", "projection", "none"] = "encoder"
    frozen: bool = False
    base: str = ""


RECIPE = StarterRecipe(
    name="phantom-physics-starter",
    steps=20_000,
    minutes=120.0,
    stages=(Stage(until=10**9, batch=8, world=WorldConfig(width=64, height=64)),),
    learning_rate=3e-4,
    start="assets/starter",
    transformer_file=FILE,
)


class StarterTask(FlowTask):
    """Trains both branches and their couplings, or what the experiment leaves of them."""

    def __init__(self, recipe: StarterRecipe) -> None:
        super().__init__(recipe)
        self.code = BlockLatents.load(Path(recipe.files) / recipe.latents_file)
        self.branch: PhysicsBranch | None = None
        self.alpha = LossWeight(recipe.alpha_max, recipe.alpha_ramp, recipe.alpha_limit)
        if recipe.arm != "none":
            channels = physics_encoder.CONFIG["hidden_size"]
            self.branch = build_branch(recipe, self.transformer.config, channels=channels)
            self.branch.join(self.transformer)
            self.targets = Targets(eyes_of(recipe, channels), recipe.space, self.branch.physics_latents)
        if recipe.frozen:
            self.transformer.requires_grad_(False)

    def build_transformer(self) -> WanTransformer3DModel:
        """The visual network: a finished one, or the text-to-video starter where there is one, or fresh."""
        recipe = self.recipe
        if recipe.base:
            finished = load(open_checkpoint([Path(recipe.base)]), VISUAL, dtype=torch.float32)
            return widened(finished, recipe.visual.get("ffn_dim", finished.config.ffn_dim)).train().requires_grad_(True)
        transformer = networks.build_transformer(networks.TRANSFORMER | recipe.visual)
        base = Path(recipe.start) / "wan_t2v.safetensors"
        if recipe.start and base.is_file():
            begin_from(transformer, base)
        elif recipe.start:
            log.info("There is no %s to begin from: the visual network starts from nothing.", base.name)
        return transformer

    def networks(self) -> dict[str, torch.nn.Module]:
        """Both branches; a frozen one has no parameters to train."""
        found = {"transformer": self.transformer, "text_encoder": self.text_encoder}
        return found if self.branch is None else {**found, "branch": self.branch}

    def dataset(self) -> PhysicsClips:
        """Endless simulated clips."""
        recipe = self.recipe
        tokenizer = load_tokenizer(Path(recipe.files) / "tokenizer")
        return PhysicsClips(recipe, tokenizer, text_len=recipe.text_len, drop_text=recipe.drop_text)

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """L_v + alpha L_z, of the pictures alone without a branch."""
        video, recipe = batch["video"], self.recipe
        given = draw_given(len(video), video.shape[2], rng, share=recipe.given_share)
        with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            latents = self.code.to(video.device).encode(video)
            text = networks.text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=recipe.text_len)
        felt, alone = None, None
        if self.branch is not None:
            self.targets.measure(self.dataset, recipe.statistics_clips)
            felt, alone = self.targets.of(video, given)
        with written_out(enabled=video.device.type == "cpu"):
            made = joint_losses(
                self.transformer,
                self.branch,
                Latents(latents, felt),
                text,
                rng,
                given=given,
                given_physics=alone,
                shift=recipe.shift,
            )
        figures = {"loss_visual": float(made.visual.detach())}
        if made.physics is None:
            return made.visual, figures
        figures["loss_physics"] = float(made.physics.detach())
        return made.visual + self.alpha.value * made.physics, figures

    def after_backward(self) -> dict[str, float]:
        """Moves alpha on by the gradient's norm."""
        if self.branch is None:
            return {}
        used, norm = self.alpha.value, gradient_norm(self.branch.named_parameters())
        self.alpha.update(norm)
        return {"alpha": used, "physics_norm": norm, "resets": float(self.alpha.resets)}

    def state(self) -> dict[str, Any]:
        """alpha, the encoder and what its channels were measured to be."""
        if self.branch is None:
            return {}
        return {"alpha": dataclasses.asdict(self.alpha), "eyes": self.targets.eyes.state_dict(), **self.targets.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken: with its encoder, whatever was made since."""
        if self.branch is not None:
            self.alpha = LossWeight(**state["alpha"])
            self.targets.eyes.load_state_dict(state["eyes"])
            self.targets.load_state(state)

    def weights_of(self, path: Path) -> dict[str, torch.Tensor]:
        """An exported file's weights by the trainer's names; its encoder and statistics are taken at once."""
        opened = open_checkpoint([path])
        found = {"transformer": load(opened, VISUAL, dtype=torch.float32)}
        if self.branch is not None:
            found["branch"] = load(opened, architecture(settings_of([path])), dtype=torch.float32)
            kept = found["branch"].physics_latents
            self.targets.set(kept.mean, kept.std)
            if self.recipe.arm == "encoder":
                self.targets.eyes = load(opened, VIDEO_PREDICTOR, dtype=torch.float32)
            self.alpha.value = self.recipe.alpha_max
        return {f"{part}.{name}": value for part, net in found.items() for name, value in net.state_dict().items()}

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """One file with everything that the engine needs beside autoencoder and text encoder."""
        recipe, branch = self.recipe, self.branch
        visual = dict(self.transformer.state_dict()) | weights["transformer"]
        tensors = {native_visual_name(name): value.bfloat16() for name, value in visual.items()}
        configs = {type(self.transformer).__name__: _plain(self.transformer)}
        outlines = {"transformer": outlined(self.transformer, VISUAL, configs[type(self.transformer).__name__])}
        facts = {
            "configs": configs,
            "outlines": outlines,
            "text_len": recipe.text_len,
            "vae": recipe.vae_file,
            "recipe": record,
        }
        if branch is not None:
            own = dict(branch.state_dict()) | weights["branch"]
            kept = ("physics_latents.mean", "physics_latents.std")
            tensors |= {native_name(name): value if name in kept else value.bfloat16() for name, value in own.items()}
            configs[type(branch).__name__] = _plain(branch)
            if recipe.arm == "encoder":
                tensors |= {name: value.bfloat16() for name, value in self.targets.eyes.state_dict().items()}
                configs["VideoEncoder"] = physics_encoder.CONFIG
                outlines["encoder"] = outlined(self.targets.eyes, VIDEO_PREDICTOR, physics_encoder.CONFIG)
            settings = describe(
                branch,
                base_model=FILE,
                variant="narrow",
                encoder=recipe.encoder_settings(branch.config.in_channels, repo=physics_encoder.FILE),
                training=recipe.told(seed=recipe.seed, step=record.get("step", 0)),
            )
            facts[FACT] = settings.model_dump()
            outlines["physics"] = outlined(branch, architecture(settings), configs[type(branch).__name__])
        save_network(folder / FILE, tensors, facts=facts, dtype=None)


@torch.no_grad()
def widened(network: WanTransformer3DModel, ffn_dim: int) -> WanTransformer3DModel:
    """The same network with wider feed-forwards, whose new channels say nothing until they have learned to."""
    own = network.config.ffn_dim
    if ffn_dim == own:
        return network
    wide = networks.build_transformer(_plain(network) | {"ffn_dim": ffn_dim})
    names = [name for name in wide.state_dict() if ".ffn." in name]
    wide.load_state_dict({n: v for n, v in network.state_dict().items() if n not in names}, strict=False)
    for block, narrow in zip(wide.blocks, network.blocks, strict=True):
        (up, _, down), (own_up, _, own_down) = block.ffn.net, narrow.ffn.net
        up.proj.weight[:own], up.proj.bias[:own] = own_up.proj.weight, own_up.proj.bias
        down.weight[:, :own], down.weight[:, own:], down.bias[:] = own_down.weight, 0, own_down.bias
    return wide


def eyes_of(recipe: StarterRecipe, channels: int) -> torch.nn.Module:
    """What sees the clips whose features an arm's branch denoises."""
    if recipe.arm == "projection":
        return RandomProjection(channels)
    return load(open_checkpoint([Path(recipe.files) / physics_encoder.FILE]), VIDEO_PREDICTOR, dtype=torch.float32)


def _plain(network: Any) -> dict[str, Any]:
    return {name: value for name, value in network.config.items() if not name.startswith("_")}


def build(recipe: StarterRecipe) -> StarterTask:
    """The task of this recipe."""
    return StarterTask(recipe)
