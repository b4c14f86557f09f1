"""The BindWeave starter: a small Qwen2.5-VL, a small CLIP and the transformer, trained together on several subjects.

The transformer begins as the text-to-video base; text encoder and autoencoder are the base's, and stay. First the
multimodal model learns alone to say of each picture how its subject moves, which costs little; then all three learn
from the clip, so that what it read is what the transformer is told. Pictures and objective are the published ones
(engines/training/bindweave) with smaller turns and scales, for subjects of twenty pixels.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engines.bindweave.network import BindWeaveTransformer3DModel
from engines.bindweave.spec import STARTER_FILES

from ..attention import written_out
from ..bindweave import networks as own
from ..bindweave import reading
from ..bindweave.data import BindWeaveClips
from ..bindweave.objective import Bell, losses
from ..files import read_network, save_network
from ..networks import text_states
from ..recipe import ReferenceMix, Stage
from .flow_task import FlowRecipe, FlowTask
from .text_to_video import FULL, FULL_SMALL

SUBJECTS = {"subject_shares": (0.2, 0.7, 0.1, 0.0), "told_apart": 0.7, "own_motions": True, "paraphrase": 0.35}
SMALL = dataclasses.replace(FULL_SMALL, photo_background=0.0, **SUBJECTS)
LARGE = dataclasses.replace(FULL, photo_background=0.0, **SUBJECTS)
READ = dataclasses.replace(SMALL, frames=1)
MIX = ReferenceMix(none=0.0, one=0.25, two=0.55, many=0.2)  # many: three


@dataclasses.dataclass(frozen=True, kw_only=True)
class BindWeaveRecipe(FlowRecipe):
    """Settings of a run."""

    cut_out: float = 0.4  # share of pictures that are subjects in white boxes with their silhouettes
    turn: float = 20.0
    scale: float = 0.3
    shift: float = 3.0
    asked: float = 0.1  # how much the answers of the multimodal model count beside the clip


RECIPE = BindWeaveRecipe(
    name="bindweave",
    steps=20_000,
    learning_rate=8e-4,
    decay_share=0.4,
    drop_text=0.1,
    transformer_file=STARTER_FILES["transformer"],
    start="assets/starter",
    stages=(
        Stage(until=1_500, batch=48, world=READ, mix=MIX),
        Stage(until=4_000, batch=16, world=SMALL, mix=MIX),
        # Clips of the shipped size and small ones take turns.
        Stage(until=10**9, batch=8, world=LARGE, mix=MIX),
        Stage(until=10**9, batch=16, world=SMALL, mix=MIX),
    ),
)


class BindWeaveTask(FlowTask):
    """Trains what reads and what denoises; the text encoder is frozen."""

    recipe: BindWeaveRecipe
    transformer: BindWeaveTransformer3DModel

    def __init__(self, recipe: BindWeaveRecipe) -> None:
        self.clips = BindWeaveClips(
            recipe,
            text_len=recipe.text_len,
            drop_text=recipe.drop_text,
            cut_out=recipe.cut_out,
            turn=recipe.turn,
            scale=recipe.scale,
        )
        self.mllm_config = own.mllm_config(self.clips.chat_tokenizer)
        self.mllm = own.build_mllm(self.mllm_config)
        self.image_encoder = own.build_image_encoder()
        self.bell = Bell.of(recipe.shift)
        super().__init__(recipe)

    def build_transformer(self) -> BindWeaveTransformer3DModel:
        """The base with BindWeave's paths, or a fresh network."""
        transformer = own.build_transformer()
        if self.recipe.start:
            base, _ = read_network(Path(self.recipe.start) / "wan_t2v.safetensors")
            space = self.clips.code.space
            grey = self.clips.code.encode(torch.zeros(1, 3, 1 + self.clips.code.time, space, space))[0, :, -1, 0, 0]
            own.begin_as(transformer, base, grey)
        return transformer

    def networks(self) -> dict[str, nn.Module]:
        """All that is trained, by the roles of the engine, and the frozen text encoder."""
        parts = {"transformer": self.transformer, "mllm": self.mllm, "image_encoder": self.image_encoder}
        return parts | {"text_encoder": self.text_encoder}

    def dataset(self) -> BindWeaveClips:
        """Endless world clips with their pictures."""
        return self.clips

    def loss(
        self, batch: dict[str, torch.Tensor], rng: torch.Generator, *, step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The weighted velocity error and, beside it or alone, what the multimodal model answers."""
        chat_mask = batch["chat_mask"]
        states = reading.states(self.mllm, batch["chat"], chat_mask, batch["patches"], batch["grids"])
        answered, right = reading.answers(self.mllm, states, batch["ends"], batch["moves"])
        figures = {"loss_answers": float(answered.detach()), "answers_right": float(right)}
        if "latents" not in batch:
            return answered, figures
        text = text_states(self.text_encoder, batch["ids"], batch["mask"], text_len=self.recipe.text_len)
        clip = self._looks(batch["clip"], batch["shown"])
        self._keep(chat_mask, clip=clip.shape[1], text=text.shape[1])
        with written_out(enabled=clip.device.type == "cpu"):
            errors = losses(
                self.transformer,
                batch["latents"],
                rng,
                bell=self.bell,
                mllm=states,
                text=text,
                clip=clip,
                condition=batch["condition"],
            )
        figures |= {f"loss_{batch['latents'].shape[2]}_frames": float(errors.detach().mean())}
        return errors.mean() + self.recipe.asked * answered, figures

    def _looks(self, pictures: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """CLIP states [B,slots*N,D] of pixel values [B,slots,3,s,s], zero where no picture is shown."""
        filled = torch.arange(pictures.shape[1], device=shown.device) < shown[:, None]
        states = self.image_encoder(pixel_values=pictures[filled], output_hidden_states=True).hidden_states[-2]
        looks = states.new_zeros(*filled.shape, *states.shape[1:])
        return looks.masked_scatter(filled[..., None, None].expand_as(looks), states).flatten(1, 2)

    def _keep(self, chat_mask: torch.Tensor, *, clip: int, text: int) -> None:
        """Chats are padded to one length for the batch, which they are not when a clip is made: the rest is hidden."""
        more = clip - self.transformer.config.clip_token_len
        kept = nn.functional.pad(nn.functional.pad(chat_mask.bool(), (more, 0), value=True), (0, text), value=True)
        for block in self.transformer.blocks:
            block.attn2.processor.kept = kept[:, None, None]

    def export(self, folder: Path, weights: dict[str, dict[str, torch.Tensor]], record: dict[str, Any]) -> None:
        """The starter's three files; the transformer's names the autoencoder."""
        super().export(folder, weights, record)
        facts = {
            "mllm": {
                "class": type(self.mllm).__name__, "config": self.mllm_config, "max_pixels": own.MAX_PIXELS,
            },
            "image_encoder": {"class": type(self.image_encoder).__name__, "config": dict(own.IMAGE_ENCODER)},
        }  # fmt: skip
        for role, told in facts.items():
            save_network(folder / STARTER_FILES[role], weights[role], facts=told | {"recipe": record})


def build(recipe: BindWeaveRecipe) -> BindWeaveTask:
    """The task of this recipe."""
    return BindWeaveTask(recipe)
